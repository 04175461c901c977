"""The tables of accuracies: commonsense and MMLU, scored by lm-eval.

Rows are the methods in the study's order. A score is printed in per cent: with one seed with its
standard error over questions, as lm-eval prints it; with several it is their mean with half of its
95 % interval over questions and seeds, and "sd" is the spread between seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from owlore.compare.comparisons import Group, answers, level, standing
from owlore.compare.results import CellResults, Results
from owlore.compare.table_formats import NOTHING, Column, Table, Value, signless
from owlore.compare.table_parts import (
    TITLES,
    comparability_notes,
    group_record,
    lead_columns,
    lead_values,
    listed,
    nothing_scored,
    pairs,
    place,
    seed_notes,
    summaries,
)

MOST_COLUMNS = 12  # more tasks than this (MMLU's subjects) are left to the CSV


def accuracy_table(results: Results, benchmark: str) -> Table:
    """Return the table of commonsense or mmlu: methods × tasks and their average.

    The records hold fractions: `<task>`, `<task>_stderr` (over questions), `<task>_low` and
    `<task>_high` (95 %, over questions and seeds; None for one seed), `<task>_seed_sd` (None for
    one), `<task>_n`, `<task>_mark`, and the same for `average`.
    """
    groups = results.scored(benchmark)
    if not groups:
        return nothing_scored(benchmark)
    tasks = _tasks(results, groups, benchmark)
    printed: list[str | None] = [*tasks] if len(tasks) <= MOST_COLUMNS else []
    if len(printed) != 1:
        printed.append(None)  # the average
    counts = {task: _counts(results, groups, benchmark, task) for task in [*tasks, None]}

    rows, records = [], []
    for group in groups:
        own = results.of(*group, results.study.run[0])[0].benchmarks[benchmark]["tasks"]
        marks = {task: standing(results, group, benchmark, task) for task in [*own, None]}
        for method in results.study.run:
            record: dict[str, Any] = group_record(results, group, method)
            row = [*lead_values(groups, group), Value(method)]
            for task in [*tasks, None]:
                if task is not None and task not in own:
                    value = Value(NOTHING)
                else:
                    score = _score(results, group, method, benchmark, task)
                    mark = marks[task][method]
                    value = Value(_percent(score), score.value, mark)
                    name = task or "average"
                    record |= {name: score.value, f"{name}_stderr": score.error}
                    record |= {f"{name}_low": score.low, f"{name}_high": score.high}
                    record |= {f"{name}_seed_sd": score.spread, f"{name}_mark": mark}
                    record |= {f"{name}_n": _n(results, group, benchmark, task)}
                if task in printed:
                    row.append(value)
            rows.append(row)
            records.append(record)

    columns = [*lead_columns(groups), Column("method", "text")]
    columns += [Column((task or "average") + counts[task]) for task in printed]
    notes = [
        f"Accuracy in %, ± {_error_of(results)}; the average weighs the tasks equally.",
        *_how_scored(results, groups, benchmark, tasks),
        *seed_notes(results),
        "Bold: better than every other method in this column (paired differences, Holm over the "
        f"{pairs(results)} pairs of methods, 5 %). =: the best, or not distinguishable from it.",
        *comparability_notes(results, benchmark),
    ]
    if len(tasks) > MOST_COLUMNS:
        notes.insert(1, f"The {len(tasks)} tasks one by one are in {benchmark}.csv.")
    title = TITLES[benchmark] + place(groups)
    return Table(benchmark, title, columns, rows, notes, records)


def _how_scored(
    results: Results, groups: Sequence[Group], benchmark: str, tasks: Sequence[str]
) -> list[str]:
    """Versions, split, shots and subsets, as the result files state them."""
    found = summaries(results, groups, benchmark)
    versions = listed(one["lm_eval_version"] for one in found)
    shots = listed(task["num_fewshot"] for one in found for task in one["tasks"].values())
    splits = listed(
        task.get("split", one["split"]) for one in found for task in one["tasks"].values()
    )
    notes = [f"lm-eval {versions}, {shots}-shot, {splits} split."]
    normed = [
        task
        for task in tasks
        if any(one["tasks"].get(task, {}).get("metric") == "acc_norm" for one in found)
    ]
    if normed and len(normed) <= MOST_COLUMNS:
        others = "; the others by acc" if len(normed) < len(tasks) else ""
        notes.append(f"Scored by acc_norm: {', '.join(normed)}{others}.")
    if any(task["n"] < task["n_available"] for one in found for task in one["tasks"].values()):
        notes.append("Some tasks use a seeded subset of their questions; n is what was asked.")
    return notes


def _tasks(results: Results, groups: Sequence[Group], benchmark: str) -> list[str]:
    found = summaries(results, groups, benchmark)
    return list(dict.fromkeys(task for one in found for task in one["tasks"]))


def _n(results: Results, group: Group, benchmark: str, task: str | None) -> int | None:
    tasks = results.of(*group, results.study.run[0])[0].benchmarks[benchmark]["tasks"]
    if task is None:
        return sum(int(score["n"]) for score in tasks.values())
    return int(tasks[task]["n"]) if task in tasks else None


def _counts(results: Results, groups: Sequence[Group], benchmark: str, task: str | None) -> str:
    """The header's "(n = 80)", or "(n = 40–80)" where the groups differ."""
    found = {_n(results, group, benchmark, task) for group in groups}
    counts = sorted(n for n in found if n is not None)
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"
    return f" (n = {span})"


@dataclass(frozen=True)
class _Score:
    """Mean over seeds; the rest is None where it cannot be known (see `accuracy_table`).

    `reach` is what is printed behind the value.
    """

    value: float
    error: float | None
    reach: float | None
    low: float | None = None
    high: float | None = None
    spread: float | None = None


def _score(results: Results, group: Group, method: str, benchmark: str, task: str | None) -> _Score:
    """Score a method on a task or on the average.

    With one seed value and error are lm-eval's own (no error for a single question); with several,
    the error is that of the questions' mean correctness over the seeds.
    """
    entries = results.of(*group, method)
    values = [_value(entry, benchmark, task) for entry in entries]
    if len(entries) == 1:
        summary = entries[0].benchmarks[benchmark]
        error = summary["average_stderr"] if task is None else summary["tasks"][task]["stderr"]
        if len(results.study.seeds) == 1:
            return _Score(values[0], error, error)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    found = level(results, group, benchmark, method, task)
    if len(entries) > 1:
        error = _error_over_questions(results, group, method, benchmark, task)
    if math.isnan(found.low):
        return _Score(float(np.mean(values)), error, None, spread=spread)
    reach = found.high - found.difference
    return _Score(float(np.mean(values)), error, reach, found.low, found.high, spread)


def _error_over_questions(
    results: Results, group: Group, method: str, benchmark: str, task: str | None
) -> float | None:
    given = answers(results, group, method, benchmark)
    means = given.values.mean(axis=1)
    names = np.unique(given.task) if task is None else np.array([task])
    parts = [means[given.task == name] for name in names]
    if any(len(part) < 2 for part in parts):
        return None
    errors = [part.std(ddof=1) / math.sqrt(len(part)) for part in parts]
    return math.hypot(*errors) / len(errors)


def _value(entry: CellResults, benchmark: str, task: str | None) -> float:
    summary = entry.benchmarks[benchmark]
    return float(summary["average"] if task is None else summary["tasks"][task]["value"])


def _error_of(results: Results) -> str:
    if len(results.study.seeds) == 1:
        return "standard error over questions"
    return "half of the 95 % interval over questions and seeds (base: over questions)"


def _percent(score: _Score) -> str:
    text = signless(f"{100 * score.value:.1f}")
    text += "" if score.reach is None else f" ± {100 * score.reach:.1f}"
    return text if score.spread is None else f"{text} (sd {100 * score.spread:.1f})"
