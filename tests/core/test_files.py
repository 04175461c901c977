"""Outputs are whole or absent, JSON lines survive odd characters, hashes are the standard's."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owlore.core import files
from owlore.core.errors import BadInput

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # lone surrogates are no UTF-8
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc é"), inner, max_size=3)
    ),
    max_leaves=8,
)
# Writes half of the new file, or all of it, and is killed before the rename.
KILLED = """
import os, signal, sys
from pathlib import Path
from owlore.core.files import replacing
with replacing(Path(sys.argv[1])) as partial:
    with open(partial, "w") as stream:
        stream.write("new" * int(sys.argv[2]))
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("repeats", [1, 100_000])
def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path, repeats):
    file = tmp_path / "out.json"
    files.write_json(file, {"old": 1})
    line = [sys.executable, "-c", KILLED, str(file), str(repeats)]
    assert subprocess.run(line).returncode == -signal.SIGKILL
    assert files.read_json(file) == {"old": 1}
    files.write_json(file, {"newer": 2})
    assert files.read_json(file) == {"newer": 2}


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "out.json"
    files.write_json(file, [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(file, [float("nan")])
    with pytest.raises(ZeroDivisionError), files.replacing(file) as partial:
        partial.write_text("half")
        print(1 / 0)
    assert files.read_json(file) == [1]
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """What is asked of the disk, in order: (fsync, name) and (replace, name)."""
    seen = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor):
        inode = os.fstat(descriptor).st_ino
        there = [tmp_path, *tmp_path.rglob("*")]
        seen.append(("fsync", next(path.name for path in there if path.stat().st_ino == inode)))
        fsync(descriptor)

    def replaced(source, target):
        seen.append(("replace", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    return seen


def test_the_disk_has_the_bytes_before_the_name_and_the_name_before_we_go_on(tmp_path, calls):
    files.write_text(tmp_path / "a.txt", "text")
    (content, partial), renamed, folder = calls
    assert content == "fsync" and partial.startswith(".a.txt.")
    assert [renamed, folder] == [("replace", "a.txt"), ("fsync", tmp_path.name)]


def test_a_folder_is_put_in_place_with_all_its_files_on_disk(tmp_path, calls):
    partial = tmp_path / "partial"
    (partial / "inner").mkdir(parents=True)
    for name in ("config.json", "inner/weights"):
        (partial / name).write_text(name)
    files.put_in_place(partial, tmp_path / "model")
    assert {name for _, name in calls[:2]} == {"config.json", "weights"}
    assert calls[2:] == [("replace", "model"), ("fsync", tmp_path.name)]
    assert (tmp_path / "model" / "inner" / "weights").read_text() == "inner/weights"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "out.txt"
    files.write_text(file, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["out.txt"]


@given(st.dictionaries(st.text("abc"), JSON, max_size=3))
@settings(max_examples=40, deadline=None)
def test_the_order_of_keys_changes_no_canonical_json(value):
    text = files.canonical_json(value)
    assert files.canonical_json(dict(reversed(value.items()))) == text
    assert json.loads(text) == value


@given(rows=st.lists(st.dictionaries(st.text("abc"), JSON, max_size=3), max_size=4))
@settings(max_examples=40, deadline=None)
def test_rows_come_back_as_they_were_written(rows, tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    files.write_jsonl(file, rows)
    assert files.read_jsonl(file) == rows


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_what_only_python_takes_for_a_line_end_stays_in_its_row(separator, tmp_path):
    file = tmp_path / "rows.jsonl"
    files.write_jsonl(file, [{"text": f"one{separator}two"}, {"text": "three"}])
    assert [row["text"] for row in files.read_jsonl(file)] == [f"one{separator}two", "three"]


def test_blank_lines_and_windows_line_ends_are_no_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert files.read_jsonl(tmp_path / "rows.jsonl") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a": \n', r"rows\.jsonl:3: not JSON"),
        (b'{"a": 1}\n[1]\n', r"rows\.jsonl:2: expected a JSON object, got list"),
        (b"\xff\n", r"rows\.jsonl: not UTF-8 text"),
        (None, r"rows\.jsonl: no such file"),
    ],
)
def test_a_line_that_is_no_row_is_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        files.read_jsonl(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(("content", "message"), [(b"{", "not JSON"), (b"\xff", "not JSON")])
def test_a_file_that_is_no_json_is_named(content, message, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadInput, match=rf"a\.json: {message}"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(BadInput, match=r"b\.json: no such file"):
        files.read_json(tmp_path / "b.json")


def test_hashes_are_those_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert files.sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    # FIPS 180-2, appendix B.1
    assert files.sha256_text("abc").startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
    assert files.sha256_text("é") == hashlib.sha256(b"\xc3\xa9").hexdigest()


def test_flattened_joins_names_and_keeps_empty_mappings():
    nested = {"a": 1, "b": {"c": {"d": None}, "e": {}}, "f": [{"g": 2}]}
    assert files.flattened(nested) == {"a": 1, "b.c.d": None, "b.e": {}, "f": [{"g": 2}]}


def test_free_space_is_that_of_the_file_system_the_folder_will_lie_on(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    asked = []
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda path: asked.append(path) or usage(0, 0, 3 << 30)
    )
    missing = tmp_path / "not" / "yet"
    assert files.free_bytes(missing) == 3 << 30
    assert asked == [tmp_path.resolve()]
    files.require_free_space(missing, 3 << 30)
    with pytest.raises(BadInput, match=r"yet: 3\.0 GiB free on disk, this job needs 4\.0 GiB"):
        files.require_free_space(missing, 4 << 30)


def test_parquet_rows_are_those_that_pandas_wrote(tmp_path):
    rows = [{"question": "a", "answer": 1}, {"question": "b", "answer": 0}]
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet", index=False)
    assert files.read_parquet(tmp_path / "rows.parquet") == rows
    (tmp_path / "rows.parquet").write_text("PAR1")
    with pytest.raises(BadInput, match=r"^pool: not Parquet \("):
        files.read_parquet(tmp_path / "rows.parquet", "pool")
