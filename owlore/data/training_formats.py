"""The shapes of training rows that are understood, and how each becomes a row of TRAIN.jsonl.

A question becomes a prompt and a completion in lm-eval's own words for that task, so that training
and evaluation speak alike; what is written already (prompts, conversations, text) stays as it is.
Rows of TRAIN.jsonl are one of

    {"prompt": text, "completion": text}        the loss is on the completion
    {"messages": [{"role", "content"}…]}        on the assistant's turns
    {"prompt": messages, "completion": messages}  on the completion's assistant's turns
    {"text": text}                              on everything
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from owlore.core.errors import BadInput

Row = dict[str, Any]

# LMFlow's {"type", "instances"} files: their types, and the shapes of SHAPES that they hold
LMFLOW = {"text_only": "text", "text2text": "text2text", "conversation": "messages"}


def example_prompt(row: Row) -> tuple[str, str]:
    """Return prompt and completion of a question, in the words of lm-eval's cloze tasks."""
    return f"Question: {row['question']}\nAnswer:", f" {row['choices'][row['answer']]}"


class Cells:
    """One row's values by column; whatever is wrong is told with the row's place."""

    def __init__(self, row: Row, where: str):
        self._row, self._where = row, where

    def text(self, column: str, empty: bool = False) -> str:
        """Return a text; an empty one only if `empty`."""
        value = self._row[column]
        if not isinstance(value, str) or not (value.strip() or empty):
            raise self.wrong(column, "expected text")
        return value

    def optional(self, column: str) -> str:
        """Return a text that may be empty, null or missing."""
        return "" if self._row.get(column) is None else self.text(column, empty=True)

    def texts(self, column: str) -> list[str]:
        """Return a list of two texts or more, none of them empty."""
        value = self._row[column]
        good = isinstance(value, list) and len(value) > 1
        if not good or not all(isinstance(text, str) and text.strip() for text in value):
            raise self.wrong(column, "expected a list of texts")
        return list(value)

    def index(self, column: str, allowed: Sequence[str]) -> int:
        """Return which of the allowed values it is; 1, "1" and true are the same."""
        value = self._row[column]
        name = str(int(value) if isinstance(value, bool) else value).strip()
        known = list(allowed)
        if name not in known:
            raise self.wrong(column, f"allowed: {', '.join(known)}")
        return known.index(name)

    def labelled(self) -> tuple[list[str], int]:
        """Return the choices of ARC and OpenBookQA, and which one is right."""
        value = self._row["choices"]
        if not isinstance(value, dict) or not {"text", "label"} <= value.keys():
            raise self.wrong("choices", "expected text and label")
        inner = Cells(value, f"{self._where}: choices")
        choices, labels = inner.texts("text"), inner.texts("label")
        if len(choices) != len(labels):
            raise self.wrong("choices", "expected as many labels as texts")
        return choices, self.index("answerKey", labels)

    def messages(self, column: str) -> list[Row]:
        """Return a conversation: messages with a role and a content."""
        value = self._row[column]
        good = isinstance(value, list) and value
        if not good or not all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in value
        ):
            raise self.wrong(column, "expected a list of messages with role and content")
        return [{"role": message["role"], "content": message["content"]} for message in value]

    def is_text(self, column: str) -> bool:
        """Say whether a column holds text."""
        return isinstance(self._row[column], str)

    def wrong(self, column: str, expected: str) -> BadInput:
        """Make the error of a column's value."""
        value = repr(self._row[column])
        short = value if len(value) <= 60 else f"{value[:57]}..."
        return BadInput(f"{self._where}: column {column}: {short}: {expected}")


def _pair(prompt: str, answer: str) -> Row:
    return {"prompt": prompt, "completion": f" {answer}"}


def _boolq(cells: Cells, answer: str) -> Row:
    prompt = f"{cells.text('passage')}\nQuestion: {cells.text('question')}?\nAnswer:"
    return _pair(prompt, ("no", "yes")[cells.index(answer, "01")])


def _piqa(cells: Cells) -> Row:
    solutions = [cells.text("sol1"), cells.text("sol2")]
    return _pair(f"Question: {cells.text('goal')}\nAnswer:", solutions[cells.index("label", "01")])


def _social_iqa(cells: Cells) -> Row:
    answers = [cells.text(f"answer{letter}") for letter in "ABC"]
    prompt = f"Q: {cells.text('context')} {cells.text('question')}\nA:"
    return _pair(prompt, answers[cells.index("label", "123")])


def _hellaswag(cells: Cells) -> Row:
    from lm_eval.tasks.hellaswag.utils import preprocess  # takes out WikiHow's brackets

    endings = cells.texts("endings")
    context = f"{cells.text('ctx_a')} {cells.text('ctx_b', empty=True).capitalize()}"
    prompt = preprocess(f"{cells.text('activity_label')}: {context}")
    right = cells.index("label", [str(place) for place in range(len(endings))])
    return _pair(prompt, preprocess(endings[right]))


def _winogrande(cells: Cells) -> Row:
    before, blank, after = cells.text("sentence").partition("_")
    if not blank:
        raise cells.wrong("sentence", "expected a _ where an option goes")
    options = [cells.text("option1"), cells.text("option2")]
    return _pair(before + options[cells.index("answer", "12")], after.strip())


def _arc(cells: Cells) -> Row:
    choices, right = cells.labelled()
    return _pair(f"Question: {cells.text('question')}\nAnswer:", choices[right])


def _openbookqa(cells: Cells) -> Row:
    choices, right = cells.labelled()
    return _pair(cells.text("question_stem"), choices[right])


def _mmlu(cells: Cells) -> Row:
    choices, letters = cells.texts("choices"), "ABCDEFGHIJ"
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, choices, strict=False))
    right = cells.index("answer", [str(place) for place in range(len(choices))])
    return _pair(f"{cells.text('question').strip()}\n{listed}\nAnswer:", letters[right])


def _question(cells: Cells) -> Row:
    choices = cells.texts("choices")
    right = cells.index("answer", [str(place) for place in range(len(choices))])
    row = {"question": cells.text("question"), "choices": choices, "answer": right}
    prompt, completion = example_prompt(row)
    return {"prompt": prompt, "completion": completion}


def _gsm8k(cells: Cells) -> Row:
    return _pair(f"Question: {cells.text('question')}\nAnswer:", cells.text("answer"))


def _alpaca(cells: Cells) -> Row:
    asked = [cells.text("instruction"), cells.optional("input")]
    user = {"role": "user", "content": "\n\n".join(filter(None, asked))}
    return {"messages": [user, {"role": "assistant", "content": cells.text("output")}]}


def _messages(cells: Cells) -> Row:
    messages = cells.messages("messages")
    system = cells.optional("system")  # LMFlow keeps it beside the messages
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def _prompt_completion(cells: Cells) -> Row:
    if cells.is_text("prompt"):
        return {"prompt": cells.text("prompt"), "completion": cells.text("completion")}
    return {"prompt": cells.messages("prompt"), "completion": cells.messages("completion")}


def _text2text(cells: Cells) -> Row:
    return {"prompt": cells.text("input"), "completion": cells.text("output")}


def _text(cells: Cells) -> Row:
    return {"text": cells.text("text")}


class Shape(NamedTuple):
    """A shape: its name, the columns that a row of it has at least, and what becomes of it."""

    name: str
    columns: tuple[str, ...]
    convert: Callable[[Cells], Row]


# The first shape whose columns a row has is taken: more columns before fewer of the same.
SHAPES = (
    Shape("boolq", ("passage", "question", "label"), lambda cells: _boolq(cells, "label")),
    Shape("boolq", ("passage", "question", "answer"), lambda cells: _boolq(cells, "answer")),
    Shape("piqa", ("goal", "sol1", "sol2", "label"), _piqa),
    Shape(
        "social_iqa",
        ("context", "question", "answerA", "answerB", "answerC", "label"),
        _social_iqa,
    ),
    Shape("hellaswag", ("activity_label", "ctx_a", "ctx_b", "endings", "label"), _hellaswag),
    Shape("winogrande", ("sentence", "option1", "option2", "answer"), _winogrande),
    Shape("arc", ("question", "choices", "answerKey"), _arc),
    Shape("openbookqa", ("question_stem", "choices", "answerKey"), _openbookqa),
    Shape("mmlu", ("question", "subject", "choices", "answer"), _mmlu),
    Shape("question", ("question", "choices", "answer"), _question),
    Shape("gsm8k", ("question", "answer"), _gsm8k),
    Shape("alpaca", ("instruction", "output"), _alpaca),
    Shape("messages", ("messages",), _messages),
    Shape("prompt-completion", ("prompt", "completion"), _prompt_completion),
    Shape("text2text", ("input", "output"), _text2text),
    Shape("text", ("text",), _text),
)


def training_row(row: Row, where: str, shape: str | None = None) -> Row:
    """Turn a row of a known shape into a row of TRAIN.jsonl.

    Args:
        row: columns and values.
        where: the row's place, such as `train.jsonl: row 3`.
        shape: the shape that it must have; None: whichever its columns tell.

    Raises:
        BadInput: no shape has these columns, one is missing, or a value is not what it should be.
    """
    if row.keys() == {"train"} and isinstance(row["train"], dict):
        row = row["train"]  # so lie the rows of MMLU's auxiliary_train
    known = [known for known in SHAPES if shape in (None, known.name)]
    for candidate in known:
        if row.keys() >= set(candidate.columns):
            return candidate.convert(Cells(row, where))
    closest = max(known, key=lambda known: _share(known, row))
    have = ", ".join(map(str, sorted(row))) or "none"
    if shape is None and _share(closest, row) < 0.5:
        listed = "; ".join(f"{each.name} ({', '.join(each.columns)})" for each in SHAPES)
        raise BadInput(f"{where}: unknown columns: {have}; known: {listed}")
    missing = ", ".join(column for column in closest.columns if column not in row)
    raise BadInput(f"{where}: {closest.name} needs the column {missing}; this row has {have}")


def texts(row: Row) -> list[str]:
    """Return all texts of a row of TRAIN.jsonl, in order."""
    parts = [row.get(column) for column in ("prompt", "completion", "messages", "text")]
    found = []
    for part in parts:
        if isinstance(part, str):
            found.append(part)
        elif part is not None:
            found += [message["content"] for message in part]
    return found


def _share(shape: Shape, row: Row) -> float:
    """The share of a shape's columns that a row has."""
    return len(row.keys() & set(shape.columns)) / len(shape.columns)
