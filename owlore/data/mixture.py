"""Draw a track's training examples from its pools.

Run as: `owlore data --study config.yaml --track mini --seed 0 --questions DIR --output TRAIN.jsonl`
"""

import random
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput
from owlore.data.pools import read_pool
from owlore.study.config import Study


def training_rows(study: Study, track: str, seed: int, questions: Path) -> list[dict[str, Any]]:
    """Draw a track's training mixture; every method with this seed sees the same rows in order.

    Args:
        study: the study.
        track: name of the track.
        seed: draws the examples of each pool and their order.
        questions: folder that the questions stage wrote.

    Raises:
        BadInput: a pool is missing, cannot be read, is too small, or has rows of an unknown shape.
    """
    rows: list[dict[str, Any]] = []
    for pool, wanted in study.tracks[track].train.items():
        key = f"tracks.{track}.train.{pool}"
        available = read_pool(study.questions, pool, questions, key)
        if len(available) < wanted:
            raise BadInput(f"{key}: {wanted}: the pool has {len(available)} rows")
        drawn = random.Random(f"{seed}/{pool}").sample(available, wanted)
        rows += [{**row, "source": pool} for row in drawn]
    random.Random(f"{seed}/order").shuffle(rows)
    return rows
