"""MADE-UP NUMBERS FOR TESTS: a results tree in the shape of a real study's, without any model.

Nothing in here was measured. The values are seeded random draws that merely look plausible, so
that tables, figures and the report can be tested in a second.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from support.results_scores import (
    contamination_of,
    samples_of,
    summary_of,
    training_hash,
    write_mtbench,
    write_mtbench_questions,
)

from owlore.core.files import sha256_text, write_json, write_jsonl
from owlore.study.config import Cell, Study
from owlore.study.method import Layers

LAYERS = 12
# Skill in probits above the base model, and peak GiB: for tests only, no measurement.
SKILL = {"base": 0.0, "full": 0.45, "lora": 0.4, "galore": 0.35, "lisa": 0.42, "owlore": 0.5}
PEAK_GIB = {"full": 3.1, "lora": 1.4, "galore": 2.2, "lisa": 1.9, "owlore": 1.6}


def write_fake_results(
    study: Study,
    root: Path,
    seed: int = 0,
    skill: dict[str, float] | None = None,
    questions: int = 60,
    memory: bool = True,
) -> None:
    """Write every file of the contract for `study`; `skill` (probits) replaces the default ones.

    `questions` is the number of questions of a task without a limit.
    """
    skill = SKILL | (skill or {})
    write_json(root / "study.json", study.model_dump(mode="json"))
    write_json(
        root / "manifest.json",
        {
            "started": "2026-01-01T00:00:00+00:00",
            "machine": {"cpu": "made-up <CPU> & friends", "cores": 2},
            "versions": {"torch": "0.0", "lm-eval": "0.0.1"},
            "git": {"commit": "0" * 40, "dirty": False},
            "lock_sha256": sha256_text("lock"),
            "study_sha256": sha256_text(study.study),
        },
    )
    for track in study.tracks:
        value = contamination_of(study, track, questions)
        write_json(root / "contamination" / f"{track}.json", value)
    write_mtbench_questions(root)
    for place, model in enumerate(study.models):
        _write_outliers(root, model, np.random.default_rng([seed, 1, place]))
        if memory:
            _write_memory(study, root, model)
    for place, cell in enumerate(study.cells()):
        _write_cell(study, root, cell, skill, seed, questions, np.random.default_rng([seed, place]))


def _write_outliers(root: Path, model: str, random: np.random.Generator) -> None:
    ratios = np.sort(random.uniform(0.001, 0.03, LAYERS))[::-1]
    layers = [
        {
            "index": index,
            "outlier_ratio": ratio,
            "outlier_percent": 100 * ratio,
            "sampling_probability": ratio / ratios.sum(),
            "projections": {"q_proj": ratio},
            "alpha": 3.0,
            "interval": [2.5, 3.5],
        }
        for index, ratio in enumerate(ratios.tolist())
    ]
    value = {
        "model": model,
        "weights_sha256": sha256_text(model),
        "calibration": {"samples": 4, "seqlen": 64},
        "threshold": 13,
        "layers": layers,
        "by_threshold": {"13": ratios.tolist()},
        "spearman_alpha": 0.1,
        "seconds": 1.0,
    }
    write_json(root / "outliers" / f"{model}.json", value)


def _write_memory(study: Study, root: Path, model: str) -> None:
    parts = ("weights", "gradients", "optimizer", "activations", "temporaries")
    rows = []
    for track in study.tracks:
        for method in study.run:
            if not study.method(method).trains:
                continue
            peak = PEAK_GIB.get(method, 1.5)
            split = {f"{part}_gib": peak / len(parts) for part in parts}
            rows.append(
                {"method": method, "track": track, "micro_batch": 16, "seqlen": 64}
                | {"peak_gib": peak, **split}
            )
    write_json(root / "memory" / f"{model}.json", {"model": model, "rows": rows})


def _write_cell(
    study: Study,
    root: Path,
    cell: Cell,
    skill: dict[str, float],
    seed: int,
    questions: int,
    random: np.random.Generator,
) -> None:
    folder = root / cell.path
    method = study.method(cell.method, cell.track, cell.model)
    trained, layered = method.trains, isinstance(method, Layers)
    base_hash = sha256_text(cell.model)
    weights = sha256_text(cell.path) if trained else base_hash
    stamp = {
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:01:00+00:00",
        "versions": {"torch": "0.0"},
        "git": {"commit": "0" * 40, "dirty": False},
    }
    history = _history(method.gamma if layered else 0, random) if trained else []
    if trained:
        write_jsonl(folder / "history.jsonl", history)
    active = [layer for row in history for layer in (row["active_layers"] or [])]
    peak = int(PEAK_GIB.get(cell.method, 1.5) * 2**30)
    seconds = float(random.uniform(50, 90)) if trained else 0.0
    finetune = {
        "track": cell.track,
        "model": cell.model,
        "method": cell.method,
        "seed": cell.seed or 0,
        "status": "done",
        "model_dir": f"{cell.path}/model",
        "adapter": method.adapter,
        "weights_sha256": weights,
        "base_sha256": base_hash,
        "data_sha256": training_hash(cell.track, cell.seed) if trained else None,
        "outliers_sha256": sha256_text("outliers") if method.needs_outliers else None,
        "seconds": seconds,
        "tokens": 30000 if trained else 0,
        "tokens_per_second": 30000 / seconds if trained else None,
        "examples": 480 if trained else 0,
        "steps": len(history),
        "first_loss": history[0]["loss"] if trained else None,
        "final_loss": history[-1]["loss"] if trained else None,
        "trainable_parameters": int(random.integers(1, 100) * 10**6) if trained else 0,
        "total_parameters": 134_515_008,
        "memory_bytes": {"weights": peak // 3, "gradients": peak // 3, "optimizer": peak // 3},
        "peak_bytes": peak if trained else None,
        "optimizer_bytes": peak // 3 if trained else 0,
        "decoder_optimizer_bytes": peak // 5 if trained else 0,
        "checkpoint_bytes": 270_000_000 if trained else 0,
        "layer_activations": [active.count(i) for i in range(LAYERS)] if trained else None,
        "switches": 6 if layered else 0,
        "projector_refreshes": 6 if method.projected else 0,
        "projector_seconds": 0.5 if method.projected else 0.0,
        "skipped_steps": 0,
        "resumed_from_step": None,
        "config": method.model_dump(mode="json", exclude={"overrides"})
        if trained
        else {"trainable": "none"},
        "threads": 1,
        "device": "cpu",
        **stamp,
    }
    write_json(folder / "finetune.json", finetune)
    track = study.tracks[cell.track]
    level = skill.get(cell.method, SKILL["owlore"])
    for name, benchmark in track.lm_eval_benchmarks.items():
        shared = np.random.default_rng([seed, *name.encode()])
        samples = samples_of(benchmark, level, questions, shared, random)
        (folder / "samples").mkdir(exist_ok=True)
        samples.to_parquet(folder / "samples" / f"{name}.parquet", index=False)
        write_json(folder / f"{name}.json", summary_of(name, benchmark, samples, weights) | stamp)
    if track.mtbench is not None:
        for name, judge in track.mtbench.judges.items():
            write_mtbench(folder, name, judge, track.mtbench, level, weights, stamp, random)


def _history(gamma: int, random: np.random.Generator) -> list[dict[str, Any]]:
    rows, active = [], None
    for step in range(1, 31):
        if gamma and step % 5 == 1:
            active = sorted(random.choice(LAYERS, gamma, replace=False).tolist())
        loss = 1.5 + 2 * math.exp(-step / 8) + float(random.normal(0, 0.1))
        rows.append(
            {
                "step": step,
                "loss": loss,
                "learning_rate": 1e-4 * (1 - step / 30),
                "grad_norm": 1.0,
                "active_layers": active,
                "tokens": 1000 * step,
                "tokens_per_second": 400.0,
                "seconds": 2.5 * step,
                "optimizer_bytes": 10**8,
            }
        )
    return rows
