"""Which results of a study prove what the study asks now, and why the others do not.

    for result in state.of(study, Path("results/embedded"), Path("resources")):
        print(result.rule, result.path, result.why or "fits")

Read are the Records and the receipts alone: no model, no table of questions. The proof of a result
is its Job, the code behind it, and what was read of its inputs (see `owlore.records.proof`); what
Snakemake remembers plays no part, so that a lost `.snakemake` folder, purged scratch space or a
copied results folder neither retrain anything nor pass for what they are not.
"""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from owlore.core.errors import BadInput
from owlore.evaluate import questions_read
from owlore.records import proof
from owlore.records.base import Job, Proof, Record
from owlore.records.contamination import ContaminationJob, ContaminationRecord
from owlore.records.data import DataJob, DataRecord
from owlore.records.evaluation import EvaluationJob, EvaluationRecord
from owlore.records.finetune import FinetuneJob, FinetuneRecord
from owlore.records.memory import MemoryJob, MemoryRecord
from owlore.records.mtbench import AnswerJob, AnswersRecord, JudgedRecord, JudgeJob
from owlore.records.outliers import OutliersJob, OutliersRecord
from owlore.records.questions import QuestionsJob, QuestionsRecord
from owlore.records.sources import ModelJob, ModelRecord
from owlore.records.stages import MODULES
from owlore.study.config import Cell, Study

MISSING = "missing"
TRAINING = ("base", "train")
SCORING = ("evaluate", "answer", "judge")
RECORDS: dict[str, type[Record]] = {  # what each rule writes
    "questions": QuestionsRecord,
    "base_model": ModelRecord,
    "training_data": DataRecord,
    "score_outliers": OutliersRecord,
    "check_overlap": ContaminationRecord,
    "simulate": MemoryRecord,
    "base": FinetuneRecord,
    "train": FinetuneRecord,
    "evaluate": EvaluationRecord,
    "answer": AnswersRecord,
    "judge": JudgedRecord,
}


@dataclass(frozen=True)
class Result:
    """One result file of a study.

    Attributes:
        rule: the workflow's rule that makes it.
        path: the Record.
        what: whose it is: a cell, a model or a track.
        why: in plain words why it does not prove what is asked; "missing"; empty if it does.
        asked: what it has to prove.
        accepted: where it fits by somebody's word alone, the reason that they gave.
    """

    rule: str
    path: Path
    what: str
    why: str
    asked: Proof
    accepted: str = ""


def of(study: Study, root: Path, resources: Path) -> list[Result]:
    """Return every result that the study asks for, in the order in which they are made.

    Args:
        study: a checked study.
        root: `results/<study>`.
        resources: folder with `models/<name>`.
    """
    results = []
    for rule, job, path, what, read in _asked(study, root, resources):
        before, broken = _proof_of(RECORDS[rule], path)
        recorded = before.read if before is not None else {}
        # Of what is not known now, the Record's word is taken.
        known = {name: value for name, value in read.items() if value is not None}
        now = proof.of(job, MODULES[rule], recorded | known)
        why = broken or proof.misfit(before, now) or proof.altered(before, path.parent)
        word = "" if why else _word_for(before, now)
        results.append(Result(rule, path, what, why, now, word))
    return results


def unfit(results: Iterable[Result]) -> list[Result]:
    """Return the results that are there and prove something else."""
    return [result for result in results if result.why not in ("", MISSING)]


def told(results: Iterable[Result]) -> list[str]:
    """Say why each stage runs again: "train: 6 cells, code changed: owlore/optim/lowrank.py"."""
    whose: dict[tuple[str, str], set[str]] = {}
    for result in unfit(results):
        whose.setdefault((result.rule, result.why), set()).add(result.what)
    return [_line(rule, names, why) for (rule, why), names in whose.items()]


def to_make(results: Iterable[Result]) -> list[str]:
    """Say what is made for the first time, and what may follow from what is made again."""
    every = list(results)
    first: dict[str, set[str]] = {}
    for result in every:
        if result.why == MISSING:
            first.setdefault(result.rule, set()).add(result.what)
    again = {r.what for r in every if r.rule in TRAINING and r.why}
    after: dict[str, set[str]] = {}
    for result in every:
        if result.rule in SCORING and not result.why and result.what in again:
            after.setdefault(result.rule, set()).add(result.what)
    lines = [_line(rule, names, "not made yet") for rule, names in first.items()]
    reason = "made again if the weights come out differently"
    return lines + [_line(rule, names, reason) for rule, names in after.items()]


def _line(rule: str, names: set[str], why: str) -> str:
    noun = "cell" if rule in (*TRAINING, *SCORING) else "result"
    return f"{rule}: {len(names)} {noun if len(names) == 1 else noun + 's'}, {why}"


def settle(results: Iterable[Result]) -> None:
    """Put the time stamps of results that fit into the order in which they were made.

    Where Snakemake has lost its records, it goes by time stamps alone, and those of a copied folder
    are those of the copying.
    """
    tiers = [_files(result) for result in results if not result.why]
    times = [[file.stat().st_mtime for file in files] for files in tiers]
    newest = 0.0
    in_order = True
    for stamps in filter(None, times):
        in_order = in_order and min(stamps) >= newest
        newest = max(newest, *stamps)
    if in_order:
        return
    start = time.time() - 1e-3 * len(tiers)
    for place, files in enumerate(tiers):
        for file in files:
            os.utime(file, (start + 1e-3 * place,) * 2)


def _files(result: Result) -> list[Path]:
    """The files that a rule has made: the Record, what was written with it, its receipt."""
    made = Record.load(result.path).proof
    names = list(made.made) if made is not None else []
    folder = result.path.parent
    receipts = [result.path.with_suffix(".sha256"), folder / "weights.sha256"]
    if result.rule in SCORING and result.rule != "answer":
        receipts = []  # the cell's, which is the training's
    there = [result.path, *(folder / name for name in names), *receipts]
    return [file for file in there if file.exists()]


def refuse(results: Iterable[Result], planned: Collection[str]) -> None:
    """Stop a plain `snakemake` that would leave results which prove something else.

    Args:
        results: those of `of`.
        planned: files that are about to be made anyway.

    Raises:
        BadInput: some result does not fit and is not planned; all of those are told.
    """
    left = [result for result in unfit(results) if str(result.path) not in planned]
    if left:
        raise BadInput(
            "results that do not prove what the study asks, and that Snakemake would leave as they "
            f"are: {'; '.join(told(left))}. `owlore run` makes them again, `owlore accept` takes "
            "those of other code as they are"
        )


Asked = tuple[str, Job, Path, str, dict[str, str | None]]


def _asked(study: Study, root: Path, resources: Path) -> Iterator[Asked]:
    """Yield rule, Job, Record's path, whose it is, and what would be read now (None: not known)."""
    questions = _receipt(root / "questions" / "questions.sha256")
    yield "questions", QuestionsJob.of(study), root / "questions" / "questions.json", "", {}
    for model in study.models:
        folder = resources / "models" / model
        yield "base_model", ModelJob.of(study, model), folder / "model.json", model, {}
    rows = {
        (track, seed): root / "data" / track / f"seed{seed}.json"
        for track in study.tracks
        for seed in study.seeds
    }
    for (track, seed), path in rows.items():
        yield "training_data", DataJob.of(study, track, seed), path, f"{track} seed{seed}", {}
    used = {cell.model for cell in study.cells() if _needs_outliers(study, cell)}
    for model in study.models:
        path = root / "outliers" / f"{model}.json"
        if model in used or path.exists():
            read = {"weights": _weights(resources, model)}
            yield "score_outliers", OutliersJob.of(study, model), path, model, read
    for track in study.tracks:
        read = {
            f"data/seed{seed}": _receipt(rows[track, seed].with_suffix(".sha256"))
            for seed in study.seeds
        }
        path = root / "contamination" / f"{track}.json"
        yield "check_overlap", ContaminationJob.of(study, track), path, track, read
    for model in study.models:
        path = root / "memory" / f"{model}.json"
        if path.exists():
            read = {
                f"data/{track}": _receipt(rows[track, study.seeds[0]].with_suffix(".sha256"))
                for track in study.tracks
            }
            yield "simulate", MemoryJob.of(study, model), path, model, read
    for cell in study.cells():
        yield from _of_cell(study, root, resources, cell, questions)


def _of_cell(
    study: Study, root: Path, resources: Path, cell: Cell, questions: str | None
) -> Iterator[Asked]:
    folder, track = root / cell.path, study.tracks[cell.track]
    read = {"base": _weights(resources, cell.model)}
    if cell.seed is not None:
        read["data"] = _receipt(root / "data" / cell.track / f"seed{cell.seed}.sha256")
    if _needs_outliers(study, cell):
        read["outliers"] = _receipt(root / "outliers" / f"{cell.model}.sha256")
    rule = "train" if cell.seed is not None else "base"
    yield rule, FinetuneJob.of(study, cell), folder / "finetune.json", cell.path, read
    weights = _trained_weights(folder / "finetune.json")
    for name, settings in track.lm_eval_benchmarks.items():
        read = {"weights": weights}
        local = settings.questions_in(root / "questions")
        if local is not None and local.is_dir():
            read["questions"] = questions_read.digest(local, settings.tasks)
        job = EvaluationJob.of(study, cell, name)
        yield "evaluate", job, folder / f"{name}.json", cell.path, read
    if track.mtbench is None:
        return
    path = folder / "mtbench" / "answers.json"
    yield "answer", AnswerJob.of(study, cell), path, cell.path, {"weights": weights}
    read = {"weights": weights, "answers": _receipt(path.with_suffix(".sha256"))}
    for judge in track.mtbench.judges:
        place = folder / "mtbench" / judge if judge else folder
        yield "judge", JudgeJob.of(study, cell, judge), place / "mtbench.json", cell.path, read


def _proof_of(kind: type[Record], path: Path) -> tuple[Proof | None, str]:
    """Return a result's proof, and what is wrong with its file, if anything."""
    if not path.exists():
        return None, MISSING
    try:
        return kind.load(path).proof, ""
    except BadInput as error:
        return None, f"not a result file ({str(error).removeprefix(f'{path}: ')})"


def _word_for(before: Proof | None, now: Proof) -> str:
    """Return why a result of other code was accepted; empty if it is of this code."""
    if before is None or before.accepted is None or before.code == now.code:
        return ""
    return before.accepted.because


def _needs_outliers(study: Study, cell: Cell) -> bool:
    return study.method(cell.method, cell.track, cell.model).needs_outliers


def _weights(resources: Path, model: str) -> str | None:
    return _receipt(resources / "models" / model / "weights.sha256")


def _trained_weights(path: Path) -> str | None:
    try:
        return FinetuneRecord.load(path).weights_sha256
    except BadInput:  # not there, or told of by itself
        return None


def _receipt(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip() if path.exists() else None
