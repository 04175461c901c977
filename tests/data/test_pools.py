"""Pools of training rows: every kind of file, and files that are none."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from support.training_rows import ASSISTANT, GOOD, SYSTEM, USER

from owlore.core.errors import BadInput
from owlore.data.pools import read_pool
from owlore.data.training_formats import Row, training_row
from owlore.study.config import Questions

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


def test_a_named_file_comes_before_the_embedded_pool_of_the_same_name(tmp_path: Path) -> None:
    for name, text in (("pool_train.jsonl", "embedded"), ("mine.jsonl", "mine")):
        (tmp_path / name).write_text(json.dumps({"text": text}) + "\n")
    assert read_pool(Questions(), "pool", tmp_path, "k") == [{"text": "embedded"}]
    assert pool(tmp_path / "mine.jsonl") == [{"text": "mine"}]
    with pytest.raises(BadInput, match=r"^k: no such pool of training rows \(.*/no_train\.jsonl"):
        read_pool(Questions(), "no", tmp_path, "k")
