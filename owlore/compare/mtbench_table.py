"""The table of MT-Bench scores, never mixing judges (see `owlore.compare.mtbench_blocks`)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from owlore.compare.comparisons import judged, level, standing
from owlore.compare.mtbench_blocks import (
    Block,
    benchmark_of,
    blocks_of,
    categories_of,
    judge_columns,
    judge_notes,
    judge_record,
    plumbing_notes,
    summaries,
)
from owlore.compare.results import Group, Results
from owlore.compare.table_formats import Column, Mark, Table, Value, number
from owlore.compare.table_parts import (
    METHOD,
    accepted_notes,
    comparability_notes,
    group_record,
    lead_columns,
    nothing_scored,
    pairs,
    seed_notes,
    shared,
)
from owlore.study.benchmarks import FAMILIES

PARTS = {"overall": "overall", "turn_1": "turn 1", "turn_2": "turn 2"}  # keys and their headers
DIGITS = FAMILIES["mtbench"].scale.digits


@dataclass(frozen=True)
class MethodScores:
    """One row: a method's scores by one judge, means over its seeds.

    `mark` and `reach` (half of the 95 % interval) are the overall score's; a plumbing check has
    neither.
    """

    block: Block
    method: str
    means: dict[str, float | None]  # by key of PARTS, and by category
    spreads: dict[str, float | None]  # between seeds
    mark: Mark
    reach: float | None
    judgings_sd: float | None
    n: int
    failed: int
    unrated: int

    @property
    def group(self) -> Group:
        """The track and model that the row is of."""
        return self.block.group

    def record(self) -> dict[str, Any]:
        """The scores as a flat row, see `mtbench_table`."""
        record: dict[str, Any] = {}
        for key, mean in self.means.items():
            record |= {key: mean, f"{key}_seed_sd": self.spreads[key]}
            if key == "overall":
                record["overall_reach"] = self.reach
        record["judgings_sd"] = self.judgings_sd
        return record | {"n": self.n, "failed": self.failed, "unrated": self.unrated}


def mtbench_table(results: Results) -> Table:
    """Return the MT-Bench table: overall, the two turns, and the categories that were asked.

    The records hold the raw scores (1 to 10) as means over seeds, and who judged, when, with which
    prompts and reference answers; `overall_reach` is half of the 95 % interval of the overall
    score, None under a judge that is a plumbing check.
    """
    blocks = blocks_of(results)
    if not blocks:
        return nothing_scored("mtbench")
    groups = results.scored("mtbench")
    categories = categories_of(results, blocks)
    repeated = any(
        summary.judgings > 1 for block in blocks for summary in summaries(results, block)
    )
    rows = [row for block in blocks for row in _rows(results, block, categories)]
    labels = PARTS | {name: name for name in categories}
    columns: list[Column[MethodScores]] = [
        *lead_columns(groups),
        *judge_columns(results, blocks),
        METHOD,
        *(_score_column(key, label) for key, label in labels.items()),
    ]
    if repeated:
        columns.append(Column("sd of judgings", lambda row: number(row.judgings_sd, DIGITS)))
    columns.append(Column("no score", lambda row: number(row.failed, 0, f" of {row.n}")))
    notes = [*judge_notes(results, blocks), *seed_notes(results), *_mark_notes(results, blocks)]
    notes += plumbing_notes(results, blocks)
    if repeated:
        notes.append(
            "Judged several times: a turn's score is the median of its ratings; sd of judgings is "
            "the spread of the overall averages of one judging each (mean over seeds)."
        )
    notes += comparability_notes(results, "mtbench") + accepted_notes(results, "mtbench")
    records = [
        group_record(results, row.group, row.method)
        | judge_record(results, row.block)
        | row.record()
        for row in rows
    ]
    title = FAMILIES["mtbench"].title + shared(groups)
    return Table.of("mtbench", title, columns, rows, notes, records)


def _rows(results: Results, block: Block, categories: Sequence[str]) -> list[MethodScores]:
    """A row a method, all by one judge."""
    graded = judged(results, block.group, block.judge)
    marks = standing(results, block.group, benchmark_of(block.judge)) if graded else {}
    rows = []
    for method in results.study.run:
        of_seeds = summaries(results, block, method)
        scores = {
            "overall": [summary.overall for summary in of_seeds],
            "turn_1": [summary.turn_1 for summary in of_seeds],
            "turn_2": [summary.turn_2 for summary in of_seeds],
        }
        scores |= {
            name: [summary.categories.get(name) for summary in of_seeds] for name in categories
        }
        spans = {key: _mean_and_spread(values) for key, values in scores.items()}
        rows.append(
            MethodScores(
                block,
                method,
                means={key: mean for key, (mean, _) in spans.items()},
                spreads={key: spread for key, (_, spread) in spans.items()},
                mark=marks.get(method, ""),
                reach=_reach(results, block, method) if graded else None,
                judgings_sd=_mean_and_spread(summary.judgings_sd for summary in of_seeds)[0],
                n=sum(summary.n for summary in of_seeds),
                failed=sum(summary.failed for summary in of_seeds),
                unrated=sum(summary.unrated for summary in of_seeds),
            )
        )
    return rows


def _score_column(key: str, label: str) -> Column[MethodScores]:
    """A part of the score; the overall one with its interval and its mark."""

    def value(row: MethodScores) -> Value:
        mean, spread = row.means[key], row.spreads[key]
        reach, mark = (row.reach, row.mark) if key == "overall" else (None, "")
        text = number(mean, DIGITS).text
        text += "" if reach is None else f" ± {reach:.{DIGITS}f}"
        text += "" if spread is None else f" (sd {spread:.{DIGITS}f})"
        return Value(text, mean, mark)

    return Column(label, value)


def _mark_notes(results: Results, blocks: list[Block]) -> list[str]:
    if not any(judged(results, block.group, block.judge) for block in blocks):
        return []
    return [
        "Overall: ± half of the 95 % interval over questions, their two turns clustered"
        + (", and seeds. " if len(results.study.seeds) > 1 else ". ")
        + "Bold: overall score better than every other method's by the same judge (paired, Holm "
        f"over the {pairs(results)} pairs of methods, 5 %). =: the best, or not distinguishable "
        "from it."
    ]


def _reach(results: Results, block: Block, method: str) -> float | None:
    overall = level(results, block.group, benchmark_of(block.judge), method)
    return None if math.isnan(overall.high) else overall.high - overall.difference


def _mean_and_spread(scores: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of what was scored; None where too few were."""
    scored = [score for score in scores if score is not None]
    if not scored:
        return None, None
    return float(np.mean(scored)), float(np.std(scored, ddof=1)) if len(scored) > 1 else None
