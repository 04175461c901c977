"""A small valid study for tests to change, break and run."""

import copy
from pathlib import Path
from typing import Any

import yaml

STUDY: dict[str, Any] = {
    "study": "tiny",
    "seeds": [0],
    "run": ["base", "full", "owlore"],
    "models": {"toy": {"path": "inputs/model"}},
    "questions": {"files": {"pool": "inputs/pool.jsonl"}},
    "tracks": {
        "mini": {
            "train": {"pool": 8},
            "commonsense": {
                "data_dir": "inputs/questions",
                "tasks": {"wordnet_antonym": {"metric": "acc", "limit": 4}},
            },
        }
    },
    "training": {"max_steps": 4, "per_device_train_batch_size": 2, "checkpoint_steps": 2},
    "methods": {
        "base": {"trainable": "none"},
        "full": {"trainable": "all", "learning_rate": 0.001},
        "owlore": {
            "trainable": "layers",
            "sampling": "outlier",
            "gamma": 2,
            "interval_steps": 2,
            "projection": "low-rank",
            "rank": 4,
            "learning_rate": 0.001,
        },
    },
}


def changed(path: str, value: Any, study: dict[str, Any] = STUDY) -> dict[str, Any]:
    """A copy of a study with the value at a dotted path set; `...` takes the key away."""
    result = copy.deepcopy(study)
    *parents, last = path.split(".")
    place = result
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return result


def write(file: Path, study: dict[str, Any]) -> Path:
    """Write a study as YAML, keys in order."""
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    return file
