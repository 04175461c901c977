"""The table of MT-Bench scores, never mixing judges.

Every judge is a scale of its own. A block of rows belongs to one judge, labelled with it; a judge
too small to grade is called a plumbing check, and nothing is tested or marked by it.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from owlore.compare.comparisons import Group, judged, level, standing
from owlore.compare.results import Results
from owlore.compare.table_formats import Column, Table, Value, number
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
)

CATEGORIES = (
    *("writing", "roleplay", "reasoning", "math"),
    *("coding", "extraction", "stem", "humanities"),
)
Block = tuple[str, Group]  # a judge's name, which is empty for the headline, and what it graded


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
    several = several_judges(blocks)
    repeated = any(one["judgings"] > 1 for block in blocks for one in summaries(results, block))

    rows, records = [], []
    for block in blocks:
        judge, group = block
        graded = judged(results, group, judge)
        marks = standing(results, group, benchmark_of(judge)) if graded else {}
        for method in results.study.run:
            found = summaries(results, block, method)
            scores = {key: [one[key] for one in found] for key in ("overall", "turn_1", "turn_2")}
            for name in categories:
                scores[name] = [one["categories"].get(name) for one in found]
            counts = {key: sum(one[key] for one in found) for key in ("n", "failed", "unrated")}
            record = group_record(results, group, method) | judge_record(results, block)
            row = [*lead_values(groups, group), *judge_values(results, block, several)]
            row.append(Value(method))
            for key, values in scores.items():
                mean, spread = _mean_and_spread(values)
                record |= {key: mean, f"{key}_seed_sd": spread}
                mark = marks.get(method, "") if key == "overall" else ""
                text = number(mean, 2).text
                if key == "overall":
                    reach = _reach(results, block, method) if graded else None
                    record["overall_reach"] = reach
                    text += "" if reach is None else f" ± {reach:.2f}"
                text += "" if spread is None else f" (sd {spread:.2f})"
                row.append(Value(text, mean, mark))
            record["judgings_sd"], _ = _mean_and_spread(one["judgings_sd"] for one in found)
            if repeated:
                row.append(number(record["judgings_sd"], 2))
            row.append(number(counts["failed"], 0, f" of {counts['n']}"))
            rows.append(row)
            records.append(record | counts)

    columns = [*lead_columns(groups), *[Column("judge", "text")] * several]
    columns += [Column("method", "text")]
    columns += [Column(name) for name in ("overall", "turn 1", "turn 2", *categories)]
    columns += [*[Column("sd of judgings")] * repeated, Column("no score")]
    title = TITLES["mtbench"] + place(groups)
    notes = [*judge_notes(results, blocks), *seed_notes(results), *_mark_notes(results, blocks)]
    notes += plumbing_notes(results, blocks)
    if repeated:
        notes.append(
            "Judged several times: a turn's score is the median of its ratings; sd of judgings is "
            "the spread of the overall averages of one judging each (mean over seeds)."
        )
    notes += comparability_notes(results, "mtbench")
    return Table("mtbench", title, columns, rows, notes, records)


def blocks_of(results: Results) -> list[Block]:
    """The headline judge's groups first, then those of each further judge."""
    groups = results.scored("mtbench")
    judges = {group: _judges(results, group) for group in groups}
    names = dict.fromkeys(name for names in judges.values() for name in names)
    return [(name, group) for name in names for group in groups if name in judges[group]]


def _judges(results: Results, group: Group) -> list[str]:
    spec = results.study.tracks[group[0]].mtbench
    return list(spec.judges) if spec is not None else []


def several_judges(blocks: list[Block]) -> bool:
    """Whether rows must say which judge they are of."""
    return len({judge for judge, _ in blocks}) > 1


def benchmark_of(judge: str) -> str:
    """A judge's name for `comparisons.answers`."""
    return f"mtbench/{judge}" if judge else "mtbench"


def summaries(results: Results, block: Block, method: str | None = None) -> list[dict[str, Any]]:
    """The judge's mtbench.json of each cell, in older ones what came later filled in."""
    judge, group = block
    methods = results.study.run if method is None else [method]
    later = {"judgings": 1, "judgings_sd": None, "unrated": 0, "prompts_sha256": None}
    return [
        later | entry.judged_by(judge).scores
        for name in methods
        for entry in results.of(*group, name)
    ]


def categories_of(results: Results, blocks: list[Block]) -> list[str]:
    """The categories that were asked, in FastChat's order."""
    asked = {name for block in blocks for one in summaries(results, block)
             for name in one["categories"]}  # fmt: skip
    return [name for name in CATEGORIES if name in asked] + sorted(asked - set(CATEGORIES))


def judge_record(results: Results, block: Block) -> dict[str, Any]:
    """Who judged, when, and with what, for the CSV."""
    found = summaries(results, block)
    return {
        "judge": block[0],
        "judge_model": listed(one["judge"]["model"] for one in found),
        "comparable": all(one["comparable"] for one in found),
        "date": listed(one["date"] for one in found),
        "prompt_version": listed(one["prompt_version"] for one in found),
        "prompts_sha256": listed(filter(None, (one["prompts_sha256"] for one in found))),
        "reference_set": listed(one["reference_set"] for one in found),
        "judgings": listed(one["judgings"] for one in found),
    }


def judge_values(results: Results, block: Block, several: bool) -> list[Value]:
    """The cell under "judge", which is there only where there are several."""
    if not several:
        return []
    model = listed(one["judge"]["model"] for one in summaries(results, block))
    return [Value(f"{block[0]} ({model})" if block[0] else f"headline ({model})")]


def judge_notes(results: Results, blocks: list[Block]) -> list[str]:
    """One note a judge: its id, date, prompts, reference answers, and what was graded."""
    several = several_judges(blocks)
    notes = []
    for judge in dict.fromkeys(judge for judge, _ in blocks):
        own = [block for block in blocks if block[0] == judge]
        found = [one for block in own for one in summaries(results, block)]
        name = f"Judge {judge}" if judge else "Headline judge" if several else "Judge"
        digests = listed(one["prompts_sha256"][:12] for one in found if one["prompts_sha256"])
        notes.append(
            f"{name}: {listed(one['judge']['label'] for one in found)}; judge prompts "
            f"{listed(one['prompt_version'] for one in found)}"
            + (f" (sha256 {digests})" if digests else "")
            + f"; reference answers {listed(one['reference_set'] for one in found)}; "
            f"graded {listed(one['date'] for one in found)}; "
            f"{listed(one['questions'] for one in found)} questions of two turns, answers of at "
            f"most {listed(one['max_new_tokens'] for one in found)} tokens; judgings a turn: "
            f"{listed(one['judgings'] for one in found)}; "
            f"{sum(one['failed'] for one in found)} of {sum(one['n'] for one in found)} judgments "
            "without a readable rating, left out and counted. Scores 1 to 10."
        )
    return notes


def _mark_notes(results: Results, blocks: list[Block]) -> list[str]:
    if not any(judged(results, group, judge) for judge, group in blocks):
        return []
    return [
        "Overall: ± half of the 95 % interval over questions, their two turns clustered"
        + (", and seeds. " if len(results.study.seeds) > 1 else ". ")
        + "Bold: overall score better than every other method's by the same judge (paired, Holm "
        f"over the {pairs(results)} pairs of methods, 5 %). =: the best, or not distinguishable "
        "from it."
    ]


def plumbing_notes(results: Results, blocks: list[Block]) -> list[str]:
    """Say that nothing is tested by a judge that is too small to grade, if there is one."""
    if all(judged(results, group, judge) for judge, group in blocks):
        return []
    return [
        "A plumbing check: the judge is too small to grade, so the scores show that the pipeline "
        "runs and nothing about the methods. They are not tested and not marked."
    ]


def _reach(results: Results, block: Block, method: str) -> float | None:
    judge, group = block
    found = level(results, group, benchmark_of(judge), method)
    return None if math.isnan(found.high) else found.high - found.difference


def _mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    given = [value for value in values if value is not None]
    if not given:
        return None, None
    return float(np.mean(given)), float(np.std(given, ddof=1)) if len(given) > 1 else None
