"""Rows of a study's JSON-lines files: the history of a training, and FastChat's of MT-Bench."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl
from owlore.core.parsing import parse
from owlore.records.finetune import HistoryRow
from owlore.records.mtbench import Answer, Judgment, Question


def history_of(path: Path) -> list[HistoryRow]:
    """Read history.jsonl.

    Raises:
        BadInput: the file is missing, or a row is none; its number is named.
    """
    rows = enumerate(read_jsonl(path), start=1)
    return [parse(HistoryRow, row, f"{path}: row {number}") for number, row in rows]


def questions_of(path: Path) -> list[Question]:
    """Read question.jsonl; BadInput names what is missing."""
    return _rows(path, Question.__required_keys__)


def answers_of(path: Path) -> list[Answer]:
    """Read answers.jsonl; BadInput names what is missing."""
    return _rows(path, Answer.__required_keys__)


def judgments_of(path: Path) -> list[Judgment]:
    """Read judgments.jsonl; BadInput names what is missing."""
    return _rows(path, Judgment.__required_keys__)


def _rows(path: Path, required: Collection[str]) -> list[Any]:
    """Read rows that are FastChat's own, of which readers need these keys alone."""
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        for key in sorted(required):
            if key not in row:
                raise BadInput(f"{path}: row {number}: {key}: this key is required")
    return rows
