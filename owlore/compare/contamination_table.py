"""The table of contamination: questions found in the training rows, and scores without them.

One row a track, model, benchmark and task. A score on the clean subset that is as good as the full
one says that the flagged questions were not what made it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from owlore.compare.comparisons import answers
from owlore.compare.results import Group, Results
from owlore.compare.table_formats import NOTHING, Column, Table, Value, number
from owlore.compare.table_parts import accepted_notes, lead_columns, seed_notes, shared
from owlore.records.contamination import Overlap
from owlore.study.benchmarks import FAMILIES, LM_EVAL


@dataclass(frozen=True)
class Scores:
    """A method's mean score on all questions of a task and on those not flagged.

    None where no question is left, or none was scored.
    """

    full: float | None
    clean: float | None


@dataclass(frozen=True)
class CheckedTask:
    """One row: what was found of a task, and what each method scores with it and without."""

    group: Group
    benchmark: str
    task: str
    overlap: Overlap
    scores: dict[str, Scores]  # by method

    def record(self) -> dict[str, Any]:
        """The row as the CSV has it, see `contamination_table`."""
        record: dict[str, Any] = {**self.group._asdict(), "benchmark": self.benchmark}
        record |= {"task": self.task} | self.overlap.model_dump(exclude={"doc_ids"})
        for method, scores in self.scores.items():
            record |= {f"{method}_full": scores.full, f"{method}_clean": scores.clean}
        return record


def contamination_table(results: Results) -> Table:
    """Return the table of flagged questions: counts, and each method's scores with and without.

    The records hold fractions, on MT-Bench the judge's scores: `<method>_full`, and
    `<method>_clean` (the same if nothing is flagged, None if everything is).
    """
    title = "Benchmark questions in the training rows"
    rows = [row for group in results.groups for row in _rows(results, group)]
    if not rows:
        return Table("contamination", title, notes=["No track of this study is scored."])
    groups = [row.group for row in rows]
    columns: list[Column[CheckedTask]] = [
        *lead_columns(groups),
        Column("benchmark", lambda row: Value(row.benchmark), "text"),
        Column("task", lambda row: Value(row.task), "text"),
        Column("n", lambda row: number(row.overlap.n, 0)),
        Column("exact", lambda row: number(row.overlap.exact, 0)),
        Column("13-gram", lambda row: number(row.overlap.ngram13, 0)),
        Column("flagged %", lambda row: number(100 * row.overlap.share, 1)),
        *(_method_column(method) for method in results.study.run),
    ]
    records = [row.record() for row in rows]
    return Table.of(
        "contamination", title + shared(groups), columns, rows, _notes(results), records
    )


def _rows(results: Results, group: Group) -> list[CheckedTask]:
    """A row a task that the group's track is scored on."""
    return [
        CheckedTask(
            group,
            benchmark,
            task,
            overlap,
            {
                method: _scores(results, group, method, benchmark, task, overlap.doc_ids)
                for method in results.study.run
            },
        )
        for benchmark, task, overlap in _in_order(results, group)
    ]


def _in_order(results: Results, group: Group) -> Iterator[tuple[str, str, Overlap]]:
    """Yield benchmark, task and what was found, in the study's order: a Job's text has none."""
    track = results.study.tracks[group.track]
    checked = results.contamination[group.track].benchmarks
    for benchmark in track.benchmarks:
        settings = track.lm_eval_benchmarks.get(benchmark)
        for task in settings.tasks if settings is not None else checked[benchmark]:
            yield benchmark, task, checked[benchmark][task]


def _method_column(method: str) -> Column[CheckedTask]:
    """A method's two scores, where anything is flagged."""

    def value(row: CheckedTask) -> Value:
        if not row.overlap.flagged:
            return Value(NOTHING)
        scale, scores = FAMILIES[row.benchmark].scale, row.scores[method]
        full, clean = (
            number(None if score is None else scale.factor * score, scale.digits)
            for score in (scores.full, scores.clean)
        )
        return Value(f"{full.text} / {clean.text}", full.number)

    return Column(method, value)


def _scores(
    results: Results, group: Group, method: str, benchmark: str, task: str, flagged: list[int]
) -> Scores:
    """Mean score over a task's questions and over those not flagged, then over the seeds."""
    answered = answers(results, group, method, benchmark)
    if benchmark in LM_EVAL:
        ids = results.of(group, method)[0].samples[benchmark]["doc_id"].to_numpy()
    else:
        ids = answered.cluster  # MT-Bench's question_id; a question has two turns
    of_task = answered.task == task
    clean = of_task & ~np.isin(ids, flagged)
    return Scores(_mean(answered.values[of_task]), _mean(answered.values[clean]))


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean over the scored answers of each seed, then over the seeds; None if there are none."""
    scored = [column[np.isfinite(column)] for column in values.T]
    return float(np.mean([column.mean() for column in scored])) if all(map(len, scored)) else None


def _notes(results: Results) -> list[str]:
    checks = results.contamination
    sizes = [f"{check.training_rows:,} ({track})" for track, check in checks.items()]
    judged = any(
        FAMILIES[benchmark].scored_by == "judge"
        for check in checks.values()
        for benchmark in check.benchmarks
    )
    return [
        "exact: the question's text, without its choices, is in a training row; 13-gram: 13 words "
        "in a row of question and right choice are. Compared without case, accents, punctuation "
        "and prompt templates. Flagged: either of the two.",
        f"Distinct training rows of all seeds, by track: {', '.join(sizes)}.",
        "Methods: accuracy in %" + (", on MT-Bench the score," if judged else "") + " on all "
        f"questions / on those not flagged. {NOTHING}: nothing is flagged, or nothing is left.",
        *seed_notes(results),
        *accepted_notes(results, *FAMILIES),
    ]
