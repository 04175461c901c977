"""Small file helpers: canonical JSON, hashes, and outputs that are whole or absent."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys, so that key order never changes a hash."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, names joined with dots; an empty one stays a value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def sha256_text(text: str) -> str:
    """Return the hex SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a finished file or folder to `path`, its content being on disk before.

    A rename alone survives kill -9, not a power cut: many file systems write the new name before
    the bytes that it stands for, and leave an empty file. The folder's own flush makes the new name
    last; some network file systems refuse it, and then the old name may come back, a whole file.

    Raises:
        OSError: the disk is full or broken; `path` is as it was.
    """
    for file in partial.rglob("*") if partial.is_dir() else [partial]:
        if file.is_file():
            _flush(file)
    os.replace(partial, path)
    with suppress(OSError):
        _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` so that `path` is either the whole new file or what it was before."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_receipt(path: Path, sha256: str) -> None:
    """Write a hash into a file of its own; one that says the same stays untouched.

    Jobs depend on receipts and not on the files they are of: those are large, or hold times.
    """
    if not path.exists() or path.read_text(encoding="utf-8").strip() != sha256:
        write_text(path, sha256 + "\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; non-finite numbers are refused, they are not JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BadInput: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; blank lines are skipped.

    Raises:
        BadInput: the file is missing, or a line is not a JSON object (its number is named).
    """
    try:
        # not splitlines(): JSON leaves U+2028 and U+0085 as they are, and it would cut there
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error})") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise BadInput(f"{path}:{number}: expected a JSON object, got {type(row).__name__}")
        rows.append(row)
    return rows


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the file system that `folder` lies on, or will lie on."""
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """Stop before a job that could not store its result.

    Raises:
        BadInput: the file system of `folder` has less than `needed_bytes` free.
    """
    free = free_bytes(folder)
    if free < needed_bytes:
        raise BadInput(
            f"{folder}: {free / 2**30:.1f} GiB free on disk, this job needs "
            f"{needed_bytes / 2**30:.1f} GiB"
        )


def read_parquet(path: Path, name: str | None = None) -> list[dict[str, Any]]:
    """Read a Parquet file's rows; `name` is what an error calls it, by default its path.

    Raises:
        BadInput: the file is not Parquet.
    """
    import pyarrow as pa  # half a second that reading a study does not need
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except pa.ArrowException as error:
        raise BadInput(f"{name or path}: not Parquet ({str(error).splitlines()[0]})") from None
    return rows
