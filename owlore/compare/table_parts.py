"""Parts that several tables share: leading columns, titles, notes on seeds and on the paper."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from owlore.compare.comparisons import Group, differing
from owlore.compare.paper import comparable
from owlore.compare.results import Results
from owlore.compare.table_formats import Column, Table, Value

TITLES = {
    "commonsense": "Commonsense accuracy",
    "mmlu": "MMLU accuracy",
    "gsm8k": "GSM8K accuracy",
    "mtbench": "MT-Bench scores",
}


def nothing_scored(benchmark: str) -> Table:
    """Return the table of a benchmark that no track of the study has."""
    return Table(
        benchmark,
        TITLES[benchmark],
        notes=[f"No track of this study is scored on {benchmark}: there is nothing to show."],
    )


def lead_columns(groups: Sequence[Group]) -> list[Column]:
    """Columns for track and model, each only where the groups differ in it."""
    names = ("track", "model")
    return [Column(names[place], "text") for place in differing(groups)]


def lead_values(groups: Sequence[Group], group: Group) -> list[Value]:
    """The cells under `lead_columns`."""
    return [Value(group[place]) for place in differing(groups)]


def place(groups: Sequence[Group]) -> str:
    """What `lead_columns` leaves out because all groups share it, for the title."""
    shared = [name for name, *others in (set(names) for names in zip(*groups, strict=True))
              if not others]  # fmt: skip
    return f": {', '.join(shared)}" if shared else ""


def comparability_notes(results: Results, *benchmarks: str) -> list[str]:
    """Say why scores must not be read beside the paper's; nothing if they may."""
    scored = [name for name in benchmarks if results.scored(name)]
    reasons = [comparable(results.study, name)[1] for name in scored]
    parts = dict.fromkeys(part for reason in reasons for part in reason.split("; ") if part)
    return [f"Not comparable with the paper's numbers: {'; '.join(parts)}."] if parts else []


def seed_notes(results: Results) -> list[str]:
    """Say how many seeds there are and what that means for errors and tests."""
    seeds = results.study.seeds
    named = ", ".join(map(str, seeds))
    if len(seeds) == 1:
        return [f"1 training seed ({named}): errors and tests are conditional on it."]
    return [
        f"{len(seeds)} training seeds ({named}): means over seeds, sd = spread between seeds. "
        "Tests cover questions and seeds. The base model has no seeds and was run once."
    ]


def pairs(results: Results) -> int:
    """How many pairs the methods of a group make: the family of the marks in a table."""
    return math.comb(len(results.study.run), 2)


def covered(seeds: Sequence[int]) -> str:
    """What an interval or a paired p value covers."""
    if len(seeds) == 1:
        return (
            f"Intervals and paired p are conditional on this one seed ({seeds[0]}): how much the "
            "difference varies between training seeds was not measured."
        )
    return (
        f"Intervals and paired p cover questions and training seeds ({len(seeds)}): the seeds' "
        f"part by t with {len(seeds) - 1} degrees of freedom, the questions' by t with theirs, "
        "joined so that the coverage is at least nominal (Banerjee 1960)."
    )


def summaries(results: Results, groups: Sequence[Group], benchmark: str) -> list[dict[str, Any]]:
    """The result files of a benchmark, one a cell of the groups."""
    return [
        entry.benchmarks[benchmark]
        for group in groups
        for method in results.study.run
        for entry in results.of(*group, method)
    ]


def group_record(results: Results, group: Group, method: str) -> dict[str, Any]:
    """The leading fields of a record: track, model, method and its seeds."""
    seeds = [str(entry.seed) for entry in results.of(*group, method)]
    return {"track": group[0], "model": group[1], "method": method, "seeds": " ".join(seeds)}


def listed(values: Iterable[Any]) -> str:
    """The distinct values, in order of appearance."""
    return ", ".join(dict.fromkeys(str(value) for value in values))
