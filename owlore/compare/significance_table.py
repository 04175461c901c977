"""The table of differences: which are there, which methods are as good, and what cannot be told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from owlore.compare.comparisons import (
    Discordance,
    Verdict,
    base_of,
    difference,
    discordance,
    judged,
    references_of,
    trained_tasks,
    verdicts,
)
from owlore.compare.results import Group, Results
from owlore.compare.table_formats import (
    NOTHING,
    Column,
    Table,
    Value,
    interval,
    number,
    p_value,
    signed,
)
from owlore.compare.table_parts import (
    METHOD,
    accepted_notes,
    comparability_notes,
    covered,
    lead_columns,
    shared,
)
from owlore.stats.paired import PairedDifference, equivalence_p
from owlore.study.benchmarks import FAMILIES, LM_EVAL, Scale

ALL = "all"
PAIRED = ("difference", "low", "high", "standard_error", "seed_error", "degrees_of_freedom")


@dataclass(frozen=True)
class Tested:
    """What a comparison comes to among the others of its family (Holm), at a margin."""

    family: str
    size: int
    margin: float
    p_equal: float  # of equivalence
    p_holm: float
    p_equal_holm: float
    verdict: Verdict


@dataclass(frozen=True)
class OneSeed:
    """The same comparison for one seed alone; None for what only right and wrong answers have."""

    seed: int
    paired: PairedDifference
    discordance: Discordance | None


@dataclass(frozen=True)
class Comparison:
    """A method minus a reference on some tasks of a benchmark, over all seeds and seed by seed.

    The unit is that of `FAMILIES`. `tested` is None task by task, where nothing is concluded.
    """

    group: Group
    benchmark: str
    tasks: str  # "all", "trained", "untrained", or one task
    method: str
    reference: str
    paired: PairedDifference
    seeds: list[OneSeed]
    tested: Tested | None = None

    @property
    def scale(self) -> Scale:
        """How its differences are printed."""
        return FAMILIES[self.benchmark].scale

    @property
    def counted(self) -> list[Discordance]:
        """McNemar's counts, seed by seed; none where answers have scores."""
        return [one.discordance for one in self.seeds if one.discordance is not None]

    def records(self) -> list[dict[str, Any]]:
        """One flat row over all seeds, then one a seed if there are several."""
        seeds = " ".join(str(one.seed) for one in self.seeds)
        if len(self.seeds) == 1:
            return [self._record(seeds, self.paired, self.seeds[0].discordance, self.tested)]
        return [
            self._record(seeds, self.paired, None, self.tested),
            *(self._record(str(one.seed), one.paired, one.discordance) for one in self.seeds),
        ]

    def _record(
        self,
        seeds: str,
        paired: PairedDifference,
        counts: Discordance | None,
        tested: Tested | None = None,
    ) -> dict[str, Any]:
        record: dict[str, Any] = {
            **self.group._asdict(),
            "benchmark": self.benchmark,
            "tasks": self.tasks,
            "method": self.method,
            "reference": self.reference,
            "seeds": seeds,
            "unit": self.scale.unit,
            "n": paired.n,
        }
        for key in (*PAIRED, "p_value"):
            value = getattr(paired, key)
            record[key] = None if value is None or math.isnan(value) else value
        return record | {
            "only_method": counts and counts.only_method,
            "only_reference": counts and counts.only_reference,
            "p_mcnemar": counts and counts.p_value,
            "p_holm": tested and tested.p_holm,
            "margin": tested and tested.margin,
            "p_equivalence": tested and tested.p_equal,
            "p_equivalence_holm": tested and tested.p_equal_holm,
            "verdict": tested and tested.verdict,
            "family": tested and tested.family,
            "size": tested and tested.size,
        }


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
    comparisons = [
        comparison
        for benchmark in FAMILIES
        for group in results.scored(benchmark)
        if benchmark in LM_EVAL or judged(results, group)
        for reference in references_of(results.study)
        for part, tasks in _parts(results, group, benchmark).items()
        for comparison in _family(results, group, benchmark, reference, part, tasks)
    ]
    if not comparisons:
        note = "The study has no base model, full fine-tuning or OwLore to compare with, or no "
        return Table("significance", title, notes=[f"{note}scores."])
    printed = [comparison for comparison in comparisons if comparison.tested]
    groups = [comparison.group for comparison in printed]
    return Table.of(
        "significance",
        title + shared(groups),
        [*lead_columns(groups), *COLUMNS],
        printed,
        _notes(results, printed),
        [record for comparison in comparisons for record in comparison.records()],
    )


def _difference(row: Comparison) -> Value:
    return signed(_known(row.paired.difference), row.scale.factor, row.scale.digits)


def _interval(row: Comparison) -> Value:
    low, high = _known(row.paired.low), _known(row.paired.high)
    return interval(low, high, row.scale.factor, row.scale.digits)


def _mcnemar(row: Comparison) -> Value:
    p_values = [counts.p_value for counts in row.counted]
    texts = [p_value(p).text for p in p_values]
    return Value("; ".join(texts) or NOTHING, max(p_values, default=None))


def _only_one_right(row: Comparison) -> Value:
    texts = [f"{counts.only_method} / {counts.only_reference}" for counts in row.counted]
    surplus = sum(counts.only_method - counts.only_reference for counts in row.counted)
    return Value("; ".join(texts) or NOTHING, float(surplus) if texts else None)


def _seeds(row: Comparison) -> Value:
    return Value(" ".join(str(one.seed) for one in row.seeds))


COLUMNS: list[Column[Comparison]] = [
    Column("benchmark", lambda row: Value(row.benchmark), "text"),
    Column("tasks", lambda row: Value(row.tasks), "text"),
    METHOD,
    Column("against", lambda row: Value(row.reference), "text"),
    Column("difference", _difference),
    Column("95 % interval", _interval),
    Column("verdict", lambda row: Value(row.tested.verdict if row.tested else NOTHING), "text"),
    Column("Holm p", lambda row: p_value(row.tested.p_holm if row.tested else None)),
    Column("paired p", lambda row: p_value(_known(row.paired.p_value))),
    Column(
        "equivalence, Holm p",
        lambda row: p_value(row.tested.p_equal_holm if row.tested else None),
    ),
    Column("McNemar p", _mcnemar),
    Column("only it / only other right", _only_one_right),
    Column("n", lambda row: number(row.paired.n, 0)),
    Column("seeds", _seeds, "text"),
]


def _known(value: float) -> float | None:
    """None in place of nan: nothing can be said."""
    return None if math.isnan(value) else value


def _parts(results: Results, group: Group, benchmark: str) -> dict[str, list[str] | None]:
    """What is compared: all tasks, and apart those that the track trains on and the controls."""
    parts: dict[str, list[str] | None] = {ALL: None}
    if benchmark in LM_EVAL:
        trained, controls = trained_tasks(results.study, group.track, benchmark)
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

    def compared(method: str, part: str, tasks: list[str] | None) -> Comparison:
        return _compared(results, group, benchmark, method, reference, part, tasks)

    together = [compared(method, part, tasks) for method in methods]
    margin = results.study.comparison.margin(benchmark)
    found = verdicts([comparison.paired for comparison in together], margin)
    comparisons = [
        replace(
            comparison,
            tested=Tested(
                family=f"{benchmark}, {part} tasks, against {reference}",
                size=len(methods),
                margin=margin,
                p_equal=equivalence_p(comparison.paired, margin),
                p_holm=p_holm,
                p_equal_holm=p_equal_holm,
                verdict=verdict,
            ),
        )
        for comparison, (p_holm, p_equal_holm, verdict) in zip(together, found, strict=True)
    ]
    names = _tasks_of(results, group, benchmark) if benchmark in LM_EVAL else []
    if part == ALL and len(names) > 1:
        comparisons += [compared(method, task, [task]) for task in names for method in methods]
    return comparisons


def _tasks_of(results: Results, group: Group, benchmark: str) -> list[str]:
    return list(results.of(group, results.study.run[0])[0].scores[benchmark].tasks)


def _compared(
    results: Results,
    group: Group,
    benchmark: str,
    method: str,
    reference: str,
    part: str,
    tasks: list[str] | None,
) -> Comparison:
    """One comparison over all seeds, and one a seed with McNemar's counts."""
    paired = difference(results, group, benchmark, method, reference, tasks)
    entries = results.of(group, method)
    seeds = []
    for seed in (entry.seed for entry in entries):
        alone = paired
        if len(entries) > 1:
            alone = difference(results, group, benchmark, method, reference, tasks, seed)
        counts = None
        if benchmark in LM_EVAL:  # a judge's scores are not right or wrong
            counts = discordance(results, group, benchmark, method, reference, seed, tasks)
        seeds.append(OneSeed(seed, alone, counts))
    return Comparison(group, benchmark, part, method, reference, paired, seeds)


def _notes(results: Results, printed: Sequence[Comparison]) -> list[str]:
    comparison = results.study.comparison
    sizes = {row.reference: row.tested.size for row in printed if row.tested}
    families = ", ".join(f"{size} comparisons against {name}" for name, size in sizes.items())
    by_judge = any(FAMILIES[row.benchmark].scored_by == "judge" for row in printed)
    margin = comparison.equivalence_margin
    margins = f"{margin:g} {'point' if margin == 1 else 'points'}"
    margins += f" (MT-Bench {comparison.mtbench_margin:g})" if by_judge else ""
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
    return notes + comparability_notes(results, *LM_EVAL) + accepted_notes(results, *FAMILIES)
