"""A file that grows by whole rows and survives kill -9: append, flush, fsync."""

import json
import os
import threading
from pathlib import Path
from typing import Any, Self

from owlore.core.files import read_jsonl

Row = dict[str, Any]


class Journal:
    """Rows of a JSONL file; a row is on disk when `append` returns. Threads may share one."""

    def __init__(self, path: Path):
        """Open `path` for appending; a last line that was cut short while written is dropped."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self.rows: list[Row] = read_jsonl(path) if path.exists() else []
        self._lock = threading.Lock()
        self._stream = open(path, "a", encoding="utf-8")  # noqa: SIM115, closed by close

    def append(self, row: Row) -> None:
        """Add a row and wait until the disk has it."""
        with self._lock:
            self._stream.write(json.dumps(row) + "\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self.rows.append(row)

    def close(self) -> None:
        """Close the file; the rows stay."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
