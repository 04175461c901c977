"""Pools of training rows: embedded questions, a user's file, or a data set on the hub.

Files are JSON lines, JSON (a list of rows, or LMFlow's {"type", "instances"}) or Parquet. The hub
is asked here and nowhere else in training; its cache (HF_HOME) keeps what it gave.
"""

import json
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, read_parquet
from owlore.data.training_formats import LMFLOW, Row, training_row
from owlore.study.config import HubPool, Questions


def read_pool(questions: Questions, pool: str, embedded: Path, key: str) -> list[Row]:
    """Read a pool's rows as rows of TRAIN.jsonl, in the order of their source.

    Args:
        questions: the study's block, which names files and hub data sets.
        pool: the pool's name.
        embedded: folder that the questions stage wrote.
        key: the study's key that asks for it, for errors.

    Raises:
        BadInput: the pool is missing or cannot be read, or a row has no known shape.
    """
    if pool in questions.hub:
        return _from_hub(questions.hub[pool], f"questions.hub.{pool}")
    path = pool_file(questions, pool, embedded)
    if path is None or not path.is_file():
        raise BadInput(f"{key}: no such pool of training rows ({path} is missing)")
    return _from_file(path, str(path))


def pool_file(questions: Questions, pool: str, embedded: Path) -> Path | None:
    """Return the file of a pool, there or not; None for one that comes from the hub."""
    if pool in questions.hub:
        return None
    file = questions.files.get(pool)
    return Path(file) if file is not None else embedded / f"{pool}_train.jsonl"


def require_files(questions: Questions) -> None:
    """Check that the user's own pools are there.

    Raises:
        BadInput: a file of `questions.files` is missing.
    """
    for name, file in questions.files.items():
        if not Path(file).is_file():
            raise BadInput(f"questions.files.{name}: {file}: no such file")


def _from_hub(pool: HubPool, key: str) -> list[Row]:
    from owlore.sources import hub  # it imports datasets, which takes a second

    with hub.explained(key, pool.path, pool.revision):
        if pool.file is not None:
            path = hub.download(pool.path, pool.file, pool.revision)
        else:
            rows = hub.load_rows(pool.path, pool.name, pool.split, pool.revision)
    if pool.file is not None:
        return _from_file(path, f"{pool.path}/{pool.file}")
    return _converted(rows, pool.path)


def _from_file(path: Path, name: str) -> list[Row]:
    """Read a file by its suffix; `name` is what errors call it."""
    if path.suffix == ".parquet":
        return _converted(read_parquet(path, name), name)
    if path.suffix == ".json":
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise BadInput(f"{name}: not UTF-8 text ({error})") from None
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # JSON lines are often named .json
                raise BadInput(f"{name}: not JSON ({error})") from None
        else:
            return _converted([whole] if isinstance(whole, dict) else whole, name)
    return _converted(read_jsonl(path), name)


def _converted(rows: Any, name: str) -> list[Row]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{name}: expected a list of rows, or LMFlow's type and instances")
    shape = None
    if len(rows) == 1 and rows[0].keys() >= {"type", "instances"}:
        (whole,) = rows
        if whole["type"] not in LMFLOW:
            raise BadInput(f"{name}: type: {whole['type']!r}: allowed: {', '.join(LMFLOW)}")
        shape, rows = LMFLOW[whole["type"]], whole["instances"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadInput(f"{name}: instances: expected a list of rows")
    return [
        training_row(row, f"{name}: row {number}", shape)
        for number, row in enumerate(rows, start=1)
    ]
