"""Everything a finished study left on disk, read once and checked before anybody counts on it.

    results = load(study, Path("results/embedded"))
    for cell in results.of(Group("mini", "smollm2-135m"), "owlore"):   # one entry a seed
        print(cell.finetune.seconds, cell.headline("commonsense"))

Tables, figures and the report are projections of this and read no file of a cell themselves.
Results that do not prove what the study asks now are refused, see `owlore.compare.state`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from owlore.compare import state
from owlore.compare.rows import history_of, judgments_of, questions_of
from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import read_json
from owlore.core.parsing import parse
from owlore.evaluate.metrics import CORRECT
from owlore.records.base import Part
from owlore.records.contamination import ContaminationRecord
from owlore.records.evaluation import EvaluationRecord
from owlore.records.finetune import FinetuneRecord, HistoryRow
from owlore.records.memory import MemoryRecord
from owlore.records.mtbench import JudgedRecord, Judgment, Question
from owlore.records.outliers import OutliersRecord
from owlore.records.study import Manifest
from owlore.study.benchmarks import LM_EVAL
from owlore.study.config import Cell, Study

SAMPLE_COLUMNS = ["task", "doc_id", "doc_hash", "cluster", "correct", "correct_norm"]
RESOURCES = Path("resources")  # where the workflow keeps base models
SHOWN = 10  # files that a refusal names

AnyPart = TypeVar("AnyPart", bound=Part)


class Group(NamedTuple):
    """Methods are compared inside one of these, never across."""

    track: str
    model: str


@dataclass(frozen=True)
class Judged:
    """What one judge made of a cell's MT-Bench answers: mtbench.json and judgments.jsonl."""

    scores: JudgedRecord
    judgments: list[Judgment]


@dataclass(frozen=True)
class CellResults:
    """One cell: the Records of its folder, see results/README.md."""

    cell: Cell
    finetune: FinetuneRecord
    history: list[HistoryRow]
    scores: dict[str, EvaluationRecord]  # by the lm-eval benchmark
    samples: dict[str, pd.DataFrame]  # likewise; one row a question, sorted by (task, doc_id)
    judged: dict[str, Judged]  # by the judge's name, the headline's is empty

    def headline(self, benchmark: str) -> float:
        """The score that stands for a benchmark; nan where a judge gave no score at all."""
        if benchmark in LM_EVAL:
            return self.scores[benchmark].headline
        score = self.judged[""].scores.headline
        return math.nan if score is None else score

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
    manifest: Manifest | None
    cells: list[CellResults]
    outliers: dict[str, OutliersRecord]
    memory: dict[str, MemoryRecord]
    contamination: dict[str, ContaminationRecord] = field(default_factory=dict)
    mtbench_questions: dict[int, Question] = field(default_factory=dict)  # by question_id
    states: list[state.Result] = field(default_factory=list)  # what each result proves

    @property
    def accepted(self) -> list[state.Result]:
        """The results of other code that are taken on somebody's word."""
        return [result for result in self.states if result.accepted]

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


def load(study: Study, root: Path, resources: Path = RESOURCES) -> Results:
    """Read every result of `study`, checked, and proven to be what the study asks.

    Args:
        study: a checked study.
        root: its results folder.
        resources: folder with `models/<name>`; of a base model that is not there the results' own
            word is taken.

    Raises:
        BadInput: see `read`.
        OwloreError: see `read`; or a result does not prove what the study asks.
    """
    results = read(study, root, resources)
    _refuse(state.unfit(results.states))
    return results


def read(study: Study, root: Path, resources: Path = RESOURCES) -> Results:
    """Read and check every result of `study` below `root` (that is `results/<study>`).

    What they prove is only looked at, see `Results.states`. The arguments are those of `load`.

    Raises:
        BadInput: a file is missing (the message names it and the target that makes it), or it is
            not what its name says.
        OwloreError: a file contradicts another: scores of other weights, samples that do not give
            the printed score, or methods that answered different questions.
    """
    cells = [_load_cell(study, root, cell) for cell in study.cells()]
    manifest = root / "manifest.json"
    results = Results(
        study=study,
        root=root,
        manifest=parse(Manifest, read_json(manifest), str(manifest)) if manifest.exists() else None,
        cells=cells,
        outliers=_by_model(OutliersRecord, study, root / "outliers"),
        memory=_by_model(MemoryRecord, study, root / "memory"),
        contamination={
            track: _read(
                ContaminationRecord, root / "contamination" / f"{track}.json", "contamination"
            )
            for track in study.tracks
        },
        mtbench_questions=_mtbench_questions(study, root),
        states=state.of(study, root, resources),
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


def _refuse(unfit: Sequence[state.Result]) -> None:
    """Stop tables of a mixture: numbers of other settings, inputs or code under one title."""
    if not unfit:
        return
    files = [str(result.path) for result in unfit]
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    raise OwloreError(
        f"results that do not prove what the study asks: {'; '.join(state.told(unfit))}: "
        f"{', '.join(files[:SHOWN])}{more}. `owlore run` makes them again, `owlore accept` takes "
        "those of other code as they are"
    )


def _load_cell(study: Study, root: Path, cell: Cell) -> CellResults:
    folder = root / cell.path
    track = study.tracks[cell.track]
    finetune = _read(FinetuneRecord, folder / "finetune.json", "finetune")
    history_file = folder / "history.jsonl"
    trained = study.method(cell.method, cell.track, cell.model).trains
    if trained and not history_file.exists():
        raise _missing(history_file, "finetune")
    scores, samples = {}, {}
    for name in track.lm_eval_benchmarks:
        path = folder / f"{name}.json"
        scores[name] = _read(EvaluationRecord, path, name)
        _check_weights(path, scores[name], finetune)
        samples[name] = _read_samples(folder / "samples" / f"{name}.parquet", name)
        _check_scores(path, scores[name], samples[name])
    judged = {}
    for name in track.mtbench.judges if track.mtbench is not None else ():
        beside = folder / "mtbench" / name  # the headline's scores lie in the cell itself
        path = (beside if name else folder) / "mtbench.json"
        graded = _read(JudgedRecord, path, "mtbench")
        _check_weights(path, graded, finetune)
        judgments = beside / "judgments.jsonl"
        if not judgments.exists():
            raise _missing(judgments, "mtbench")
        judged[name] = Judged(graded, judgments_of(judgments))
    return CellResults(
        cell=cell,
        finetune=finetune,
        history=history_of(history_file) if history_file.exists() else [],
        scores=scores,
        samples=samples,
        judged=judged,
    )


def _mtbench_questions(study: Study, root: Path) -> dict[int, Question]:
    """MT-Bench's questions by their ids; none where no track asks them."""
    if not any(track.mtbench for track in study.tracks.values()):
        return {}
    path = root / "questions" / "mtbench" / "question.jsonl"
    if not path.exists():
        raise _missing(path, "mtbench")
    return {row["question_id"]: row for row in questions_of(path)}


def _check_weights(
    path: Path, scores: EvaluationRecord | JudgedRecord, finetune: FinetuneRecord
) -> None:
    """The scores are those of the weights that finetune.json has."""
    scored, trained_to = scores.weights_sha256, finetune.weights_sha256
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


def _check_scores(path: Path, record: EvaluationRecord, samples: pd.DataFrame) -> None:
    """The score of each task is the mean of its samples; the average weighs the tasks equally."""
    if set(record.tasks) != set(samples["task"]):
        raise OwloreError(f"{path}: its tasks are not those of samples/{path.stem}.parquet")
    for task, score in record.tasks.items():
        of_task = samples[samples["task"] == task]
        if score.metric not in CORRECT:
            raise BadInput(
                f"{path}: tasks.{task}.metric: {score.metric!r}: allowed {', '.join(CORRECT)}"
            )
        mean = of_task[CORRECT[score.metric]].astype(float).mean()
        if len(of_task) != score.n or not np.isclose(mean, score.value, atol=1e-6):
            raise OwloreError(
                f"{path}: {task}: {score.metric} {score.value} over {score.n} questions, "
                f"but its samples give {mean} over {len(of_task)}"
            )
    mean = float(np.mean([score.value for score in record.tasks.values()]))
    if not np.isclose(mean, record.average, atol=1e-6):
        raise OwloreError(f"{path}: average: {record.average} is not the mean of its tasks")


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
    check = results.contamination[track]
    trained_on = entry.finetune.data_sha256
    if trained_on and check.training_sha256.get(f"seed{seed}") != trained_on:
        raise OwloreError(
            f"{path}: not a check of the rows that {entry.cell.path} was trained on; "
            f"`snakemake --cores all {path}` makes it again"
        )
    for benchmark, samples in entry.samples.items():
        asked = {task: set(ids) for task, ids in samples.groupby("task")["doc_id"]}
        checked = check.benchmarks.get(benchmark, {})
        if {task: overlap.n for task, overlap in checked.items()} != {
            task: len(ids) for task, ids in asked.items()
        } or any(not asked[task].issuperset(part.doc_ids) for task, part in checked.items()):
            raise OwloreError(
                f"{path}: {benchmark}: not a check of the questions of {entry.cell.path}; "
                f"`snakemake --cores all {path}` makes it again"
            )


def _by_model(kind: type[AnyPart], study: Study, folder: Path) -> dict[str, AnyPart]:
    paths = {model: folder / f"{model}.json" for model in study.models}
    return {
        model: parse(kind, read_json(path), str(path))
        for model, path in paths.items()
        if path.exists()
    }


def _read(kind: type[AnyPart], path: Path, target: str) -> AnyPart:
    """Read a file that must be there; the error names the target that makes it."""
    if not path.exists():
        raise _missing(path, target)
    return parse(kind, read_json(path), str(path))


def _missing(path: Path, target: str) -> BadInput:
    return BadInput(f"{path}: no such file; `snakemake --cores all {target}` makes it")
