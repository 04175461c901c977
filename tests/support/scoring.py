"""Made-up questions, and one call that scores a tiny model on them."""

import json
import random
from pathlib import Path
from typing import Any

import lm_eval
import pandas as pd
import pytest
from lm_eval.tasks import TaskManager

from owlore.evaluate import lm_tasks, stage
from owlore.records.evaluation import EvaluationJob
from owlore.sources.models import Weights
from owlore.study.config import Benchmark

WORDS = ["winter", "water", "owl", "lore", "answer", "thin", "there", "inner", "a", "ring", "hero"]
SHA = "a" * 64


def questions(n: int, label: str, choices: int = 4) -> list[dict[str, Any]]:
    rng = random.Random(label)
    return [
        {
            "question": f"{label} {index}: {' '.join(rng.sample(WORDS, 3))}?",
            "choices": [" ".join(rng.sample(WORDS, rng.randint(1, 4))) for _ in range(choices)],
            "answer": rng.randrange(choices),
            "cluster": f"{label}-{index // 2}",
        }
        for index in range(n)
    ]


def benchmark(**values: Any) -> Benchmark:
    tasks = {"wordnet_category": {"metric": "acc_norm"}, "quartz_mini": {"metric": "acc"}}
    return Benchmark.model_validate({"tasks": tasks, "batch_size": 4, **values})


def run(
    folder: Path, model: Path, chosen: Benchmark, data: Path | None, **more: Any
) -> tuple[dict[str, Any], pd.DataFrame]:
    weights = Weights(model, more.pop("adapter", None), SHA)
    output, samples = folder / "commonsense.json", folder / "samples"
    if "dtype" in more:
        chosen = chosen.model_copy(update={"dtype": more.pop("dtype")})
    asked = {"engine": more.pop("engine")} if "engine" in more else {}
    job = EvaluationJob(benchmark="commonsense", settings=chosen, **asked)
    stage.run(job, weights, output, samples, data_dir=data, **more)
    return json.loads(output.read_text()), pd.read_parquet(samples / "commonsense.parquet")


def index_only(monkeypatch: pytest.MonkeyPatch, *folders: str) -> None:
    """Index these folders of lm-eval's tasks instead of all: the full index takes ten seconds."""
    root = Path(lm_eval.__file__).parent / "tasks"

    def manager(include_path: str, include_defaults: bool, metadata: dict[str, Any]) -> TaskManager:
        paths = [include_path, *(str(root / folder) for folder in folders if include_defaults)]
        return TaskManager(include_path=paths, include_defaults=False, metadata=metadata)

    monkeypatch.setattr(lm_tasks, "TaskManager", manager)
