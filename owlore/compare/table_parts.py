"""Parts that several tables share: leading columns, notes on seeds and on the paper."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from owlore.compare.comparisons import differing
from owlore.compare.paper import comparable
from owlore.compare.results import Group, Results
from owlore.compare.table_formats import Column, Table, Value
from owlore.study.benchmarks import FAMILIES


class InGroup(Protocol):
    """What a row must have for `lead_columns`."""

    @property
    def group(self) -> Group:
        """The track and model that the row is of."""


class OfMethod(InGroup, Protocol):
    """What a row must have for `METHOD`."""

    @property
    def method(self) -> str:
        """The method that the row is of."""


METHOD: Column[OfMethod] = Column("method", lambda row: Value(row.method), "text")


def nothing_scored(benchmark: str) -> Table:
    """Return the table of a benchmark that no track of the study has."""
    return Table(
        benchmark,
        FAMILIES[benchmark].title,
        notes=[f"No track of this study is scored on {benchmark}: there is nothing to show."],
    )


def lead_columns(groups: Sequence[Group]) -> list[Column[InGroup]]:
    """Columns for track and model, each only where the groups differ in it."""
    columns: dict[str, Column[InGroup]] = {
        "track": Column("track", lambda row: Value(row.group.track), "text"),
        "model": Column("model", lambda row: Value(row.group.model), "text"),
    }
    return [columns[name] for name in differing(groups)]


def shared(groups: Sequence[Group]) -> str:
    """What `lead_columns` leaves out because all groups share it, for the end of a title."""
    tracks, models = {group.track for group in groups}, {group.model for group in groups}
    names = [name for names in (tracks, models) if len(names) == 1 for name in names]
    return f": {', '.join(names)}" if names else ""


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


def accepted_notes(results: Results, *benchmarks: str) -> list[str]:
    """Say which results behind a table are of other code and were accepted as they are.

    Those are the trainings and all before them, and the scores on `benchmarks`.
    """
    whose: dict[tuple[str, str], list[str]] = {}
    for result in results.accepted:
        if result.rule == "evaluate":
            used = result.path.stem in benchmarks
        elif result.rule in ("answer", "judge"):
            used = "mtbench" in benchmarks
        else:
            used = result.rule not in ("simulate", "check_overlap")
        if used:
            whose.setdefault((result.rule, result.accepted), []).append(result.what or "all")
    parts = [f"{listed(names)} ({rule}: {because})" for (rule, because), names in whose.items()]
    return [f"Accepted although made by other code: {'; '.join(parts)}."] if parts else []


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


def group_record(results: Results, group: Group, method: str) -> dict[str, Any]:
    """The leading fields of a record: track, model, method and its seeds."""
    seeds = [str(entry.seed) for entry in results.of(group, method)]
    return {**group._asdict(), "method": method, "seeds": " ".join(seeds)}


def listed(values: Iterable[Any]) -> str:
    """The distinct values, in order of appearance."""
    return ", ".join(dict.fromkeys(str(value) for value in values))
