"""Rows of tasks that are scored, so that a killed evaluation goes on behind them."""

import shutil
from pathlib import Path
from typing import Any

from owlore.core.files import canonical_json, read_jsonl, sha256_text, write_jsonl

Row = dict[str, Any]


class FinishedTasks:
    """A folder with one file a finished task.

    A file's name holds a hash of all that decides its rows, so that they are never taken for those
    of other weights, questions or settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        """Take the folder and what decides the rows of every task: weights, dtype, versions."""
        self._folder, self._settings = folder, settings

    def rows(self, name: str, questions: list[Any]) -> list[Row] | None:
        """Return the rows of a task that is finished, else None."""
        file = self._file(name, questions)
        return read_jsonl(file) if file.exists() else None

    def keep(self, name: str, questions: list[Any], rows: list[Row]) -> None:
        """Write a finished task's rows; the file is whole or absent."""
        write_jsonl(self._file(name, questions), rows)

    def forget(self) -> None:
        """Remove all: the result is written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, name: str, questions: list[Any]) -> Path:
        digest = sha256_text(canonical_json([self._settings, questions]))
        return self._folder / f"{name}-{digest[:20]}.jsonl"
