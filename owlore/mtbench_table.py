"""The table of MT-Bench scores, labelled with its judge: a plumbing check is called one."""

import math
from collections.abc import Iterable

import numpy as np

from owlore.comparisons import Group, judged, level, standing
from owlore.results import Results
from owlore.table_formats import Column, Table, Value, number
from owlore.table_parts import (
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

CATEGORIES = (
    *("writing", "roleplay", "reasoning", "math"),
    *("coding", "extraction", "stem", "humanities"),
)


def mtbench_table(results: Results) -> Table:
    """Return the MT-Bench table: overall, the two turns, and the categories that were asked.

    The records hold the raw scores (1 to 10) as means over seeds; `overall_reach` is half of the
    95 % interval of the overall score, None under a judge that is a plumbing check.
    """
    groups = results.scored("mtbench")
    if not groups:
        return nothing_scored("mtbench")
    found_by = {
        (group, method): [entry.benchmarks["mtbench"] for entry in results.of(*group, method)]
        for group in groups
        for method in results.study.run
    }
    asked = {name for found in found_by.values() for one in found for name in one["categories"]}
    categories = [name for name in CATEGORIES if name in asked] + sorted(asked - set(CATEGORIES))

    rows, records = [], []
    for group in groups:
        real = judged(results, group)
        marks = standing(results, group, "mtbench") if real else {}
        for method in results.study.run:
            found = found_by[group, method]
            scores = {key: [one[key] for one in found] for key in ("overall", "turn_1", "turn_2")}
            for name in categories:
                scores[name] = [one["categories"].get(name) for one in found]
            counts = {key: sum(one[key] for one in found) for key in ("n", "failed")}
            record = group_record(results, group, method)
            row = [*lead_values(groups, group), Value(method)]
            for key, values in scores.items():
                mean, spread = _mean_and_spread(values)
                record |= {key: mean, f"{key}_seed_sd": spread}
                mark = marks.get(method, "") if key == "overall" else ""
                text = number(mean, 2).text
                if key == "overall":
                    reach = _reach(results, group, method) if real else None
                    record["overall_reach"] = reach
                    text += "" if reach is None else f" ± {reach:.2f}"
                text += "" if spread is None else f" (sd {spread:.2f})"
                row.append(Value(text, mean, mark))
            row.append(number(counts["failed"], 0, f" of {counts['n']}"))
            rows.append(row)
            records.append(record | counts)

    columns = [*lead_columns(groups), Column("method", "text")]
    columns += [Column(name) for name in ("overall", "turn 1", "turn 2", *categories)]
    columns.append(Column("no score"))
    title = TITLES["mtbench"] + place(groups)
    return Table("mtbench", title, columns, rows, _judge_notes(results), records)


def _judge_notes(results: Results) -> list[str]:
    groups = results.scored("mtbench")
    found = summaries(results, groups, "mtbench")
    notes = [
        f"Judge: {listed(one['judge']['label'] for one in found)}; "
        f"reference answers {listed(one['reference_set'] for one in found)}; "
        f"graded {listed(one['date'] for one in found)}; "
        f"{listed(one['questions'] for one in found)} questions of two turns, answers of at "
        f"most {listed(one['max_new_tokens'] for one in found)} tokens. Scores 1 to 10; answers "
        "that the judge gave no score for are left out and counted.",
        *seed_notes(results),
    ]
    if all(judged(results, group) for group in groups):
        notes.append(
            "Overall: ± half of the 95 % interval over questions, their two turns clustered"
            + (", and seeds. " if len(results.study.seeds) > 1 else ". ")
            + "Bold: overall score better than every other method's (paired, Holm over the "
            f"{pairs(results)} pairs of methods, 5 %). =: the best, or not distinguishable from it."
        )
    else:
        notes.append(
            "A plumbing check: the judge is too small to grade, so the scores show that the "
            "pipeline runs and nothing about the methods. They are not tested and not marked."
        )
    return notes + comparability_notes(results, "mtbench")


def _reach(results: Results, group: Group, method: str) -> float | None:
    found = level(results, group, "mtbench", method)
    return None if math.isnan(found.high) else found.high - found.difference


def _mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    given = [value for value in values if value is not None]
    if not given:
        return None, None
    return float(np.mean(given)), float(np.std(given, ddof=1)) if len(given) > 1 else None
