"""MT-Bench's judges: every one is a scale of its own, so rows come in blocks of one judge each.

A judge too small to grade is called a plumbing check, and nothing is tested or marked by it.
"""

from typing import Any, NamedTuple, Protocol

from owlore.compare.comparisons import judged
from owlore.compare.results import Group, Results
from owlore.compare.table_formats import Column, Value
from owlore.compare.table_parts import InGroup, listed
from owlore.records.mtbench import JudgedRecord

CATEGORIES = (
    *("writing", "roleplay", "reasoning", "math"),
    *("coding", "extraction", "stem", "humanities"),
)


class Block(NamedTuple):
    """What one judge graded in one group; the headline judge's name is empty."""

    judge: str
    group: Group


class OfJudge(InGroup, Protocol):
    """What a row must have for `judge_columns`."""

    @property
    def block(self) -> Block:
        """The judge and the group that the row is of."""


def blocks_of(results: Results) -> list[Block]:
    """The headline judge's groups first, then those of each further judge."""
    groups = results.scored("mtbench")
    judges = {group: _judges(results, group) for group in groups}
    names = dict.fromkeys(name for names in judges.values() for name in names)
    return [Block(name, group) for name in names for group in groups if name in judges[group]]


def _judges(results: Results, group: Group) -> list[str]:
    spec = results.study.tracks[group.track].mtbench
    return list(spec.judges) if spec is not None else []


def several_judges(blocks: list[Block]) -> bool:
    """Whether rows must say which judge they are of."""
    return len({block.judge for block in blocks}) > 1


def benchmark_of(judge: str) -> str:
    """A judge's name for `comparisons.answers`."""
    return f"mtbench/{judge}" if judge else "mtbench"


def summaries(results: Results, block: Block, method: str | None = None) -> list[JudgedRecord]:
    """The judge's mtbench.json of each cell."""
    methods = results.study.run if method is None else [method]
    return [
        entry.judged[block.judge].scores
        for name in methods
        for entry in results.of(block.group, name)
    ]


def categories_of(results: Results, blocks: list[Block]) -> list[str]:
    """The categories that were asked, in FastChat's order."""
    asked = {
        name
        for block in blocks
        for summary in summaries(results, block)
        for name in summary.categories
    }
    return [name for name in CATEGORIES if name in asked] + sorted(asked - set(CATEGORIES))


def judge_record(results: Results, block: Block) -> dict[str, Any]:
    """Who judged, when, and with what, for the CSV."""
    of_cells = summaries(results, block)
    return {
        "judge": block.judge,
        "judge_model": listed(summary.judge.model for summary in of_cells),
        "comparable": all(summary.comparable for summary in of_cells),
        "date": listed(summary.date for summary in of_cells),
        "prompt_version": listed(summary.prompt_version for summary in of_cells),
        "prompts_sha256": listed(filter(None, (summary.prompts_sha256 for summary in of_cells))),
        "reference_set": listed(summary.reference_set for summary in of_cells),
        "judgings": listed(summary.judgings for summary in of_cells),
    }


def judge_columns(results: Results, blocks: list[Block]) -> list[Column[OfJudge]]:
    """The column that says which judge a row is of, where there are several."""
    if not several_judges(blocks):
        return []
    names = {}
    for block in blocks:
        model = listed(summary.judge.model for summary in summaries(results, block))
        names[block] = f"{block.judge or 'headline'} ({model})"
    return [Column("judge", lambda row: Value(names[row.block]), "text")]


def judge_notes(results: Results, blocks: list[Block]) -> list[str]:
    """One note a judge: its id, date, prompts, reference answers, and what was graded."""
    return [
        _judge_note(
            f"Judge {judge}" if judge else "Headline judge" if several_judges(blocks) else "Judge",
            [
                summary
                for block in blocks
                if block.judge == judge
                for summary in summaries(results, block)
            ],
        )
        for judge in dict.fromkeys(block.judge for block in blocks)
    ]


def _judge_note(name: str, of_cells: list[JudgedRecord]) -> str:
    digests = listed(row.prompts_sha256[:12] for row in of_cells if row.prompts_sha256)
    versions = listed(summary.prompt_version for summary in of_cells)
    references = listed(summary.reference_set for summary in of_cells)
    dates = listed(summary.date for summary in of_cells)
    questions = listed(summary.questions for summary in of_cells)
    longest = listed(summary.max_new_tokens for summary in of_cells)
    judgings = listed(summary.judgings for summary in of_cells)
    return (
        f"{name}: {listed(summary.judge.label for summary in of_cells)}; judge prompts "
        f"{versions}"
        + (f" (sha256 {digests})" if digests else "")
        + f"; reference answers {references}; graded {dates}; {questions} questions of two turns, "
        f"answers of at most {longest} tokens; judgings a turn: {judgings}; "
        f"{sum(summary.failed for summary in of_cells)} of "
        f"{sum(summary.n for summary in of_cells)} judgments without a readable rating, left "
        "out and counted. Scores 1 to 10."
    )


def plumbing_notes(results: Results, blocks: list[Block]) -> list[str]:
    """Say that nothing is tested by a judge that is too small to grade, if there is one."""
    if all(judged(results, block.group, block.judge) for block in blocks):
        return []
    return [
        "A plumbing check: the judge is too small to grade, so the scores show that the pipeline "
        "runs and nothing about the methods. They are not tested and not marked."
    ]
