"""The tables of evidence: which differences are there, and what the paper's claims come to."""

import math
from functools import cache
from typing import Any

from owlore.comparisons import (
    LEVEL,
    Group,
    base_of,
    difference,
    discordance,
    full_of,
    judged,
    trained_tasks,
)
from owlore.config import BENCHMARKS
from owlore.paper import Claim, claims
from owlore.results import Results
from owlore.stats import PairedDifference, holm
from owlore.table_formats import NOTHING, Column, Table, Value, number, signless
from owlore.table_parts import comparability_notes, lead_columns, lead_values, place


@cache
def significance_table(results: Results) -> Table:
    """Return every method against the base model and against full fine-tuning.

    One row for all seeds together, with the Holm-adjusted p value of its family (one benchmark,
    track, model and reference). With several seeds a row for each follows: McNemar's test counts a
    question once, so it cannot pool them. The records hold accuracies as fractions, MT-Bench in
    points of 10.
    """
    title = "Differences and whether they are there"
    records = [
        record
        for benchmark in (*BENCHMARKS, "mtbench")
        for group in results.scored(benchmark)
        if benchmark != "mtbench" or judged(results, group)
        for reference in (base_of(results.study), full_of(results.study))
        if reference is not None
        for part, tasks in _parts(results, group, benchmark).items()
        for record in _family(results, group, benchmark, reference, part, tasks)
    ]
    if not records:
        note = "The study has no base model and no full fine-tuning to compare with, or no scores."
        return Table("significance", title, notes=[note])
    groups = [(record["track"], record["model"]) for record in records]
    columns = [*lead_columns(groups), Column("benchmark", "text"), Column("tasks", "text")]
    columns += [Column("method", "text")]
    columns += [Column("against", "text"), Column("difference"), Column("95 % interval")]
    columns += [Column("verdict", "text"), Column("Holm p"), Column("paired p")]
    columns += [Column("McNemar p"), Column("only it / only other right"), Column("n")]
    columns += [Column("seeds", "text")]
    rows = [
        [*lead_values(groups, group), *_printed(record)]
        for group, record in zip(groups, records, strict=True)
    ]
    return Table(
        "significance", title + place(groups), columns, rows, _significance_notes(results), records
    )


def _parts(results: Results, group: Group, benchmark: str) -> dict[str, list[str] | None]:
    """What is compared: all tasks, and apart those that the track trains on and the controls."""
    parts: dict[str, list[str] | None] = {"all": None}
    if benchmark in BENCHMARKS:
        trained, controls = trained_tasks(results.study, group[0], benchmark)
        if trained and controls:
            parts |= {"trained": trained, "untrained": controls}
    return parts


def _family(
    results: Results,
    group: Group,
    benchmark: str,
    reference: str,
    part: str,
    tasks: list[str] | None,
) -> list[dict[str, Any]]:
    """The rows of one family: every method against `reference` on these tasks."""
    base = base_of(results.study)
    methods = [name for name in results.study.run if name not in (reference, base)]
    compared = [difference(results, group, benchmark, name, reference, tasks) for name in methods]
    adjusted = holm([paired.p_value for paired in compared])
    records = []
    for method, paired, p_holm in zip(methods, compared, adjusted, strict=True):
        seeds = [entry.seed for entry in results.of(*group, method)]
        where = {"track": group[0], "model": group[1], "benchmark": benchmark}
        where |= {"tasks": part}
        where |= {"method": method, "reference": reference}
        verdict = "=" if p_holm >= LEVEL else "better" if paired.difference > 0 else "worse"
        together = {"p_holm": p_holm, "verdict": verdict}
        counts = {
            seed: _mcnemar(results, group, benchmark, method, reference, seed, tasks)
            for seed in seeds
        }
        listed = " ".join(map(str, seeds))
        single = counts[seeds[0]] if len(seeds) == 1 else {}
        records.append(_numbers(where, listed, paired) | single | together)
        for seed in seeds if len(seeds) > 1 else []:
            alone = difference(results, group, benchmark, method, reference, tasks, seed)
            records.append(_numbers(where, str(seed), alone) | counts[seed])
    return records


def _numbers(where: dict[str, Any], seeds: str, paired: PairedDifference) -> dict[str, Any]:
    unit = "points of 10" if where["benchmark"] == "mtbench" else "fraction"
    record = {**where, "seeds": seeds, "unit": unit, "n": paired.n}
    for key in ("difference", "low", "high", "standard_error", "degrees_of_freedom", "p_value"):
        value = getattr(paired, key)
        record[key] = None if math.isnan(value) else value
    return record | dict.fromkeys(
        ("only_method", "only_reference", "p_mcnemar", "p_holm", "verdict")
    )


def _mcnemar(
    results: Results,
    group: Group,
    benchmark: str,
    method: str,
    reference: str,
    seed: int,
    tasks: list[str] | None,
) -> dict[str, Any]:
    if benchmark == "mtbench":  # scores, not right or wrong
        return {}
    counts = discordance(results, group, benchmark, method, reference, seed, tasks)
    return dict(zip(("only_method", "only_reference", "p_mcnemar"), counts, strict=True))


def _printed(record: dict[str, Any]) -> list[Value]:
    points = record["benchmark"] != "mtbench"
    scale, digits = (100, 1) if points else (1, 2)
    pair = (record["only_method"], record["only_reference"])
    return [
        *(Value(record[key]) for key in ("benchmark", "tasks", "method", "reference")),
        signed(record["difference"], scale, digits),
        interval(record["low"], record["high"], scale, digits),
        Value(record["verdict"] or ""),
        *(_p(record[key]) for key in ("p_holm", "p_value", "p_mcnemar")),
        Value(NOTHING) if pair[0] is None else Value(f"{pair[0]} / {pair[1]}", pair[0] - pair[1]),
        number(record["n"], 0),
        Value(record["seeds"]),
    ]


def signed(value: float | None, scale: float = 1, digits: int = 1) -> Value:
    """Print a difference with its sign."""
    if value is None:
        return Value(NOTHING)
    text = signless(f"{scale * value:.{digits}f}")
    return Value(text if text.startswith("−") or float(text) == 0 else f"+{text}", value)


def interval(low: float | None, high: float | None, scale: float = 1, digits: int = 1) -> Value:
    """Print an interval; it sorts by its lower end."""
    if low is None or high is None:
        return Value(NOTHING)
    return Value(f"{signed(low, scale, digits).text} to {signed(high, scale, digits).text}", low)


def _p(value: float | None) -> Value:
    if value is None:
        return Value(NOTHING)
    return Value("< 0.001" if value < 0.001 else f"{value:.3f}", value)


def _significance_notes(results: Results) -> list[str]:
    notes = [
        "Differences of averages over tasks, in points (per cent of questions; MT-Bench: points of "
        "10), method minus reference on the same questions. Interval and paired p: t distribution, "
        "cluster-robust standard error stratified by task (Miller 2024).",
        "Trained: tasks whose kind of question the track trains on; untrained: the controls.",
        "Holm p: adjusted within one benchmark, set of tasks and reference. Verdict at 5 %: "
        "better, worse, or = (no difference shown, which is not the same as shown to be equal).",
        "McNemar: exact, over all questions as if independent and weighing the same; a second "
        "look, not the verdict.",
    ]
    seeds = results.study.seeds
    if len(seeds) > 1:
        notes.append(
            "Intervals are conditional on these seeds: they tell how the difference would vary "
            "with other questions, not with other training seeds."
        )
    else:
        notes.append(
            f"Intervals are conditional on this one seed ({seeds[0]}): how much the difference "
            "varies between training seeds was not measured."
        )
    if any(not judged(results, group) for group in results.scored("mtbench")):
        notes.append("MT-Bench is not tested where its judge is a plumbing check.")
    return notes + comparability_notes(results, *BENCHMARKS)


def claims_table(results: Results) -> Table:
    """Return the abstract's claims with what this study measured, and a verdict with its reason."""
    found = claims(results)
    groups = [(claim.track, claim.model) for claim in found]
    columns = [Column("claim", "prose"), *lead_columns(groups), Column("measured here", "prose")]
    columns += [Column("95 % interval"), Column("verdict", "text"), Column("reason", "prose")]
    rows = [
        [
            Value(claim.claim),
            *lead_values(groups, group),
            _measured(claim),
            interval(claim.low, claim.high),
            Value(claim.verdict),
            Value(claim.reason),
        ]
        for claim, group in zip(found, groups, strict=True)
    ]
    notes = [
        "Claims: abstract of arXiv 2405.18380. Measured: OwLore minus the best baseline, the one "
        "with the highest average of those in the study (picked after the fact, in its favour). "
        "The abstract's accuracy gains are read as points; MT-Bench as per cent of the score.",
        "Supported: the 95 % interval excludes zero and reaches the claimed gain.",
    ]
    title = "The paper's claims" + place(groups)
    return Table("claims", title, columns, rows, notes, [claim.record() for claim in found])


def _measured(claim: Claim) -> Value:
    if claim.measured is None:
        return Value(NOTHING)
    if claim.baseline is None:
        return number(claim.measured, 1, f" {claim.unit}")
    text = f"{signed(claim.measured).text} {claim.unit} ({claim.method} minus {claim.baseline})"
    return Value(text, claim.measured)
