"""What a cell, and the whole study, show as MLflow runs: result files in, `Run` records out."""

import html
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from owlore.compare.rows import answers_of, history_of, judgments_of, questions_of
from owlore.core.errors import BadInput
from owlore.core.files import canonical_json, flattened, read_json, sha256_text
from owlore.core.parsing import parse
from owlore.records.base import Git, Made
from owlore.records.evaluation import EvaluationRecord
from owlore.records.finetune import FinetuneRecord, HistoryRow
from owlore.records.mtbench import Answer, JudgedRecord, Judgment, Question
from owlore.records.study import Manifest
from owlore.study.benchmarks import FAMILIES, LM_EVAL
from owlore.study.config import Cell, Study
from owlore.tracking.store import DIGEST_LENGTH, NOTE, STAGE, Run

GIB = 2**30
# of history.jsonl, as MLflow names them
CURVES: dict[str, Callable[[HistoryRow], float | None]] = {
    "loss": lambda row: row.loss,
    "learning_rate": lambda row: row.learning_rate,
    "grad_norm": lambda row: row.grad_norm,
    "tokens_per_second": lambda row: row.tokens_per_second,
}
CURVE_POINTS = 1000  # a longer curve is thinned: a chart shows fewer, history.jsonl has them all


def cell_files(study: Study, root: Path, cell: Cell) -> list[Path]:
    """Return the result files that the cell must have, finetune.json first."""
    stages = ["finetune", *study.tracks[cell.track].score_files]
    return [root / cell.path / f"{stage}.json" for stage in stages]


def study_files(root: Path) -> list[Path]:
    """Return the files that the study's own run must have."""
    pages = [root / "report" / name for name in ("index.html", "answers.html")]
    return [root / "study.json", root / "manifest.json", *pages]


def cell_run(study: Study, root: Path, cell: Cell) -> Run:
    """Return the run of a cell: headline metrics, and its stages as children.

    Raises:
        BadInput: a result file is missing or is not JSON.
    """
    files = cell_files(study, root, cell)
    names = ["finetune", *study.tracks[cell.track].score_files]
    described = files[0]
    finetune = FinetuneRecord.load(described)
    scores = {
        name: (EvaluationRecord if name in LM_EVAL else JudgedRecord).load(path)
        for name, path in zip(names[1:], files[1:], strict=True)
    }
    identity = {"method": cell.method, "model": cell.model, "track": cell.track, "seed": cell.seed}
    shared: dict[str, Any] = {
        "params": identity | flattened(finetune.config),
        "tags": _training_tags(finetune) | _machine(root),
        "dataset": _dataset(study, cell, finetune),
    }
    title = cell.method if cell.seed is None else f"{cell.method} seed{cell.seed}"
    totals = _training_metrics(finetune)
    times = _times(finetune, described)
    children = {}
    if finetune.steps:  # the base model was not trained
        history = root / cell.path / "history.jsonl"
        children["finetune"] = Run(
            name=f"finetune: {title}",
            times=times,
            metrics={f"finetune/{name}": value for name, value in totals.items()},
            curves=_curves(history, times),
            files=(("", described), ("", history)),
            **shared,
        )
    for (name, record), path in zip(scores.items(), files[1:], strict=True):
        if isinstance(record, EvaluationRecord):
            children[name] = _lm_eval_run(root, title, record, path, identity)
        else:
            answers = root / cell.path / "mtbench" / "answers.jsonl"
            shown = name.removesuffix("/mtbench")  # "mtbench", or "mtbench/<further judge>"
            children[shown] = _mtbench_run(root, title, record, path, identity, answers)
    note = f"Curves, scores per task and answers are in the child runs: {', '.join(children)}."
    headline = scores.get("mtbench")
    if isinstance(headline, JudgedRecord):
        note += f"\n\nMT-Bench: {headline.judge.label}."
    shared["tags"] = shared["tags"] | {STAGE: "cell", NOTE: note}
    return Run(
        name=f"{title} ({cell.model}, {cell.track})",
        times=_span([times, *(run.times for run in children.values())]),
        metrics=totals
        | {"tokens_per_second": finetune.tokens_per_second}
        | {
            family.metric: scores[name].headline
            for name, family in FAMILIES.items()
            if name in scores
        },
        files=tuple((_folder(name), path) for name, path in zip(names, files, strict=True)),
        children=children,
        **shared,
    )


def _folder(name: str) -> str:
    """Where a score file lies among the artifacts: a further judge's in a folder of its own."""
    return name.rpartition("/")[0]


def study_run(study: Study, root: Path) -> Run:
    """Return the study's own run: report, tables, figures, manifests, what is by model or track.

    Raises:
        BadInput: study.json, manifest.json or the report is missing.
    """
    for path in study_files(root):
        if not path.exists():
            raise BadInput(f"{path}: no such file")
    files = [("report" if path.suffix == ".html" else "", path) for path in study_files(root)]
    for folder in ("tables", "figures", "outliers", "memory", "contamination"):
        paths = sorted(path for path in (root / folder).glob("[!.]*") if path.is_file())
        files += [(folder, path) for path in paths]
    manifest = _manifest(root / "manifest.json")
    results = [path for cell in study.cells() for path in cell_files(study, root, cell)]
    times = [_times(Made.load(path), path) for path in results if path.exists()]
    started = _milliseconds(manifest.started)
    return Run(
        name=f"study {study.study}",
        times=_span([(started, started), *times]),
        params={
            "models": ", ".join(study.models),
            "tracks": ", ".join(study.tracks),
            "methods": ", ".join(study.run),
            "seeds": ", ".join(map(str, study.seeds)),
            "cells": len(study.cells()),
        },
        tags={"study_sha256": manifest.study_sha256, "lock_sha256": manifest.lock_sha256}
        | _provenance(manifest.versions, manifest.git)
        | _machine(root)
        | {STAGE: "study", NOTE: f"{study.description}\n\nReport, tables and figures: Artifacts."},
        files=tuple(files),
    )


def _training_metrics(finetune: FinetuneRecord) -> dict[str, float | None]:
    """Totals of a training; sizes in GiB, times in seconds."""
    memory = finetune.memory_bytes
    trainable, total = finetune.trainable_parameters, finetune.total_parameters
    return {
        "peak_gib": _gib(finetune.peak_bytes),
        "weights_gib": _gib(memory.weights),
        "gradients_gib": _gib(memory.gradients),
        "optimizer_gib": _gib(memory.optimizer),
        "checkpoint_gib": _gib(finetune.checkpoint_bytes),
        "seconds": finetune.seconds,
        "projector_seconds": finetune.projector_seconds,
        "tokens": finetune.tokens,
        "steps": finetune.steps,
        "first_loss": finetune.first_loss,
        "final_loss": finetune.final_loss,
        "trainable_parameters": trainable,
        "trainable_percent": 100 * trainable / total,
    }


def _lm_eval_run(
    root: Path, title: str, record: EvaluationRecord, path: Path, identity: dict[str, Any]
) -> Run:
    benchmark, scores = path.stem, record.tasks.values()
    metrics = {
        f"{benchmark}/average": record.average,
        f"{benchmark}/average_stderr": record.average_stderr,
        f"{benchmark}/seconds": record.seconds,
    }
    for task, score in record.tasks.items():
        metrics[f"{benchmark}/{task}"] = score.value
        metrics[f"{benchmark}/{task}_stderr"] = score.stderr
    params = {
        "split": record.split,
        "engine": record.engine,
        "dtype": record.dtype,
        "lm_eval_version": record.lm_eval_version,
        "eval_seed": record.seed,
        "num_fewshot": _distinct(score.num_fewshot for score in scores),
        "metric": _distinct(score.metric for score in scores),
        "tasks": len(record.tasks),
        "questions": sum(score.n for score in scores),
    }
    return Run(
        name=f"{benchmark}: {title}",
        times=_times(record, path),
        params=identity | params,
        metrics=metrics,
        tags={"weights_sha256": record.weights_sha256, "device": record.device}
        | _provenance(record.versions, record.git)
        | _machine(root),
        files=(("", path),),
    )


def _mtbench_run(
    root: Path,
    title: str,
    record: JudgedRecord,
    path: Path,
    identity: dict[str, Any],
    answers: Path,
) -> Run:
    """The run of one judge: of the headline, beside whose scores the answers lie, or a further."""
    further = path.parent == answers.parent / path.parent.name
    judge = f" by {path.parent.name}" if further else ""
    judgments = (path.parent if further else answers.parent) / "judgments.jsonl"
    questions = root / "questions" / "mtbench" / "question.jsonl"
    page = _answers_page(questions_of(questions), answers_of(answers), judgments_of(judgments))
    params = {
        "reference_set": record.reference_set,
        "prompt_version": record.prompt_version,
        "prompts_sha256": record.prompts_sha256,
        "questions": record.questions,
        "max_new_tokens": record.max_new_tokens,
        "n": record.n,
        "judgings": record.judgings,
    }
    metrics = {
        "overall": record.overall,
        "turn_1": record.turn_1,
        "turn_2": record.turn_2,
        "failed": record.failed,
        "unrated": record.unrated,
        "judgings_sd": record.judgings_sd,
        "seconds": record.seconds,
        **record.categories,
    }
    return Run(
        name=f"mtbench{judge}: {title}",
        times=_times(record, path),
        params=identity | params | flattened({"judge": record.judge.model_dump()}),
        metrics={f"mtbench/{name}": value for name, value in metrics.items()},
        tags={"weights_sha256": record.weights_sha256}
        | _provenance(record.versions, record.git)
        | _machine(root)
        | {"mtbench_comparable": record.comparable},
        files=(("", path), ("", answers), ("", judgments)),
        texts={"answers_and_judgments.html": page},
    )


def _training_tags(finetune: FinetuneRecord) -> dict[str, Any]:
    """Tags that say what a cell was made of and with."""
    return {
        "weights_sha256": finetune.weights_sha256,
        "base_sha256": finetune.base_sha256,
        "data_sha256": finetune.data_sha256,
        "outliers_sha256": finetune.outliers_sha256,
        "device": finetune.device,
        "threads": finetune.threads,
        "config_sha256": sha256_text(canonical_json(finetune.config)),
    } | _provenance(finetune.versions, finetune.git)


def _provenance(versions: Mapping[str, str], git: Git) -> dict[str, Any]:
    """Tags that say with what a result was made; a null makes no tag."""
    tags: dict[str, Any] = {f"version.{name}": version for name, version in versions.items()}
    tags |= {"git_commit": git.commit, "git_dirty": git.dirty}
    tags["mlflow.source.git.commit"] = git.commit
    return tags | {"mlflow.source.name": "owlore", "mlflow.source.type": "LOCAL"}


def _machine(root: Path) -> dict[str, Any]:
    path = root / "manifest.json"
    machine = _manifest(path).machine if path.exists() else {}
    return {f"machine.{name}": value for name, value in machine.items()}


def _manifest(path: Path) -> Manifest:
    return parse(Manifest, read_json(path), str(path))


def _dataset(study: Study, cell: Cell, finetune: FinetuneRecord) -> dict[str, str] | None:
    """The training mixture as MLflow's data set; its digest is cut to MLflow's length."""
    if not finetune.data_sha256:
        return None
    mixture = {
        "num_rows": finetune.examples,
        "pools": study.tracks[cell.track].train,
        "sha256": finetune.data_sha256,
    }
    return {
        "name": f"{cell.track} training examples",
        "digest": finetune.data_sha256[:DIGEST_LENGTH],
        "source_type": "local",
        "source": canonical_json({"uri": f"data/{cell.track}/seed{cell.seed}.jsonl"}),
        "profile": canonical_json(mixture),
    }


def _curves(path: Path, times: tuple[int, int]) -> dict[str, list[tuple[int, int, float]]]:
    """Curves of history.jsonl as (step, time, value), each thinned to CURVE_POINTS."""
    rows = history_of(path)
    stride = -(-len(rows) // CURVE_POINTS) or 1
    rows = [*rows[:-1:stride], *rows[-1:]]
    return {
        name: [
            (row.step, min(times[0] + round(1000 * (row.seconds or 0.0)), times[1]), value)
            for row in rows
            if (value := value_of(row)) is not None
        ]
        for name, value_of in CURVES.items()
    }


def _answers_page(
    questions: list[Question], answers: list[Answer], judgments: list[Judgment]
) -> str:
    """A page with each turn's question and answer beside the judgment and its score."""
    known = {question["question_id"]: question for question in questions}
    judged: dict[tuple[int, int], list[Judgment]] = {}
    for row in judgments:
        judged.setdefault((row["question_id"], row["turn"]), []).append(row)
    lines = []
    for answer in answers:
        question = known[answer["question_id"]]
        for turn, text in enumerate(answer["choices"][0]["turns"], start=1):
            rows = judged.get((answer["question_id"], turn), [])
            words = "\n\n".join(row["judgment"] for row in rows)
            scores = ", ".join(str(row["score"]) for row in rows)
            head = f"{question['question_id']}.{turn} {question['category']}"
            cells = (head, question["turns"][turn - 1], text, words, scores)
            lines.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    header = "".join(
        f"<th>{name}</th>" for name in ("turn", "question", "answer", "judgment", "score")
    )
    style = (
        "body{font:14px sans-serif}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:6px;vertical-align:top;white-space:pre-wrap}"
    )
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return (
        f"<!doctype html><meta charset='utf-8'><style>{style}</style>"
        f"<table><tr>{header}</tr>\n{body}</table>\n"
    )


def _times(made: Made, path: Path) -> tuple[int, int]:
    """Return start and end of what a Record tells of; BadInput where it does not say."""
    if made.started is None or made.ended is None:
        key = "started" if made.started is None else "ended"
        raise BadInput(f"{path}: {key}: this key is required")
    return _milliseconds(made.started), _milliseconds(made.ended)


def _span(times: Iterable[tuple[int, int]]) -> tuple[int, int]:
    starts, ends = zip(*times, strict=True)
    return min(starts), max(ends)


def _milliseconds(iso: str) -> int:
    """Unix milliseconds of an ISO 8601 time; one without a zone is UTC."""
    when = datetime.fromisoformat(iso)
    return round(1000 * (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def _gib(count: int | None) -> float | None:
    return None if count is None else count / GIB
