"""MADE-UP NUMBERS FOR TESTS: a results tree in the shape of a real study's, without any model.

Nothing in here was measured. The values are seeded random draws that merely look plausible, so
that tables, figures and the report can be tested in a second.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from support.results_proofs import (
    ENDED,
    GIT,
    STARTED,
    VERSIONS,
    proven,
    rows_hash,
    weights_of_base,
    write_inputs,
    write_models,
)
from support.results_scores import (
    samples_of,
    write_answers,
    write_contamination,
    write_evaluation,
    write_judged,
)

from owlore.core.files import canonical_json, sha256_text, write_json, write_jsonl, write_receipt
from owlore.records.finetune import FinetuneJob, FinetuneRecord, HistoryRow, MemoryBytes
from owlore.records.memory import MemoryJob, MemoryRecord, MemoryRow
from owlore.records.outliers import CalibrationUsed, LayerRecord, OutliersJob, OutliersRecord
from owlore.records.study import Manifest
from owlore.study.config import Cell, Study
from owlore.study.method import Layers, Method

LAYERS = 12
# Skill in probits above the base model, and peak GiB: for tests only, no measurement.
SKILL = {"base": 0.0, "full": 0.45, "lora": 0.4, "galore": 0.35, "lisa": 0.42, "owlore": 0.5}
PEAK_GIB = {"full": 3.1, "lora": 1.4, "galore": 2.2, "lisa": 1.9, "owlore": 1.6}


def write_made_up_results(
    study: Study,
    root: Path,
    seed: int = 0,
    skill: dict[str, float] | None = None,
    questions: int = 60,
    memory: bool = True,
    resources: Path | None = None,
) -> None:
    """Write every file of the contract for `study`; `skill` (probits) replaces the default ones.

    `questions` is the number of questions of a task without a limit; the base models' records are
    written where a folder of `resources` is given.
    """
    skill = SKILL | (skill or {})
    write_json(root / "study.json", study.model_dump(mode="json"))
    manifest = Manifest(
        started=STARTED,
        machine={"cpu": "made-up <CPU> & friends", "cores": 2},
        versions={"torch": "0.0", "lm-eval": "0.0.1"},
        git=GIT,
        lock_sha256=sha256_text("lock"),
        study_sha256=sha256_text(study.study),
    )
    write_json(root / "manifest.json", manifest.model_dump(mode="json", exclude_unset=True))
    if resources is not None:
        write_models(study, resources)
    write_inputs(study, root)
    for track in study.tracks:
        write_contamination(study, root, track, questions)
    for place, model in enumerate(study.models):
        _write_outliers(study, root, model, np.random.default_rng([seed, 1, place]))
        if memory:
            _write_memory(study, root, model)
    for place, cell in enumerate(study.cells()):
        random = np.random.default_rng([seed, place])
        weights = _write_training(study, root, cell, random)
        _write_scores(study, root, cell, weights, skill, seed, questions, random)


def _write_outliers(study: Study, root: Path, model: str, random: np.random.Generator) -> None:
    ratios = np.sort(random.uniform(0.001, 0.03, LAYERS))[::-1]
    job, folder = OutliersJob.of(study, model), root / "outliers"
    read = {"weights": weights_of_base(model), "text": sha256_text("text")}
    record = OutliersRecord(
        model=model,
        weights_sha256=weights_of_base(model),
        calibration=CalibrationUsed(samples=4, seqlen=64),
        threshold=13,
        layers=[
            LayerRecord(
                index=index,
                outlier_ratio=ratio,
                outlier_percent=100 * ratio,
                sampling_probability=ratio / ratios.sum(),
                projections={"q_proj": ratio},
                alpha=3.0,
            )
            for index, ratio in enumerate(ratios.tolist())
        ],
        by_threshold={"13": ratios.tolist()},
        spearman_alpha=0.1,
        seconds=1.0,
        proof=proven(job, "score_outliers", read, folder),
    )
    record.save(folder / f"{model}.json")
    write_receipt(folder / f"{model}.sha256", sha256_text(canonical_json(record.ratios)))


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
                MemoryRow(
                    method=method, track=track, micro_batch=16, seqlen=64, peak_gib=peak, **split
                )
            )
    folder = root / "memory"
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{model}.csv"
    shown = [row.model_dump(exclude_none=True) for row in rows]
    table.write_text(pd.DataFrame(shown).to_csv(index=False))
    read = {f"data/{track}": rows_hash(track, study.seeds[0]) for track in study.tracks}
    read["shape"] = sha256_text("shape")
    proof = proven(MemoryJob.of(study, model), "simulate", read, folder, [table])
    MemoryRecord(model=model, rows=rows, proof=proof).save(folder / f"{model}.json")


def _write_training(study: Study, root: Path, cell: Cell, random: np.random.Generator) -> str:
    """A cell's history and finetune.json; return the hash of its weights."""
    folder = root / cell.path
    method = study.method(cell.method, cell.track, cell.model)
    trained, layered = method.trains, isinstance(method, Layers)
    base_hash = weights_of_base(cell.model)
    weights = sha256_text(cell.path) if trained else base_hash
    history = _history(method.gamma if layered else 0, random) if trained else []
    rows = folder / "history.jsonl"
    write_jsonl(rows, [row.model_dump(mode="json") for row in history])
    active = [layer for row in history for layer in (row.active_layers or [])]
    peak = int(PEAK_GIB.get(cell.method, 1.5) * 2**30)
    seconds = float(random.uniform(50, 90)) if trained else 0.0
    read = {"base": base_hash}
    if trained:
        read["data"] = rows_hash(cell.track, cell.seed)
    if method.needs_outliers:
        receipt = root / "outliers" / f"{cell.model}.sha256"
        read["outliers"] = receipt.read_text().strip()
    rule = "train" if trained else "base"
    FinetuneRecord(
        track=cell.track,
        model=cell.model,
        method=cell.method,
        seed=cell.seed or 0,
        model_dir=f"{cell.path}/model",
        adapter=method.adapter,
        weights_sha256=weights,
        base_sha256=base_hash,
        data_sha256=read.get("data"),
        outliers_sha256=read.get("outliers"),
        seconds=seconds,
        tokens=30000 if trained else 0,
        tokens_per_second=30000 / seconds if trained else None,
        examples=480 if trained else 0,
        steps=len(history),
        first_loss=history[0].loss if trained else None,
        final_loss=history[-1].loss if trained else None,
        trainable_parameters=int(random.integers(1, 100) * 10**6) if trained else 0,
        total_parameters=134_515_008,
        memory_bytes=MemoryBytes(weights=peak // 3, gradients=peak // 3, optimizer=peak // 3),
        peak_bytes=peak if trained else None,
        optimizer_bytes=peak // 3 if trained else 0,
        decoder_optimizer_bytes=peak // 5 if trained else 0,
        checkpoint_bytes=270_000_000 if trained else 0,
        layer_activations=[active.count(i) for i in range(LAYERS)] if trained else None,
        switches=6 if layered else 0,
        projector_refreshes=6 if method.projected else 0,
        projector_seconds=0.5 if method.projected else 0.0,
        config=_config(method, trained),
        threads=1,
        device="cpu",
        started=STARTED,
        ended=ENDED,
        versions=VERSIONS,
        git=GIT,
        proof=proven(FinetuneJob.of(study, cell), rule, read, folder, [rows]),
    ).save(folder / "finetune.json")
    write_receipt(folder / "weights.sha256", weights)
    return weights


def _config(method: Method, trained: bool) -> dict[str, Any]:
    if not trained:
        return {"trainable": "none"}
    return method.model_dump(mode="json", exclude={"overrides"})


def _write_scores(
    study: Study,
    root: Path,
    cell: Cell,
    weights: str,
    skill: dict[str, float],
    seed: int,
    questions: int,
    random: np.random.Generator,
) -> None:
    track = study.tracks[cell.track]
    level = skill.get(cell.method, SKILL["owlore"])
    for name, benchmark in track.lm_eval_benchmarks.items():
        shared = np.random.default_rng([seed, *name.encode()])
        samples = samples_of(benchmark, level, questions, shared, random)
        write_evaluation(study, root, cell, name, samples, weights)
    if track.mtbench is not None:
        answers = write_answers(study, root, cell, weights)
        for name in track.mtbench.judges:
            write_judged(study, root, cell, name, level, weights, answers, random)


def _history(gamma: int, random: np.random.Generator) -> list[HistoryRow]:
    rows, active = [], None
    for step in range(1, 31):
        if gamma and step % 5 == 1:
            active = sorted(random.choice(LAYERS, gamma, replace=False).tolist())
        loss = 1.5 + 2 * math.exp(-step / 8) + float(random.normal(0, 0.1))
        rows.append(
            HistoryRow(
                step=step,
                loss=loss,
                learning_rate=1e-4 * (1 - step / 30),
                grad_norm=1.0,
                active_layers=active,
                tokens=1000 * step,
                tokens_per_second=400.0,
                seconds=2.5 * step,
                optimizer_bytes=10**8,
            )
        )
    return rows
