"""Differences on MT-Bench, question by question: every method against base and full, by judge."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from owlore.compare.comparisons import LEVEL, answers, base_of, full_of, judged
from owlore.compare.evidence_tables import interval, signed
from owlore.compare.mtbench_table import (
    CATEGORIES,
    Block,
    benchmark_of,
    blocks_of,
    categories_of,
    judge_notes,
    judge_record,
    judge_values,
    plumbing_notes,
    several_judges,
)
from owlore.compare.results import Results
from owlore.compare.table_formats import NOTHING, Column, Table, Value
from owlore.compare.table_parts import group_record, lead_columns, lead_values, place, seed_notes
from owlore.mtbench.ratings import by_turn
from owlore.stats.paired import PairedDifference, holm, paired_difference


def mtbench_differences_table(results: Results) -> Table:
    """Return every method minus the base model and minus full fine-tuning, judge by judge.

    Differences are paired, question by question, in points of the 1 to 10 scale. The records hold
    them as `<part>_difference`, `_low`, `_high`, `_p` and `_n` (turns) for overall, the turns and
    the categories.
    """
    title = "MT-Bench differences, question by question"
    blocks = blocks_of(results)
    references = [name for name in (base_of(results.study), full_of(results.study)) if name]
    records = [
        record
        for block in blocks
        for reference in references
        for record in _family(results, block, reference)
    ]
    if not records:
        note = "No track is scored on MT-Bench, or there is nothing to compare with."
        return Table("mtbench_differences", title, notes=[note])
    groups = results.scored("mtbench")
    categories = categories_of(results, blocks)
    several = several_judges(blocks)
    columns = [*lead_columns(groups), *[Column("judge", "text")] * several]
    columns += [Column("method", "text"), Column("against", "text"), Column("overall")]
    columns += [Column("95 % interval"), Column("verdict", "text"), Column("Holm p")]
    columns += [Column("better / same / worse")]
    columns += [Column(name) for name in ("turn 1", "turn 2", *categories)]
    rows = []
    for record in records:
        block = (record["judge"], (record["track"], record["model"]))
        row = [*lead_values(groups, block[1]), *judge_values(results, block, several)]
        row += [Value(record["method"]), Value(record["reference"])]
        row.append(signed(record["overall_difference"], digits=2))
        row.append(interval(record["overall_low"], record["overall_high"], digits=2))
        row += [Value(record["verdict"] or NOTHING), _p_value(record["p_holm"])]
        counts = [record[key] for key in ("better", "same", "worse")]
        row.append(Value(" / ".join(map(str, counts)), counts[0] - counts[2]))
        parts = ["turn_1", "turn_2", *categories]
        row += [signed(record.get(f"{part}_difference"), digits=2) for part in parts]
        rows.append(row)
    notes = [
        "Method minus reference on the same turns, in points of 10, over the turns scored for "
        "both; interval and p as in the table of differences (t, a question's two turns "
        "cluster). Verdict at 5 %, Holm within a judge and reference. better / same / worse: "
        "questions, by the mean of their turns. The categories have few questions each.",
        *judge_notes(results, blocks),
        *seed_notes(results),
        *plumbing_notes(results, blocks),
    ]
    title += place(groups)
    return Table("mtbench_differences", title, columns, rows, notes, records)


def _family(results: Results, block: Block, reference: str) -> list[dict[str, Any]]:
    """The records of one family: every method against `reference`, by one judge."""
    judge, group = block
    base = base_of(results.study)
    methods = [name for name in results.study.run if name not in (reference, base)]
    compared = {name: _parts(results, block, name, reference) for name in methods}
    tested = judged(results, group, judge)
    adjusted = holm([parts["overall"].p_value for parts in compared.values()])
    records = []
    for (method, parts), p_holm in zip(compared.items(), adjusted, strict=True):
        overall = parts["overall"].difference
        verdict = "=" if p_holm >= LEVEL else "better" if overall > 0 else "worse"
        record = group_record(results, group, method) | {"reference": reference}
        record |= judge_record(results, block)
        record |= {"verdict": verdict if tested else None, "p_holm": p_holm if tested else None}
        record |= _counts(results, block, method, reference)
        for part, paired in parts.items():
            known = {"difference": paired.difference}
            if tested:
                known |= {"low": paired.low, "high": paired.high, "p": paired.p_value}
            for key in ("difference", "low", "high", "p"):
                value = known.get(key, math.nan)
                record[f"{part}_{key}"] = None if math.isnan(value) else value
            record[f"{part}_n"] = paired.n
        records.append(record)
    return records


def _parts(
    results: Results, block: Block, method: str, reference: str
) -> dict[str, PairedDifference]:
    """Paired differences overall, for each turn and for each category."""
    a, b, questions, turns = _scores(results, block, method, reference)
    asked = results.mtbench_questions
    category = np.array([asked[question]["category"] for question in questions])
    everything = np.ones(len(a), dtype=bool)
    parts = {"overall": everything, "turn_1": turns == 1, "turn_2": turns == 2}
    names = [name for name in dict.fromkeys([*CATEGORIES, *category]) if (category == name).any()]
    parts |= {name: category == name for name in names}
    return {part: _paired(a, b, questions, use) for part, use in parts.items()}


def _paired(
    a: NDArray[np.float64], b: NDArray[np.float64], cluster: NDArray[Any], use: NDArray[np.bool_]
) -> PairedDifference:
    use = use & np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    if not use.any():
        nan = math.nan
        return PairedDifference(nan, nan, nan, 0, nan, nan, 1.0)
    return paired_difference(a[use], b[use], np.full(int(use.sum()), "mtbench"), cluster[use])


def _scores(
    results: Results, block: Block, method: str, reference: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any], NDArray[Any]]:
    """Scores of the method and the reference (turns, seeds), and each turn's question and turn."""
    judge, group = block
    pair = [answers(results, group, name, benchmark_of(judge)) for name in (method, reference)]
    keys = by_turn(results.of(*group, method)[0].judged_by(judge).judgments)
    return pair[0].values, pair[1].values, pair[0].cluster, np.array([turn for _, turn in keys])


def _counts(results: Results, block: Block, method: str, reference: str) -> dict[str, int]:
    """In how many questions the method is better, the same or worse, over their scored turns."""
    a, b, questions, _ = _scores(results, block, method, reference)
    difference = a.mean(axis=1) - b.mean(axis=1)
    means = [
        difference[(questions == question) & np.isfinite(difference)]
        for question in np.unique(questions)
    ]
    signs = [np.sign(round(float(one.mean()), 9)) for one in means if len(one)]
    return {"better": signs.count(1.0), "same": signs.count(0.0), "worse": signs.count(-1.0)}


def _p_value(value: float | None) -> Value:
    if value is None:
        return Value(NOTHING)
    return Value("< 0.001" if value < 0.001 else f"{value:.3f}", value)
