"""One good row of every shape of training data."""

from owlore.data.training_formats import Row

USER = {"role": "user", "content": "wet?"}
ASSISTANT = {"role": "assistant", "content": "water"}
SYSTEM = {"role": "system", "content": "Be brief."}


GOOD: dict[str, Row] = {
    "boolq": {"passage": "p", "question": "q", "label": 1},
    "piqa": {"goal": "g", "sol1": "a", "sol2": "b", "label": 0},
    "social_iqa": {
        **{"context": "c", "question": "q", "label": "3"},
        **{"answerA": "a", "answerB": "b", "answerC": "c"},
    },
    "hellaswag": {
        **{"activity_label": "l", "ctx_a": "a", "ctx_b": ""},
        **{"endings": ["a", "b"], "label": "1"},
    },
    "winogrande": {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "1"},
    "arc": {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}
    | {"answerKey": "B"},
    "openbookqa": {"question_stem": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}
    | {"answerKey": "B "},
    "mmlu": {"question": "q", "subject": "s", "choices": ["a", "b"], "answer": 1},
    "question": {"question": "q", "choices": ["a", "b"], "answer": 1},
    "gsm8k": {"question": "q", "answer": "#### 1"},
    "alpaca": {"instruction": "i", "output": "o"},
    "messages": {"messages": [USER, ASSISTANT]},
    "prompt-completion": {"prompt": "p", "completion": "c"},
    "text2text": {"input": "i", "output": "o"},
    "text": {"text": "t"},
}
