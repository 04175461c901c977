"""MADE-UP SCORES FOR TESTS: per-question rows, summaries, MT-Bench judgments, contamination."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from owlore.compare.mtbench_blocks import CATEGORIES
from owlore.core.files import sha256_text, write_json, write_jsonl
from owlore.mtbench.ratings import summarise
from owlore.records.evaluation import CORRECT
from owlore.study.benchmarks import LM_EVAL
from owlore.study.config import Benchmark, MTBench, Study
from owlore.study.judge import Judge


def samples_of(
    benchmark: Benchmark,
    level: float,
    questions: int,
    shared: np.random.Generator,
    own: np.random.Generator,
) -> pd.DataFrame:
    """Right or wrong for each question; `shared`, equal for all methods, makes some hard."""
    frames = []
    for name in sorted(benchmark.tasks):
        n = benchmark.tasks[name].limit or questions
        hardness = shared.normal(0, 1.2, n)
        latent = level - hardness + own.normal(0, 0.5, n)
        scores = own.normal(-5, 1, (n, 4))
        frames.append(
            pd.DataFrame(
                {
                    "task": name,
                    "doc_id": np.arange(n),
                    "doc_hash": [sha256_text(f"{name} {i}") for i in range(n)],
                    "cluster": [f"cluster {i // 2}" for i in range(n)],
                    "gold": 0,
                    "prediction": np.where(latent > 0, 0, 1),
                    "prediction_norm": np.where(latent > -0.1, 0, 1),
                    "correct": latent > 0,
                    "correct_norm": latent > -0.1,
                    "loglikelihoods": scores.tolist(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def summary_of(
    name: str, benchmark: Benchmark, samples: pd.DataFrame, weights: str
) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for task, settings in benchmark.tasks.items():
        rows = samples[samples["task"] == task]
        n = len(rows)
        scores: dict[str, Any] = {}
        choices = settings.metric in ("acc", "acc_norm")
        for metric in ("acc", "acc_norm") if choices else ("exact_match",):
            column = CORRECT[metric]
            scores[metric] = float(rows[column].mean())
            scores[f"{metric}_stderr"] = float(
                rows[column].astype(float).std(ddof=1) / math.sqrt(n)
            )
        tasks[task] = {
            "metric": settings.metric,
            "value": scores[settings.metric],
            "stderr": scores[f"{settings.metric}_stderr"],
            **scores,
            "n": n,
            "n_available": 10 * n,
            "num_fewshot": benchmark.num_fewshot,
            "version": 1.0,
            "split": benchmark.split,
            "truncated": 0,
        }
    errors = [score["stderr"] for score in tasks.values()]
    return {
        "benchmark": name,
        "weights_sha256": weights,
        "tasks": tasks,
        "average": float(np.mean([score["value"] for score in tasks.values()])),
        "average_stderr": math.sqrt(sum(error**2 for error in errors)) / len(errors),
        "split": benchmark.split,
        "seed": benchmark.seed,
        "engine": "plain",
        "lm_eval_version": "0.0.1",
        "dtype": "float32",
        "seconds": 10.0,
    }


def write_mtbench_questions(root: Path) -> None:
    rows = [
        {
            "question_id": 81 + place,
            "category": CATEGORIES[place % 8],
            "turns": [f"Made-up <question> {place}?", "And made-up again?"],
        }
        for place in range(80)
    ]
    write_jsonl(root / "questions" / "mtbench" / "question.jsonl", rows)


def write_mtbench(
    folder: Path,
    name: str,
    judge: Judge,
    settings: MTBench,
    level: float,
    weights: str,
    stamp: dict[str, Any],
    random: np.random.Generator,
) -> None:
    judgments = []
    places = [(place, turn) for place in range(settings.questions) for turn in (1, 2)]
    for judging in range(judge.judgings):
        for place, turn in places:
            score = -1.0 if random.random() < 0.05 else float(random.integers(2, 8)) + level
            judgments.append(
                {
                    "question_id": 81 + place,
                    "model": folder.name,
                    "judge": [judge.model, "single-v1"],
                    "user_prompt": "made up",
                    "judgment": f"[[{score}]]",
                    "score": score,
                    "turn": turn,
                    "judging": judging,
                    "tstamp": 0.0,
                }
            )
    write_jsonl(folder / "mtbench" / name / "judgments.jsonl", judgments)
    write_jsonl(
        folder / "mtbench" / "answers.jsonl",
        [
            {
                "question_id": 81 + place,
                "model_id": folder.parent.name,
                "choices": [{"index": 0, "turns": [f"<b>Made-up</b> {place}", "It is & was."]}],
            }
            for place in range(settings.questions)
        ],
    )
    asked = [
        {"question_id": 81 + place, "category": CATEGORIES[place % 8]}
        for place in range(settings.questions)
    ]
    real = judge.comparable
    value = {
        "judge": {
            "provider": judge.provider,
            "model": judge.model,
            "label": judge.model if real else "base model <as judge> (plumbing check)",
        },
        "comparable": real,
        "weights_sha256": weights,
        "reference_set": settings.reference_set,
        "prompt_version": "single-v1",
        "prompts_sha256": sha256_text("prompts"),
        "date": "2026-01-01",
        **summarise(judgments, asked),
        "max_new_tokens": settings.max_new_tokens,
        "seconds": 5.0,
        **stamp,
    }
    write_json(folder / (f"mtbench/{name}/mtbench.json" if name else "mtbench.json"), value)


def training_hash(track: str, seed: int | None) -> str:
    return sha256_text(f"{track} {seed}")


def contamination_of(study: Study, track: str, questions: int) -> dict[str, Any]:
    """Three flagged questions in the first task of each lm-eval benchmark, none in the others."""
    benchmarks: dict[str, Any] = {}
    for name in study.tracks[track].benchmarks:
        block = getattr(study.tracks[track], name)
        if name in LM_EVAL:
            sizes = {task: settings.limit or questions for task, settings in block.tasks.items()}
        else:
            sizes = {name: block.questions}
        benchmarks[name] = {
            task: overlap(n, [0, 2, 5] if name in LM_EVAL and not place else [])
            for place, (task, n) in enumerate(sizes.items())
        }
    return {
        "track": track,
        "training_rows": 480,
        "training_sha256": {f"seed{seed}": training_hash(track, seed) for seed in study.seeds},
        "benchmarks": benchmarks,
        "versions": {"owlore": "0.0"},
    }


def overlap(n: int, doc_ids: list[int]) -> dict[str, Any]:
    """What a check writes of one task whose flagged questions are exact copies, save the last."""
    flagged = len(doc_ids)
    exact = max(flagged - 1, 0)
    counts = {"n": n, "exact": exact, "ngram13": flagged, "flagged": flagged}
    return {**counts, "share": flagged / n, "doc_ids": doc_ids}
