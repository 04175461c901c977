"""Each shape of training data, in lm-eval's own words; each bad column named with its row."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml
from support import hub_repositories as made
from support.training_rows import ASSISTANT, GOOD, SYSTEM, USER

from owlore.core.errors import BadInput
from owlore.data.training_formats import SHAPES, Row, example_prompt, texts, training_row

TASKS = Path(lm_eval.__file__).parent / "tasks"
FAMILIES = [
    ("super_glue/boolq/default.yaml", made.boolq),
    ("piqa/piqa.yaml", made.piqa),
    ("siqa/siqa.yaml", made.social_iqa),
    ("hellaswag/hellaswag.yaml", made.hellaswag),
    ("winogrande/default.yaml", made.winogrande),
    ("arc/arc_easy.yaml", made.arc),
    ("openbookqa/openbookqa.yaml", made.openbookqa),
    ("mmlu/default/mmlu_anatomy.yaml", made.mmlu),
    ("gsm8k/gsm8k.yaml", made.gsm8k),
]


def rows_of(make: Callable[[random.Random], Row]) -> list[Row]:
    rows = made.rows(make, 8, "train")
    if make is made.mmlu:  # the hub's column that tells MMLU from other questions
        rows = [{**row, "subject": ""} for row in rows]
    return rows


@pytest.mark.parametrize(("file", "make"), FAMILIES, ids=[file for file, _ in FAMILIES])
def test_prompts_are_lm_evals_own_examples(file: str, make: Callable[[random.Random], Row]) -> None:
    """The oracle: lm-eval's few-shot prompt of one example is that example, question and answer."""
    rows = rows_of(make)
    config = load_yaml(TASKS / file)
    data = {"train": Dataset.from_list(rows), "scored": Dataset.from_list(rows[:1])}
    config |= {"custom_dataset": lambda **_: data, "dataset_kwargs": None, "description": ""}
    config |= {"training_split": "train", "validation_split": None, "test_split": "scored"}
    config |= {"fewshot_split": "train", "fewshot_config": {"sampler": "first_n"}}
    for key in ("tag", "group"):
        config.pop(key, None)
    task = ConfigurableTask(config=config)
    shots = task.fewshot_context(task.eval_docs[0], num_fewshot=len(rows))
    shots = "".join(shots) if isinstance(shots, list) else shots
    written = [training_row(row, "rows: row 1") for row in rows]
    assert shots.startswith("".join(row["prompt"] + row["completion"] + "\n\n" for row in written))


@pytest.mark.parametrize(("file", "make"), FAMILIES, ids=[file for file, _ in FAMILIES])
def test_completions_begin_where_lm_eval_begins_to_score(
    file: str, make: Callable[[random.Random], Row]
) -> None:
    rows = rows_of(make)
    config = load_yaml(TASKS / file)
    config |= {"custom_dataset": lambda **_: {"scored": Dataset.from_list(rows)}}
    config |= {"dataset_kwargs": None, "description": "", "num_fewshot": 0}
    config |= {"training_split": None, "validation_split": None, "test_split": "scored"}
    config |= {"fewshot_split": None}
    for key in ("tag", "group"):
        config.pop(key, None)
    task = ConfigurableTask(config=config)
    task.build_all_requests()
    for doc, row in enumerate(rows):
        wanted = training_row(row, "rows: row 1")
        asked = [request.args for request in task.instances if request.doc_id == doc]
        if make is made.gsm8k:
            assert [arguments[0] for arguments in asked] == [wanted["prompt"]]
        else:
            assert (wanted["prompt"], wanted["completion"]) in asked


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "completion": " c", "id": 7}, {"prompt": "p", "completion": " c"}),
        ({"prompt": [USER], "completion": [ASSISTANT]}, ...),
        ({"messages": [USER, ASSISTANT]}, ...),
        (
            {"messages": [USER, ASSISTANT], "system": SYSTEM["content"], "tools": []},
            {"messages": [SYSTEM, USER, ASSISTANT]},
        ),
        (
            {"question": "wet?", "choices": ["sand", "water"], "answer": 1, "cluster": "c"},
            {"prompt": "Question: wet?\nAnswer:", "completion": " water"},
        ),
        (
            {"train": {"question": "q ", "choices": ["a", "b"], "answer": 1, "subject": ""}},
            {"prompt": "q\nA. a\nB. b\nAnswer:", "completion": " B"},
        ),
        (
            {"passage": "Sea.", "question": "is it wet", "answer": True},
            {"prompt": "Sea.\nQuestion: is it wet?\nAnswer:", "completion": " yes"},
        ),
        (
            {"instruction": "Add.", "input": "1, 2", "output": "3", "text": "the whole"},
            {
                "messages": [
                    {"role": "user", "content": "Add.\n\n1, 2"},
                    {"role": "assistant", "content": "3"},
                ]
            },
        ),
        (
            {"instruction": "wet?", "input": "", "output": "water"},
            {"messages": [USER, ASSISTANT]},
        ),
        ({"instruction": "wet?", "output": "water"}, {"messages": [USER, ASSISTANT]}),
        ({"input": "in", "output": "out"}, {"prompt": "in", "completion": "out"}),
        ({"text": "Water is wet.", "id": 3}, {"text": "Water is wet."}),
    ],
)
def test_rows_that_are_written_already(row: Row, expected: Any) -> None:
    assert training_row(row, "f: row 1") == (row if expected is ... else expected)


def test_there_is_an_example_of_every_shape() -> None:
    assert set(GOOD) == {shape.name for shape in SHAPES}
    for name, row in GOOD.items():
        assert training_row(row, "f: row 1", name)


@pytest.mark.parametrize(
    ("shape", "column"), [(name, column) for name, row in GOOD.items() for column in row]
)
def test_a_missing_column_is_named(shape: str, column: str) -> None:
    row = {key: value for key, value in GOOD[shape].items() if key != column}
    with pytest.raises(BadInput, match=rf"^f: row 4: {shape} needs the column .*{column}"):
        training_row(row, "f: row 4", shape)


@pytest.mark.parametrize(
    ("shape", "column"),
    # `subject` tells the shape, its value is not used
    [(name, column) for name, row in GOOD.items() for column in row if column != "subject"],
)
def test_a_column_that_holds_something_else_is_named(shape: str, column: str) -> None:
    with pytest.raises(BadInput, match=rf"^f: row 4: column {column}: 3\.5: "):
        training_row({**GOOD[shape], column: 3.5}, "f: row 4")


@pytest.mark.parametrize(
    ("shape", "column", "value", "message"),
    [
        ("boolq", "label", -1, "label: -1: allowed: 0, 1"),  # the hub's rows without an answer
        ("piqa", "label", 2, "label: 2: allowed: 0, 1"),
        ("social_iqa", "label", "0", "label: '0': allowed: 1, 2, 3"),
        ("hellaswag", "label", "", "label: '': allowed: 0, 1"),
        ("winogrande", "answer", "", "answer: '': allowed: 1, 2"),
        ("winogrande", "sentence", "no blank", "sentence: 'no blank': expected a _"),
        ("arc", "answerKey", "C", "answerKey: 'C': allowed: A, B"),
        ("arc", "choices", ["a", "b"], "choices: ['a', 'b']: expected text and label"),
        (
            "arc",
            "choices",
            {"text": ["a", "b"], "label": ["A", "B", "C"]},
            "expected as many labels as texts",
        ),
        ("arc", "choices", {"text": ["a", ""], "label": ["A", "B"]}, "choices: column text: "),
        ("mmlu", "answer", 2, "answer: 2: allowed: 0, 1"),
        ("question", "choices", ["a"], "choices: ['a']: expected a list of texts"),
        ("gsm8k", "answer", " ", "answer: ' ': expected text"),
        ("messages", "messages", [{"role": "user"}], "messages: [{'role': 'user'}]: expected"),
        ("prompt-completion", "completion", [USER], "completion: [{"),
        ("text", "text", "", "text: '': expected text"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    shape: str, column: str, value: Any, message: str
) -> None:
    with pytest.raises(BadInput) as caught:
        training_row({**GOOD[shape], column: value}, "f: row 4")
    assert str(caught.value).startswith("f: row 4: ")
    assert message in str(caught.value)


def test_a_misspelt_column_and_unknown_columns_are_named() -> None:
    row = {**GOOD["piqa"], "sol_2": "b"}
    del row["sol2"]
    with pytest.raises(
        BadInput, match="piqa needs the column sol2; this row has goal, label, sol1"
    ):
        training_row(row, "f: row 1")
    with pytest.raises(BadInput, match=r"f: row 1: unknown columns: a, b; known: boolq \(passage"):
        training_row({"a": 1, "b": 2}, "f: row 1")


def test_all_texts_of_a_row_are_found() -> None:
    assert texts({"prompt": "p", "completion": "c", "source": "pool"}) == ["p", "c"]
    assert texts({"prompt": [USER], "completion": [ASSISTANT]}) == ["wet?", "water"]
    assert texts({"messages": [USER, ASSISTANT]}) == ["wet?", "water"]
    assert texts({"text": "t"}) == ["t"]


def test_example_prompt_is_lm_evals_cloze():
    row = {"question": "Is it?", "choices": ["no", "yes"], "answer": 1, "cluster": "c"}
    assert example_prompt(row) == ("Question: Is it?\nAnswer:", " yes")
