"""The tables of evidence: which differences are there, and what the paper's claims come to."""

import math
from functools import cache
from typing import Any

from owlore.compare.comparisons import (
    Group,
    base_of,
    difference,
    discordance,
    judged,
    references_of,
    trained_tasks,
    verdicts,
)
from owlore.compare.paper import Claim, claims
from owlore.compare.results import Results
from owlore.compare.table_formats import NOTHING, Column, Table, Value, number, signless
from owlore.compare.table_parts import (
    comparability_notes,
    covered,
    lead_columns,
    lead_values,
    place,
)
from owlore.stats.paired import PairedDifference, equivalence_p
from owlore.study.config import BENCHMARKS

Record = dict[str, Any]
Comparison = tuple[Record, list[Record]]  # over all seeds; one a seed
ALL = "all"


@cache
def significance_table(results: Results) -> Table:
    """Return every method against the base model, full fine-tuning, and OwLore.

    A printed row is one comparison, all seeds together; it carries the verdict and the p values of
    its family (one benchmark, set of tasks, track, model and reference). The records have more:
    after each comparison one row a seed where there are several, as McNemar's test counts a
    question once and cannot pool them, and the same task by task, without verdicts. The records
    hold accuracies as fractions, MT-Bench in points of 10.
    """
    title = "Differences and whether they are there"
    found = [
        comparison
        for benchmark in (*BENCHMARKS, "mtbench")
        for group in results.scored(benchmark)
        if benchmark != "mtbench" or judged(results, group)
        for reference in references_of(results.study)
        for part, tasks in _parts(results, group, benchmark).items()
        for comparison in _family(results, group, benchmark, reference, part, tasks)
    ]
    if not found:
        note = "The study has no base model, full fine-tuning or OwLore to compare with, or no "
        return Table("significance", title, notes=[f"{note}scores."])
    printed = [comparison for comparison in found if comparison[0]["verdict"]]
    groups = [(together["track"], together["model"]) for together, _ in printed]
    columns = [*lead_columns(groups), Column("benchmark", "text"), Column("tasks", "text")]
    columns += [Column("method", "text")]
    columns += [Column("against", "text"), Column("difference"), Column("95 % interval")]
    columns += [Column("verdict", "text"), Column("Holm p"), Column("paired p")]
    columns += [Column("equivalence, Holm p"), Column("McNemar p")]
    columns += [Column("only it / only other right"), Column("n"), Column("seeds", "text")]
    rows = [
        [*lead_values(groups, group), *_printed(together, alone)]
        for group, (together, alone) in zip(groups, printed, strict=True)
    ]
    records = [
        record
        for together, alone in found
        for record in ([together | alone[0]] if len(alone) == 1 else [together, *alone])
    ]
    return Table(
        "significance",
        title + place(groups),
        columns,
        rows,
        _significance_notes(results, [together for together, _ in printed]),
        records,
    )


def _parts(results: Results, group: Group, benchmark: str) -> dict[str, list[str] | None]:
    """What is compared: all tasks, and apart those that the track trains on and the controls."""
    parts: dict[str, list[str] | None] = {ALL: None}
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
) -> list[Comparison]:
    """Every trained method against `reference` on these tasks, then the same task by task."""
    base = base_of(results.study)
    methods = [name for name in results.study.run if name not in (reference, base)]
    found = [
        _compared(results, group, benchmark, method, reference, part, tasks) for method in methods
    ]
    margin = results.study.comparison.margin(benchmark)
    tested = verdicts([paired for _, _, paired in found], margin)
    family = {"family": f"{benchmark}, {part} tasks, against {reference}", "size": len(methods)}
    keys = ("p_holm", "p_equivalence_holm", "verdict")
    comparisons: list[Comparison] = [
        (
            together
            | family
            | {"margin": margin, "p_equivalence": equivalence_p(paired, margin)}
            | dict(zip(keys, one, strict=True)),
            alone,
        )
        for (together, alone, paired), one in zip(found, tested, strict=True)
    ]
    names = list(results.of(*group, reference)[0].benchmarks[benchmark].get("tasks", []))
    if part == ALL and len(names) > 1:
        comparisons += [
            _compared(results, group, benchmark, method, reference, task, [task])[:2]
            for task in names
            for method in methods
        ]
    return comparisons


def _compared(
    results: Results,
    group: Group,
    benchmark: str,
    method: str,
    reference: str,
    part: str,
    tasks: list[str] | None,
) -> tuple[Record, list[Record], PairedDifference]:
    """One comparison: its record over all seeds, one a seed with McNemar's counts, and itself."""
    seeds = [entry.seed for entry in results.of(*group, method)]
    where: Record = {"track": group[0], "model": group[1], "benchmark": benchmark, "tasks": part}
    where |= {"method": method, "reference": reference}
    paired = difference(results, group, benchmark, method, reference, tasks)
    together = _numbers(where, " ".join(map(str, seeds)), paired)
    alone = []
    for seed in seeds:
        counts: Record = {}
        if benchmark != "mtbench":  # scores, not right or wrong
            found = discordance(results, group, benchmark, method, reference, seed, tasks)
            counts = dict(zip(("only_method", "only_reference", "p_mcnemar"), found, strict=True))
        if len(seeds) > 1:
            one = difference(results, group, benchmark, method, reference, tasks, seed)
            counts = _numbers(where, str(seed), one) | counts
        alone.append(counts)
    return together, alone, paired


def _numbers(where: Record, seeds: str, paired: PairedDifference) -> Record:
    unit = "points of 10" if where["benchmark"] == "mtbench" else "fraction"
    record = {**where, "seeds": seeds, "unit": unit, "n": paired.n}
    numbers = ("difference", "low", "high", "standard_error", "seed_error", "degrees_of_freedom")
    for key in (*numbers, "p_value"):
        value = getattr(paired, key)
        record[key] = None if value is None or math.isnan(value) else value
    empty = ("only_method", "only_reference", "p_mcnemar", "p_holm", "margin", "p_equivalence")
    return record | dict.fromkeys((*empty, "p_equivalence_holm", "verdict", "family", "size"))


def _printed(together: Record, alone: list[Record]) -> list[Value]:
    points = together["benchmark"] != "mtbench"
    scale, digits = (100, 1) if points else (1, 2)
    counted = [record for record in alone if record.get("p_mcnemar") is not None]
    each = [_p(record["p_mcnemar"]).text for record in counted]
    pairs = [(record["only_method"], record["only_reference"]) for record in counted]
    return [
        *(Value(together[key]) for key in ("benchmark", "tasks", "method", "reference")),
        signed(together["difference"], scale, digits),
        interval(together["low"], together["high"], scale, digits),
        Value(together["verdict"]),
        *(_p(together[key]) for key in ("p_holm", "p_value", "p_equivalence_holm")),
        Value("; ".join(each) or NOTHING, max((one["p_mcnemar"] for one in counted), default=None)),
        Value(
            "; ".join(f"{a} / {b}" for a, b in pairs) or NOTHING,
            float(sum(a - b for a, b in pairs)) if pairs else None,
        ),
        number(together["n"], 0),
        Value(together["seeds"]),
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


def _significance_notes(results: Results, printed: list[Record]) -> list[str]:
    comparison = results.study.comparison
    sizes: dict[str, str] = {}
    for record in printed:
        sizes[f"against {record['reference']}"] = f"{record['size']} comparisons"
    families = ", ".join(f"{size} {name}" for name, size in sizes.items())
    judged_here = any(record["benchmark"] == "mtbench" for record in printed)
    margin = comparison.equivalence_margin
    margins = f"{margin:g} {'point' if margin == 1 else 'points'}"
    margins += f" (MT-Bench {comparison.mtbench_margin:g})" if judged_here else ""
    seeds = results.study.seeds
    notes = [
        "Differences of averages over tasks, in points (per cent of questions; MT-Bench: points of "
        "10), method minus reference on the same questions; cluster-robust, stratified by task and "
        "subject (Miller 2024).",
        covered(seeds),
        "Trained: tasks whose kind of question the track trains on; untrained: the controls.",
        "A family is one benchmark, one set of tasks and one reference, in one track and model: "
        f"{families}. Holm p: adjusted within it.",
        f"Verdict at 5 %, by Holm p. Equivalent: shown to be less than {margins} apart (two "
        "one-sided t tests), a smaller difference notwithstanding; better, worse: a difference is "
        "shown; undecided: neither is, these questions are too few to tell.",
        "McNemar: exact, over all questions as if independent and weighing the same; "
        + ("each seed by itself; " if len(seeds) > 1 else "")
        + "a second look, not the verdict. Task by task: significance.csv.",
    ]
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
        covered(results.study.seeds),
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
