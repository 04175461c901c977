"""The tables of accuracies: one for each benchmark family that lm-eval scores.

Rows are the methods in the study's order. A score is printed in per cent: with one seed with its
standard error over questions, as lm-eval prints it; with several it is their mean with half of its
95 % interval over questions and seeds, and "sd" is the spread between seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from owlore.compare.comparisons import answers, level, standing
from owlore.compare.results import CellResults, Group, Results
from owlore.compare.table_formats import NOTHING, Column, Mark, Table, Value, signless
from owlore.compare.table_parts import (
    METHOD,
    accepted_notes,
    comparability_notes,
    group_record,
    lead_columns,
    listed,
    nothing_scored,
    pairs,
    seed_notes,
    shared,
)
from owlore.records.evaluation import TaskScore
from owlore.study.benchmarks import FAMILIES, Scale

MOST_COLUMNS = 12  # more tasks than this (MMLU's subjects) are left to the CSV
Task = str | None  # None is the average over the tasks
AVERAGE: Task = None


@dataclass(frozen=True)
class Score:
    """A method on a task: the mean over seeds, with None for what cannot be known of it.

    `error` is over questions; `low` and `high` (95 %) and `spread` need several seeds; `reach` is
    what is printed behind the value.
    """

    value: float
    error: float | None
    reach: float | None
    low: float | None = None
    high: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class MethodScores:
    """One row: a method's scores, marks and numbers of questions, task by task."""

    group: Group
    method: str
    scores: dict[Task, Score]  # a task that this track is not scored on is not there
    marks: dict[Task, Mark]
    counts: dict[Task, int]

    def record(self) -> dict[str, Any]:
        """The scores as a flat row, see `accuracy_table`."""
        record: dict[str, Any] = {}
        for task, score in self.scores.items():
            name = task or "average"
            record |= {name: score.value, f"{name}_stderr": score.error}
            record |= {f"{name}_low": score.low, f"{name}_high": score.high}
            record |= {f"{name}_seed_sd": score.spread, f"{name}_mark": self.marks[task]}
            record |= {f"{name}_n": self.counts[task]}
        return record


def accuracy_table(results: Results, benchmark: str) -> Table:
    """Return the table of a family that lm-eval scores: methods × tasks and their average.

    The records hold fractions: `<task>`, `<task>_stderr` (over questions), `<task>_low` and
    `<task>_high` (95 %, over questions and seeds; None for one seed), `<task>_seed_sd` (None for
    one), `<task>_n`, `<task>_mark`, and the same for `average`.
    """
    groups = results.scored(benchmark)
    if not groups:
        return nothing_scored(benchmark)
    tasks_of = {group: _task_summaries(results, group, benchmark) for group in groups}
    tasks = list(dict.fromkeys(task for group in groups for task in tasks_of[group]))
    rows = [
        row for group in groups for row in _rows(results, group, benchmark, tasks, tasks_of[group])
    ]
    printed: list[Task] = [*tasks] if len(tasks) <= MOST_COLUMNS else []
    if len(printed) != 1:
        printed.append(AVERAGE)
    columns: list[Column[MethodScores]] = [
        *lead_columns(groups),
        METHOD,
        *(_score_column(task, rows, FAMILIES[benchmark].scale) for task in printed),
    ]
    notes = [
        f"Accuracy in %, ± {_error_of(results)}; the average weighs the tasks equally.",
        *_how_scored(results, groups, benchmark, tasks),
        *seed_notes(results),
        "Bold: better than every other method in this column (paired differences, Holm over the "
        f"{pairs(results)} pairs of methods, 5 %). =: the best, or not distinguishable from it.",
        *comparability_notes(results, benchmark),
        *accepted_notes(results, benchmark),
    ]
    if len(tasks) > MOST_COLUMNS:
        notes.insert(1, f"The {len(tasks)} tasks one by one are in {benchmark}.csv.")
    return Table.of(
        benchmark,
        FAMILIES[benchmark].title + shared(groups),
        columns,
        rows,
        notes,
        [group_record(results, row.group, row.method) | row.record() for row in rows],
    )


def _rows(
    results: Results,
    group: Group,
    benchmark: str,
    tasks: Sequence[str],
    summaries: dict[str, TaskScore],
) -> list[MethodScores]:
    """A row a method of one group; `summaries` are its own tasks, `tasks` those of all groups."""
    asked: list[Task] = [task for task in tasks if task in summaries]
    asked.append(AVERAGE)
    counts: dict[Task, int] = {task: summary.n for task, summary in summaries.items()}
    counts[AVERAGE] = sum(counts.values())
    standings = {task: standing(results, group, benchmark, task) for task in asked}
    return [
        MethodScores(
            group,
            method,
            scores={task: _score(results, group, method, benchmark, task) for task in asked},
            marks={task: standings[task][method] for task in asked},
            counts=counts,
        )
        for method in results.study.run
    ]


def _score_column(task: Task, rows: Sequence[MethodScores], scale: Scale) -> Column[MethodScores]:
    """The column of a task; its header says "(n = 80)", or "(n = 40–80)" where groups differ."""
    counts = sorted({row.counts[task] for row in rows if task in row.counts})
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"

    def value(row: MethodScores) -> Value:
        if task not in row.scores:
            return Value(NOTHING)
        score = row.scores[task]
        return Value(_text(score, scale), score.value, row.marks[task])

    return Column(f"{task or 'average'} (n = {span})", value)


def _how_scored(
    results: Results, groups: Sequence[Group], benchmark: str, tasks: Sequence[str]
) -> list[str]:
    """Versions, split, shots and subsets, as the result files state them."""
    summaries = [
        entry.scores[benchmark]
        for group in groups
        for method in results.study.run
        for entry in results.of(group, method)
    ]
    scored = [task for summary in summaries for task in summary.tasks.items()]
    versions = listed(summary.lm_eval_version for summary in summaries)
    shots = listed(score.num_fewshot for _, score in scored)
    splits = listed(
        score.split or summary.split for summary in summaries for score in summary.tasks.values()
    )
    notes = [f"lm-eval {versions}, {shots}-shot, {splits} split."]
    by_norm = {name for name, score in scored if score.metric == "acc_norm"}
    normed = [task for task in tasks if task in by_norm]
    if normed and len(normed) <= MOST_COLUMNS:
        others = "; the others by acc" if len(normed) < len(tasks) else ""
        notes.append(f"Scored by acc_norm: {', '.join(normed)}{others}.")
    if any(score.n < score.n_available for _, score in scored):
        notes.append("Some tasks use a seeded subset of their questions; n is what was asked.")
    return notes


def _task_summaries(results: Results, group: Group, benchmark: str) -> dict[str, TaskScore]:
    """What a result file of the group says of each task; which tasks and how many is the same."""
    return results.of(group, results.study.run[0])[0].scores[benchmark].tasks


def _score(results: Results, group: Group, method: str, benchmark: str, task: Task) -> Score:
    """Score a method on a task or on the average.

    With one seed value and error are lm-eval's own (no error for a single question); with several,
    the error is that of the questions' mean correctness over the seeds.
    """
    entries = results.of(group, method)
    of_seeds = [_lm_eval_score(entry, benchmark, task) for entry in entries]
    values = [value for value, _ in of_seeds]
    error = of_seeds[0][1]
    if len(results.study.seeds) == 1:
        return Score(values[0], error, error)
    if len(entries) > 1:
        error = _error_over_questions(results, group, method, benchmark, task)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    paired = level(results, group, benchmark, method, task)
    if math.isnan(paired.low):
        return Score(float(np.mean(values)), error, None, spread=spread)
    reach = paired.high - paired.difference
    return Score(float(np.mean(values)), error, reach, paired.low, paired.high, spread)


def _lm_eval_score(entry: CellResults, benchmark: str, task: Task) -> tuple[float, float | None]:
    """One cell's score and standard error, as its result file has them."""
    record = entry.scores[benchmark]
    if task is None:
        return record.average, record.average_stderr
    score = record.tasks[task]
    return score.value, score.stderr


def _error_over_questions(
    results: Results, group: Group, method: str, benchmark: str, task: Task
) -> float | None:
    answered = answers(results, group, method, benchmark)
    means = answered.values.mean(axis=1)
    names = np.unique(answered.task) if task is None else np.array([task])
    parts = [means[answered.task == name] for name in names]
    if any(len(part) < 2 for part in parts):
        return None
    errors = [part.std(ddof=1) / math.sqrt(len(part)) for part in parts]
    return math.hypot(*errors) / len(errors)


def _error_of(results: Results) -> str:
    if len(results.study.seeds) == 1:
        return "standard error over questions"
    return "half of the 95 % interval over questions and seeds (base: over questions)"


def _text(score: Score, scale: Scale) -> str:
    def printed(number: float) -> str:
        return f"{scale.factor * number:.{scale.digits}f}"

    text = signless(printed(score.value))
    text += "" if score.reach is None else f" ± {printed(score.reach)}"
    return text if score.spread is None else f"{text} (sd {printed(score.spread)})"
