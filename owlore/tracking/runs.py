"""What a cell, and the whole study, show as MLflow runs: result files in, `Run` records out."""

import html
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput
from owlore.core.files import canonical_json, flattened, read_json, read_jsonl, sha256_text
from owlore.study.benchmarks import FAMILIES, LM_EVAL
from owlore.study.config import Cell, Study
from owlore.tracking.store import DIGEST_LENGTH, NOTE, STAGE, Run

GIB = 2**30
CURVES = ("loss", "learning_rate", "grad_norm", "tokens_per_second")  # columns of history.jsonl
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
    results = {name: read_json(path) for name, path in zip(names, files, strict=True)}
    finetune = results["finetune"]
    identity = {"method": cell.method, "model": cell.model, "track": cell.track, "seed": cell.seed}
    shared: dict[str, Any] = {
        "params": identity | flattened(finetune["config"]),
        "tags": _provenance(finetune) | _machine(root),
        "dataset": _dataset(study, cell, finetune),
    }
    title = cell.method if cell.seed is None else f"{cell.method} seed{cell.seed}"
    totals = _training_metrics(finetune)
    children = {}
    if finetune["steps"]:  # the base model was not trained
        history = root / cell.path / "history.jsonl"
        children["finetune"] = Run(
            name=f"finetune: {title}",
            times=_times(finetune),
            metrics={f"finetune/{name}": value for name, value in totals.items()},
            curves=_curves(history, _times(finetune)),
            files=(("", files[0]), ("", history)),
            **shared,
        )
    for name, path in zip(names[1:], files[1:], strict=True):
        if name in LM_EVAL:
            children[name] = _lm_eval_run(root, title, results[name], path, identity)
        else:
            answers = root / cell.path / "mtbench" / "answers.jsonl"
            shown = name.removesuffix("/mtbench")  # "mtbench", or "mtbench/<further judge>"
            children[shown] = _mtbench_run(root, title, results[name], path, identity, answers)
    note = f"Curves, scores per task and answers are in the child runs: {', '.join(children)}."
    if "mtbench" in results:
        note += f"\n\nMT-Bench: {results['mtbench']['judge']['label']}."
    shared["tags"] = shared["tags"] | {STAGE: "cell", NOTE: note}
    return Run(
        name=f"{title} ({cell.model}, {cell.track})",
        times=_span(_times(result) for result in results.values()),
        metrics=totals
        | {"tokens_per_second": finetune["tokens_per_second"]}
        | {
            family.metric: results[name][family.headline]
            for name, family in FAMILIES.items()
            if name in results
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
    manifest = read_json(root / "manifest.json")
    results = [path for cell in study.cells() for path in cell_files(study, root, cell)]
    times = [_times(read_json(path)) for path in results if path.exists()]
    started = _milliseconds(manifest["started"])
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
        tags=_provenance(manifest)
        | _machine(root)
        | {STAGE: "study", NOTE: f"{study.description}\n\nReport, tables and figures: Artifacts."},
        files=tuple(files),
    )


def _training_metrics(finetune: Mapping[str, Any]) -> dict[str, float | None]:
    """Totals of a training; sizes in GiB, times in seconds."""
    memory = finetune["memory_bytes"]
    trainable, total = finetune["trainable_parameters"], finetune["total_parameters"]
    return {
        "peak_gib": _gib(finetune["peak_bytes"]),
        "weights_gib": _gib(memory["weights"]),
        "gradients_gib": _gib(memory["gradients"]),
        "optimizer_gib": _gib(memory["optimizer"]),
        "checkpoint_gib": _gib(finetune["checkpoint_bytes"]),
        "seconds": finetune["seconds"],
        "projector_seconds": finetune["projector_seconds"],
        "tokens": finetune["tokens"],
        "steps": finetune["steps"],
        "first_loss": finetune["first_loss"],
        "final_loss": finetune["final_loss"],
        "trainable_parameters": trainable,
        "trainable_percent": 100 * trainable / total,
    }


def _lm_eval_run(
    root: Path, title: str, result: dict[str, Any], path: Path, identity: dict[str, Any]
) -> Run:
    benchmark, scores = path.stem, result["tasks"].values()
    metrics = {
        f"{benchmark}/average": result["average"],
        f"{benchmark}/average_stderr": result["average_stderr"],
        f"{benchmark}/seconds": result["seconds"],
    }
    for task, score in result["tasks"].items():
        metrics[f"{benchmark}/{task}"] = score["value"]
        metrics[f"{benchmark}/{task}_stderr"] = score["stderr"]
    params = {
        **_pick(result, ("split", "engine", "dtype", "lm_eval_version")),
        "eval_seed": result["seed"],
        "num_fewshot": _distinct(score["num_fewshot"] for score in scores),
        "metric": _distinct(score["metric"] for score in scores),
        "tasks": len(result["tasks"]),
        "questions": sum(score["n"] for score in scores),
    }
    return Run(
        name=f"{benchmark}: {title}",
        times=_times(result),
        params=identity | params,
        metrics=metrics,
        tags=_provenance(result) | _machine(root),
        files=(("", path),),
    )


def _mtbench_run(
    root: Path,
    title: str,
    result: dict[str, Any],
    path: Path,
    identity: dict[str, Any],
    answers: Path,
) -> Run:
    """The run of one judge: of the headline, beside whose scores the answers lie, or a further."""
    further = path.parent == answers.parent / path.parent.name
    judge = f" by {path.parent.name}" if further else ""
    judgments = (path.parent if further else answers.parent) / "judgments.jsonl"
    questions = root / "questions" / "mtbench" / "question.jsonl"
    page = _answers_page(read_jsonl(questions), read_jsonl(answers), read_jsonl(judgments))
    names = ("reference_set", "prompt_version", "prompts_sha256", "questions", "max_new_tokens")
    params = _pick(result, (*names, "n", "judgings"))
    counted = ("overall", "turn_1", "turn_2", "failed", "unrated", "judgings_sd", "seconds")
    metrics = _pick(result, counted) | result["categories"]
    return Run(
        name=f"mtbench{judge}: {title}",
        times=_times(result),
        params=identity | params | flattened({"judge": result["judge"]}),
        metrics={f"mtbench/{name}": value for name, value in metrics.items()},
        tags=_provenance(result) | _machine(root) | {"mtbench_comparable": result["comparable"]},
        files=(("", path), ("", answers), ("", judgments)),
        texts={"answers_and_judgments.html": page},
    )


def _provenance(result: Mapping[str, Any]) -> dict[str, Any]:
    """Tags that say what made a result; absent or null keys make no tag."""
    hashes = ("weights_sha256", "base_sha256", "data_sha256", "outliers_sha256", "study_sha256")
    tags = _pick(result, (*hashes, "lock_sha256", "device", "threads"))
    tags |= {f"version.{name}": version for name, version in result["versions"].items()}
    if "config" in result:
        tags["config_sha256"] = sha256_text(canonical_json(result["config"]))
    commit, dirty = result["git"]["commit"], result["git"]["dirty"]
    tags |= {"git_commit": commit, "git_dirty": dirty, "mlflow.source.git.commit": commit}
    return tags | {"mlflow.source.name": "owlore", "mlflow.source.type": "LOCAL"}


def _machine(root: Path) -> dict[str, Any]:
    path = root / "manifest.json"
    machine = read_json(path)["machine"] if path.exists() else {}
    return {f"machine.{name}": value for name, value in machine.items()}


def _dataset(study: Study, cell: Cell, finetune: Mapping[str, Any]) -> dict[str, str] | None:
    """The training mixture as MLflow's data set; its digest is cut to MLflow's length."""
    if not finetune["data_sha256"]:
        return None
    mixture = {
        "num_rows": finetune["examples"],
        "pools": study.tracks[cell.track].train,
        "sha256": finetune["data_sha256"],
    }
    return {
        "name": f"{cell.track} training examples",
        "digest": finetune["data_sha256"][:DIGEST_LENGTH],
        "source_type": "local",
        "source": canonical_json({"uri": f"data/{cell.track}/seed{cell.seed}.jsonl"}),
        "profile": canonical_json(mixture),
    }


def _curves(path: Path, times: tuple[int, int]) -> dict[str, list[tuple[int, int, float]]]:
    """Curves of history.jsonl as (step, time, value), each thinned to CURVE_POINTS."""
    rows = read_jsonl(path)
    stride = -(-len(rows) // CURVE_POINTS) or 1
    rows = [*rows[:-1:stride], *rows[-1:]]
    return {
        name: [
            (row["step"], min(times[0] + round(1000 * row["seconds"]), times[1]), row[name])
            for row in rows
            if row[name] is not None
        ]
        for name in CURVES
    }


def _answers_page(
    questions: list[dict[str, Any]], answers: list[dict[str, Any]], judgments: list[dict[str, Any]]
) -> str:
    """A page with each turn's question and answer beside the judgment and its score."""
    known = {question["question_id"]: question for question in questions}
    judged: dict[tuple[int, int], list[dict[str, Any]]] = {}
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


def _times(result: Mapping[str, Any]) -> tuple[int, int]:
    return _milliseconds(result["started"]), _milliseconds(result["ended"])


def _span(times: Iterable[tuple[int, int]]) -> tuple[int, int]:
    starts, ends = zip(*times, strict=True)
    return min(starts), max(ends)


def _milliseconds(iso: str) -> int:
    """Unix milliseconds of an ISO 8601 time; one without a zone is UTC."""
    when = datetime.fromisoformat(iso)
    return round(1000 * (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def _pick(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def _gib(count: int | None) -> float | None:
    return None if count is None else count / GIB
