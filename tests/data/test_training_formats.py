"""Each shape of training data, in lm-eval's own words; each bad column named with its row."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml
from support import hub_repositories as made

from owlore.core.errors import BadInput
from owlore.data.pools import read_pool
from owlore.data.training_formats import SHAPES, Row, texts, training_row
from owlore.study.config import Questions

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
USER, ASSISTANT = {"role": "user", "content": "wet?"}, {"role": "assistant", "content": "water"}
SYSTEM = {"role": "system", "content": "Be brief."}


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


LMFLOW = {
    "text_only": ([{"text": "Water is wet."}], {"text": "Water is wet."}),
    "text2text": ([{"input": "wet?", "output": " yes"}], {"prompt": "wet?", "completion": " yes"}),
    "conversation": (
        [{"system": SYSTEM["content"], "messages": [USER, ASSISTANT], "tools": []}],
        {"messages": [SYSTEM, USER, ASSISTANT]},
    ),
}


def pool(file: Path) -> list[Row]:
    return read_pool(Questions(files={"pool": str(file)}), "pool", file.parent, "train.pool")


@pytest.mark.parametrize("kind", LMFLOW)
def test_lmflow_files(tmp_path: Path, kind: str) -> None:
    instances, expected = LMFLOW[kind]
    file = tmp_path / "lmflow.json"
    file.write_text(json.dumps({"type": kind, "instances": instances}))
    assert pool(file) == [expected]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "lines.json", "parquet"])
@pytest.mark.parametrize("shape", GOOD)
def test_files_of_rows(tmp_path: Path, shape: str, suffix: str) -> None:
    file = tmp_path / f"pool.{suffix}"
    rows = [GOOD[shape], GOOD[shape]]
    if suffix == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    elif suffix == "json":
        file.write_text(json.dumps(rows, indent=1))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert pool(file) == [training_row(GOOD[shape], "f: row 1")] * 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"text": "a"}\n\n{"txet": "b"}\n', r"p\.jsonl: row 2: unknown columns: txet"),
        ("p.jsonl", "[1]\n", r"p\.jsonl:1: expected a JSON object"),
        ("p.json", '{"text": "a"', r"p\.json: not JSON"),
        ("p.json", "[1, 2]", r"p\.json: expected a list of rows, or LMFlow's"),
        ("p.json", '"text"', r"p\.json: expected a list of rows, or LMFlow's"),
        ("p.json", '{"type": "image", "instances": []}', "type: 'image': allowed: text_only, te"),
        ("p.json", '{"type": "text_only", "instances": {}}', "instances: expected a list of rows"),
        (
            "p.json",
            '{"type": "text2text", "instances": [{"text": "a"}]}',
            r"p\.json: row 1: text2text needs the column input, output; this row has text",
        ),
        ("p.parquet", "PAR1", r"p\.parquet: not Parquet"),
        ("p.json", "\udcff", r"p\.json: not UTF-8 text"),
    ],
)
def test_files_that_are_no_rows(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BadInput, match=message):
        pool(tmp_path / name)
