"""The table of contamination: questions found in the training rows, and scores without them.

One row a track, model, benchmark and task. A score on the clean subset that is as good as the full
one says that the flagged questions were not what made it.
"""

import numpy as np
from numpy.typing import NDArray

from owlore.compare.comparisons import Group, answers
from owlore.compare.results import Results
from owlore.compare.table_formats import NOTHING, Column, Table, Value, number
from owlore.compare.table_parts import lead_columns, lead_values, place, seed_notes


def contamination_table(results: Results) -> Table:
    """Return the table of flagged questions: counts, and each method's scores with and without.

    The records hold fractions, on MT-Bench the judge's scores: `<method>_full`, and
    `<method>_clean` (the same if nothing is flagged, None if everything is).
    """
    title = "Benchmark questions in the training rows"
    groups = [group for group in results.groups if results.contamination[group[0]]["benchmarks"]]
    if not groups:
        return Table("contamination", title, notes=["No track of this study is scored."])
    rows, records = [], []
    for group in groups:
        for benchmark, tasks in results.contamination[group[0]]["benchmarks"].items():
            for task, found in tasks.items():
                counts = {key: found[key] for key in ("n", "exact", "ngram13", "flagged", "share")}
                record = {"track": group[0], "model": group[1], "benchmark": benchmark}
                record |= {"task": task} | counts
                row = [*lead_values(groups, group), Value(benchmark), Value(task)]
                row += [number(counts[key], 0) for key in ("n", "exact", "ngram13")]
                row.append(number(100 * counts["share"], 1))
                for method in results.study.run:
                    full, clean = _scores(results, group, method, benchmark, task)
                    record |= {f"{method}_full": full, f"{method}_clean": clean}
                    row.append(_pair(full, clean, benchmark) if found["flagged"] else number(None))
                rows.append(row)
                records.append(record)
    columns = [*lead_columns(groups), Column("benchmark", "text"), Column("task", "text")]
    columns += [Column(label) for label in ("n", "exact", "13-gram", "flagged %")]
    columns += [Column(method) for method in results.study.run]
    return Table("contamination", title + place(groups), columns, rows, _notes(results), records)


def _scores(
    results: Results, group: Group, method: str, benchmark: str, task: str
) -> tuple[float | None, float | None]:
    """Mean score over a task's questions and over those not flagged, then over the seeds."""
    given = answers(results, group, method, benchmark)
    if benchmark == "mtbench":
        ids = given.cluster
    else:
        ids = results.of(*group, method)[0].samples[benchmark]["doc_id"].to_numpy()
    flagged = results.contamination[group[0]]["benchmarks"][benchmark][task]["doc_ids"]
    own = given.task == task
    return _mean(given.values[own]), _mean(given.values[own & ~np.isin(ids, flagged)])


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean over the scored answers of each seed, then over the seeds; None if there are none."""
    scored = [column[np.isfinite(column)] for column in values.T]
    return float(np.mean([column.mean() for column in scored])) if all(map(len, scored)) else None


def _pair(full: float | None, clean: float | None, benchmark: str) -> Value:
    scale, digits = (1, 2) if benchmark == "mtbench" else (100, 1)
    first, second = (
        number(None if value is None else scale * value, digits) for value in (full, clean)
    )
    return Value(f"{first.text} / {second.text}", first.number)


def _notes(results: Results) -> list[str]:
    sizes = [
        f"{found['training_rows']:,} ({track})" for track, found in results.contamination.items()
    ]
    several = any("mtbench" in found["benchmarks"] for found in results.contamination.values())
    return [
        "exact: the question's text, without its choices, is in a training row; 13-gram: 13 words "
        "in a row of question and right choice are. Compared without case, accents, punctuation "
        "and prompt templates. Flagged: either of the two.",
        f"Distinct training rows of all seeds, by track: {', '.join(sizes)}.",
        "Methods: accuracy in %" + (", on MT-Bench the score," if several else "") + " on all "
        f"questions / on those not flagged. {NOTHING}: nothing is flagged, or nothing is left.",
        *seed_notes(results),
    ]
