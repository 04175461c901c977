"""Everything a finished study left on disk, read once and checked before anybody counts on it.

    results = load(study, Path("results/embedded"))
    for cell in results.of(Group("mini", "smollm2-135m"), "owlore"):   # one entry a seed
        print(cell.finetune["seconds"], cell.headline("commonsense"))

Tables, figures and the report are projections of this and read no file of a cell themselves.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import read_json, read_jsonl
from owlore.records.evaluation import CORRECT
from owlore.study.benchmarks import FAMILIES, LM_EVAL
from owlore.study.config import Cell, Study

SAMPLE_COLUMNS = ["task", "doc_id", "doc_hash", "cluster", "correct", "correct_norm"]


class Group(NamedTuple):
    """Methods are compared inside one of these, never across."""

    track: str
    model: str


@dataclass(frozen=True)
class Judged:
    """What one judge made of a cell's MT-Bench answers: mtbench.json and judgments.jsonl."""

    scores: dict[str, Any]
    judgments: list[dict[str, Any]]


@dataclass(frozen=True)
class CellResults:
    """One cell: the parsed files of its folder (fields as in the design's contract)."""

    cell: Cell
    finetune: dict[str, Any]
    history: list[dict[str, Any]]
    benchmarks: dict[str, dict[str, Any]]
    samples: dict[str, pd.DataFrame]  # one row a question, sorted by (task, doc_id)
    judgments: list[dict[str, Any]]  # of the headline judge
    further: dict[str, Judged] = field(default_factory=dict)  # by the judge's name

    def judged_by(self, name: str) -> Judged:
        """Scores and judgments of one of MT-Bench's judges; the headline's name is empty."""
        return self.further[name] if name else Judged(self.benchmarks["mtbench"], self.judgments)

    def headline(self, benchmark: str) -> float:
        """The score that stands for a benchmark; nan where a judge gave no score at all."""
        score = self.benchmarks[benchmark][FAMILIES[benchmark].headline]
        return math.nan if score is None else float(score)

    @property
    def group(self) -> Group:
        """What the cell is compared in."""
        return Group(self.cell.track, self.cell.model)

    @property
    def seed(self) -> int:
        """The cell's seed; the base model, which has none, is in seed0."""
        return self.cell.seed or 0


@dataclass(frozen=True, eq=False)
class Results:
    """A whole study; `contamination` by track, `outliers` and `memory` by model.

    Outliers and memory are there only where their files are.

    Two loads are never equal, so that what is computed from one can be cached by it.
    """

    study: Study
    root: Path
    manifest: dict[str, Any] | None
    cells: list[CellResults]
    outliers: dict[str, dict[str, Any]]
    memory: dict[str, dict[str, Any]]
    contamination: dict[str, dict[str, Any]] = field(default_factory=dict)
    mtbench_questions: dict[int, dict[str, Any]] = field(default_factory=dict)  # by question_id

    @property
    def groups(self) -> list[Group]:
        """Every track with every model."""
        return [Group(track, model) for track in self.study.tracks for model in self.study.models]

    def of(self, group: Group, method: str) -> list[CellResults]:
        """The cells of a method, one a seed (the base model has one)."""
        return [
            entry for entry in self.cells if entry.group == group and entry.cell.method == method
        ]

    def scored(self, benchmark: str) -> list[Group]:
        """The groups whose track is scored on `benchmark`."""
        tracks = self.study.tracks
        return [group for group in self.groups if benchmark in tracks[group.track].benchmarks]


def load(study: Study, root: Path) -> Results:
    """Read and check every result of `study` below `root` (that is `results/<study>`).

    Raises:
        BadInput: a file is missing; the message names it and the target that makes it.
        OwloreError: a file contradicts another: scores of other weights, samples that do not give
            the printed score, or methods that answered different questions.
    """
    cells = [_load_cell(study, root, cell) for cell in study.cells()]
    results = Results(
        study=study,
        root=root,
        manifest=_if_there(root / "manifest.json"),
        cells=cells,
        outliers=dict(_by_model(study, root, "outliers")),
        memory=dict(_by_model(study, root, "memory")),
        contamination={
            track: _read(root / "contamination" / f"{track}.json", "contamination")
            for track in study.tracks
        },
        mtbench_questions=_mtbench_questions(study, root),
    )
    for cell in study.cells():
        needs = study.method(cell.method, cell.track, cell.model).needs_outliers
        if needs and cell.model not in results.outliers:
            raise _missing(root / "outliers" / f"{cell.model}.json", "outliers")
    for benchmark in LM_EVAL:
        for group in results.scored(benchmark):
            _check_same_questions(results, group, benchmark)
    for entry in cells:
        _check_contamination(results, entry)
    return results


def _load_cell(study: Study, root: Path, cell: Cell) -> CellResults:
    folder = root / cell.path
    track = study.tracks[cell.track]
    finetune = _read(folder / "finetune.json", "finetune")
    history_file = folder / "history.jsonl"
    trained = study.method(cell.method, cell.track, cell.model).trains
    if trained and not history_file.exists():
        raise _missing(history_file, "finetune")

    benchmarks, samples = {}, {}
    for name in track.benchmarks:
        path = folder / f"{name}.json"
        benchmarks[name] = _read(path, name)
        _check_weights(path, benchmarks[name], folder / "finetune.json", finetune)
        if name in LM_EVAL:
            samples[name] = _read_samples(folder / "samples" / f"{name}.parquet", name)
            _check_scores(path, benchmarks[name], samples[name])
    further = {}
    for name in track.mtbench.further_judges if track.mtbench is not None else ():
        path = folder / "mtbench" / name / "mtbench.json"
        scores = _read(path, "mtbench")
        _check_weights(path, scores, folder / "finetune.json", finetune)
        further[name] = Judged(scores, _judgments(path.parent))
    return CellResults(
        cell=cell,
        finetune=finetune,
        history=read_jsonl(history_file) if history_file.exists() else [],
        benchmarks=benchmarks,
        samples=samples,
        judgments=_judgments(folder / "mtbench") if track.mtbench is not None else [],
        further=further,
    )


def _judgments(folder: Path) -> list[dict[str, Any]]:
    path = folder / "judgments.jsonl"
    if not path.exists():
        raise _missing(path, "mtbench")
    return read_jsonl(path)


def _mtbench_questions(study: Study, root: Path) -> dict[int, dict[str, Any]]:
    """MT-Bench's questions by their ids; none where no track asks them."""
    if not any(track.mtbench for track in study.tracks.values()):
        return {}
    path = root / "questions" / "mtbench" / "question.jsonl"
    if not path.exists():
        raise _missing(path, "mtbench")
    return {row["question_id"]: row for row in read_jsonl(path)}


def _check_weights(
    path: Path, scores: dict[str, Any], trained: Path, finetune: dict[str, Any]
) -> None:
    """The scores are those of the weights that finetune.json has."""
    scored = _field(path, scores, "weights_sha256")
    trained_to = _field(trained, finetune, "weights_sha256")
    if scored != trained_to:
        raise OwloreError(
            f"{path}: scored on weights {scored[:12]}…, but finetune.json beside it has "
            f"{trained_to[:12]}…; `snakemake --cores all {path}` scores it again"
        )


def _read_samples(path: Path, target: str) -> pd.DataFrame:
    if not path.exists():
        raise _missing(path, target)
    try:
        there = pq.read_schema(path).names
        extra = [name for name in ("subject", "correct_flexible") if name in there]
        samples = pd.read_parquet(path, columns=[*SAMPLE_COLUMNS, *extra])
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a samples file ({error})") from None
    samples = samples.sort_values(["task", "doc_id"], ignore_index=True)
    if samples.duplicated(["task", "doc_id"]).any():
        raise OwloreError(f"{path}: a question (task, doc_id) is there twice")
    return samples


def _check_scores(path: Path, summary: dict[str, Any], samples: pd.DataFrame) -> None:
    """The score of each task is the mean of its samples; the average weighs the tasks equally."""
    tasks = _field(path, summary, "tasks")
    if set(tasks) != set(samples["task"]):
        raise OwloreError(f"{path}: its tasks are not those of samples/{path.stem}.parquet")
    for task, score in tasks.items():
        of_task = samples[samples["task"] == task]
        mean = of_task[CORRECT[score["metric"]]].astype(float).mean()
        if len(of_task) != score["n"] or not np.isclose(mean, score["value"], atol=1e-6):
            raise OwloreError(
                f"{path}: {task}: {score['metric']} {score['value']} over {score['n']} questions, "
                f"but its samples give {mean} over {len(of_task)}"
            )
    mean = float(np.mean([score["value"] for score in tasks.values()]))
    if not np.isclose(mean, _field(path, summary, "average"), atol=1e-6):
        raise OwloreError(f"{path}: average: {summary['average']} is not the mean of its tasks")


def _check_same_questions(results: Results, group: Group, benchmark: str) -> None:
    """Paired tests need the same questions, in the same order, for every method and seed."""
    keys = ["task", "doc_id", "doc_hash", "cluster"]
    first: CellResults | None = None
    for entry in results.cells:
        if entry.group != group:
            continue
        if first is None:
            first = entry
        elif not entry.samples[benchmark][keys].equals(first.samples[benchmark][keys]):
            raise OwloreError(
                f"{results.root / entry.cell.path}: {benchmark}: its questions are not those of "
                f"{first.cell.path}; score both again with one version of the questions"
            )


def _check_contamination(results: Results, entry: CellResults) -> None:
    """The check looked at what the cell was trained on and at the questions that it was asked."""
    track, seed = entry.cell.track, entry.cell.seed
    path = results.root / "contamination" / f"{track}.json"
    found = results.contamination[track]
    trained_on = entry.finetune.get("data_sha256")
    if trained_on and _field(path, found, "training_sha256").get(f"seed{seed}") != trained_on:
        raise OwloreError(
            f"{path}: not a check of the rows that {entry.cell.path} was trained on; "
            f"`snakemake --cores all {path}` makes it again"
        )
    for benchmark, samples in entry.samples.items():
        asked = {task: set(ids) for task, ids in samples.groupby("task")["doc_id"]}
        checked = _field(path, found, "benchmarks").get(benchmark, {})
        if {task: one["n"] for task, one in checked.items()} != {
            task: len(ids) for task, ids in asked.items()
        } or any(not asked[task].issuperset(one["doc_ids"]) for task, one in checked.items()):
            raise OwloreError(
                f"{path}: {benchmark}: not a check of the questions of {entry.cell.path}; "
                f"`snakemake --cores all {path}` makes it again"
            )


def _by_model(study: Study, root: Path, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for model in study.models:
        found = _if_there(root / folder / f"{model}.json")
        if found is not None:
            yield model, found


def _read(path: Path, target: str) -> dict[str, Any]:
    found = _if_there(path)
    if found is None:
        raise _missing(path, target)
    return found


def _if_there(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found = read_json(path)
    if not isinstance(found, dict):
        raise BadInput(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _missing(path: Path, target: str) -> BadInput:
    return BadInput(f"{path}: no such file; `snakemake --cores all {target}` makes it")


def _field(path: Path, found: dict[str, Any], key: str) -> Any:
    if key not in found:
        raise OwloreError(f"{path}: {key} is missing")
    return found[key]
