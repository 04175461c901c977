"""Differences on MT-Bench, question by question: every method against base and full, by judge."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from owlore.compare.comparisons import LEVEL, Answers, answers, base_of, full_of, judged
from owlore.compare.mtbench_blocks import (
    CATEGORIES,
    Block,
    benchmark_of,
    blocks_of,
    categories_of,
    judge_columns,
    judge_notes,
    judge_record,
    plumbing_notes,
)
from owlore.compare.mtbench_table import DIGITS, PARTS
from owlore.compare.results import Group, Results
from owlore.compare.table_formats import NOTHING, Column, Table, Value, interval, p_value, signed
from owlore.compare.table_parts import (
    METHOD,
    accepted_notes,
    group_record,
    lead_columns,
    seed_notes,
    shared,
)
from owlore.mtbench.ratings import by_turn
from owlore.stats.paired import PairedDifference, holm, paired_difference


@dataclass(frozen=True)
class Difference:
    """One row: a method minus a reference by one judge, in points of the 1 to 10 scale.

    `parts` are keyed as in `PARTS` and by category. A plumbing check has no verdict and no Holm p.
    """

    block: Block
    method: str
    reference: str
    parts: dict[str, PairedDifference]
    verdict: str | None
    p_holm: float | None
    better: int  # questions, by the mean of their turns
    same: int
    worse: int

    @property
    def group(self) -> Group:
        """The track and model that the row is of."""
        return self.block.group

    @property
    def tested(self) -> bool:
        """Whether the judge can grade."""
        return self.verdict is not None

    def difference(self, part: str) -> float | None:
        """Of a part; None where nothing of it was scored for both."""
        return _known(self.parts[part].difference) if part in self.parts else None

    def record(self) -> dict[str, Any]:
        """The difference as a flat row, see `mtbench_differences_table`."""
        record: dict[str, Any] = {"verdict": self.verdict, "p_holm": self.p_holm}
        record |= {"better": self.better, "same": self.same, "worse": self.worse}
        for part, paired in self.parts.items():
            tested = {"low": paired.low, "high": paired.high, "p": paired.p_value}
            record[f"{part}_difference"] = _known(paired.difference)
            for key, value in tested.items():
                record[f"{part}_{key}"] = _known(value) if self.tested else None
            record[f"{part}_n"] = paired.n
        return record


def mtbench_differences_table(results: Results) -> Table:
    """Return every method minus the base model and minus full fine-tuning, judge by judge.

    Differences are paired, question by question, in points of the 1 to 10 scale. The records hold
    them as `<part>_difference`, `_low`, `_high`, `_p` and `_n` (turns) for overall, the turns and
    the categories.
    """
    title = "MT-Bench differences, question by question"
    blocks = blocks_of(results)
    references = [name for name in (base_of(results.study), full_of(results.study)) if name]
    rows = [
        row
        for block in blocks
        for reference in references
        for row in _family(results, block, reference)
    ]
    if not rows:
        note = "No track is scored on MT-Bench, or there is nothing to compare with."
        return Table("mtbench_differences", title, notes=[note])
    groups = results.scored("mtbench")
    labels = PARTS | {name: name for name in categories_of(results, blocks)}
    columns: list[Column[Difference]] = [
        *lead_columns(groups),
        *judge_columns(results, blocks),
        METHOD,
        Column("against", lambda row: Value(row.reference), "text"),
        _part_column("overall", labels.pop("overall")),
        Column("95 % interval", _interval),
        Column("verdict", lambda row: Value(row.verdict or NOTHING), "text"),
        Column("Holm p", lambda row: p_value(row.p_holm)),
        Column("better / same / worse", _counts),
        *(_part_column(part, label) for part, label in labels.items()),
    ]
    notes = [
        "Method minus reference on the same turns, in points of 10, over the turns scored for "
        "both; interval and p as in the table of differences (t, a question's two turns "
        "cluster). Verdict at 5 %, Holm within a judge and reference. better / same / worse: "
        "questions, by the mean of their turns. The categories have few questions each.",
        *judge_notes(results, blocks),
        *seed_notes(results),
        *plumbing_notes(results, blocks),
        *accepted_notes(results, "mtbench"),
    ]
    records = [
        group_record(results, row.group, row.method)
        | {"reference": row.reference}
        | judge_record(results, row.block)
        | row.record()
        for row in rows
    ]
    title += shared(groups)
    return Table.of("mtbench_differences", title, columns, rows, notes, records)


def _part_column(part: str, label: str) -> Column[Difference]:
    return Column(label, lambda row: signed(row.difference(part), digits=DIGITS))


def _interval(row: Difference) -> Value:
    overall = row.parts["overall"]
    if not row.tested:
        return Value(NOTHING)
    return interval(_known(overall.low), _known(overall.high), digits=DIGITS)


def _counts(row: Difference) -> Value:
    return Value(f"{row.better} / {row.same} / {row.worse}", row.better - row.worse)


def _family(results: Results, block: Block, reference: str) -> list[Difference]:
    """One family: every method against `reference`, by one judge."""
    base = base_of(results.study)
    methods = [name for name in results.study.run if name not in (reference, base)]
    pairs = {name: _Pair.of(results, block, name, reference) for name in methods}
    compared = {name: pair.parts(results) for name, pair in pairs.items()}
    tested = judged(results, block.group, block.judge)
    adjusted = holm([parts["overall"].p_value for parts in compared.values()])
    rows = []
    for (method, parts), p_holm in zip(compared.items(), adjusted, strict=True):
        overall = parts["overall"].difference
        verdict = "=" if p_holm >= LEVEL else "better" if overall > 0 else "worse"
        signs = pairs[method].signs()
        rows.append(
            Difference(
                block,
                method,
                reference,
                parts,
                verdict=verdict if tested else None,
                p_holm=p_holm if tested else None,
                better=signs.count(1),
                same=signs.count(0),
                worse=signs.count(-1),
            )
        )
    return rows


@dataclass(frozen=True)
class _Pair:
    """The scores of a method and its reference, a row a turn that was asked, a column a seed."""

    method: Answers
    reference: Answers
    turn: NDArray[Any]

    @classmethod
    def of(cls, results: Results, block: Block, method: str, reference: str) -> "_Pair":
        benchmark = benchmark_of(block.judge)
        first = results.of(block.group, method)[0]
        turns = [turn for _, turn in by_turn(first.judged[block.judge].judgments)]
        return cls(
            answers(results, block.group, method, benchmark),
            answers(results, block.group, reference, benchmark),
            np.array(turns),
        )

    def parts(self, results: Results) -> dict[str, PairedDifference]:
        """Paired differences overall, for each turn and for each category."""
        asked = results.mtbench_questions
        category = np.array([asked[question]["category"] for question in self.method.cluster])
        everything = np.ones(len(category), dtype=bool)
        uses = {"overall": everything, "turn_1": self.turn == 1, "turn_2": self.turn == 2}
        for name in dict.fromkeys([*CATEGORIES, *category]):
            if (category == name).any():
                uses[name] = category == name
        return {part: self._over(use) for part, use in uses.items()}

    def _over(self, use: NDArray[np.bool_]) -> PairedDifference:
        """The paired difference over some of the turns, those left out that lack a score."""
        a, b = self.method.values, self.reference.values
        use = use & np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
        if not use.any():
            nan = math.nan
            return PairedDifference(nan, nan, nan, 0, nan, nan, 1.0)
        one_task = np.full(int(use.sum()), "mtbench")
        return paired_difference(a[use], b[use], one_task, self.method.cluster[use])

    def signs(self) -> list[int]:
        """Of each question with a turn that is scored for both: better 1, the same 0, worse -1."""
        questions = self.method.cluster
        difference = self.method.values.mean(axis=1) - self.reference.values.mean(axis=1)
        of_questions = [
            difference[(questions == question) & np.isfinite(difference)]
            for question in np.unique(questions)
        ]
        # Rounded, as means of equal scores may differ in their last bit.
        return [int(np.sign(round(float(turns.mean()), 9))) for turns in of_questions if len(turns)]


def _known(value: float) -> float | None:
    """None in place of nan: nothing can be said."""
    return None if math.isnan(value) else value
