"""Ratings of MT-Bench judgments as numbers: medians over judgings, averages, and their spread.

With one judging a question the averages are those of FastChat's show_result. This file knows the
rows only; it needs neither fschat nor a model.
"""

from collections.abc import Iterable, Mapping
from statistics import fmean, median, stdev
from typing import Any, TypedDict

FAILED = -1  # FastChat's score of a judgment it cannot read

Row = dict[str, Any]


class Summary(TypedDict):
    """Averages of a judge's ratings, as `owlore.records.mtbench.JudgedRecord` has them."""

    overall: float | None
    turn_1: float | None
    turn_2: float | None
    categories: dict[str, float | None]
    n: int
    failed: int
    unrated: int
    judgings: int
    judgings_sd: float | None
    questions: int


Turn = tuple[int, int]  # question_id, turn


def by_turn(rows: Iterable[Mapping[str, Any]]) -> dict[Turn, float | None]:
    """Return the score of each turn of each question: the median over its readable judgings.

    None where no judging could be read. Keys are in order of question and turn.
    """
    found: dict[Turn, list[float]] = {}
    for row in rows:
        scores = found.setdefault((row["question_id"], row["turn"]), [])
        if row["score"] != FAILED:
            scores.append(row["score"])
    return {turn: median(scores) if scores else None for turn, scores in sorted(found.items())}


def summarise(rows: list[Row], questions: list[Row]) -> Summary:
    """Average the judgments: the median of a turn's judgings, then the mean over the turns.

    Returns:
        overall, turn_1, turn_2, categories: mean ratings (1 to 10) of the turns that got one, None
        where none did; n: all judgments; failed: those that could not be read, which FastChat
        leaves out in silence; unrated: turns without any readable judgment; judgings: how often
        each turn was judged; judgings_sd: standard deviation of the judgings' overall averages,
        None for one judging; questions.
    """
    category = {row["question_id"]: row["category"] for row in questions}
    turns = by_turn(rows)
    scored = {turn: score for turn, score in turns.items() if score is not None}
    judgings: dict[int, list[float]] = {}
    for row in rows:
        scores = judgings.setdefault(row.get("judging", 0), [])
        if row["score"] != FAILED:
            scores.append(row["score"])
    overalls = [fmean(scores) for scores in judgings.values() if scores]

    def mean(scores: list[float]) -> float | None:
        return round(fmean(scores), 6) if scores else None

    return {
        "overall": mean(list(scored.values())),
        "turn_1": mean([score for (_, turn), score in scored.items() if turn == 1]),
        "turn_2": mean([score for (_, turn), score in scored.items() if turn == 2]),
        "categories": {
            name: mean([score for (asked, _), score in scored.items() if category[asked] == name])
            for name in dict.fromkeys(category.values())
        },
        "n": len(rows),
        "failed": sum(row["score"] == FAILED for row in rows),
        "unrated": len(turns) - len(scored),
        "judgings": len(judgings),
        "judgings_sd": round(stdev(overalls), 6) if len(overalls) > 1 else None,
        "questions": len(questions),
    }
