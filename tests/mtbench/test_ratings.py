"""Ratings of judgments: medians, averages, spread; with one judging they are FastChat's."""

from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from owlore.mtbench.ratings import by_turn, summarise

QUESTIONS = [{"question_id": 81, "category": "math"}, {"question_id": 82, "category": "stem"}]


def rows(*scores: tuple[int, int, int, float]) -> list[dict[str, Any]]:
    keys = ("question_id", "turn", "judging", "score")
    return [dict(zip(keys, one, strict=True)) for one in scores]


def test_the_median_of_the_readable_judgings_counts() -> None:
    judged = rows(
        (81, 1, 0, 2), (81, 1, 1, 9), (81, 1, 2, 4),
        (81, 2, 0, -1), (81, 2, 1, 6), (81, 2, 2, 7),
        (82, 1, 0, -1), (82, 1, 1, -1), (82, 1, 2, -1),
        (82, 2, 0, 5), (82, 2, 1, 5), (82, 2, 2, 5),
    )  # fmt: skip
    assert by_turn(judged) == {(81, 1): 4, (81, 2): 6.5, (82, 1): None, (82, 2): 5}
    found = summarise(judged, QUESTIONS)
    assert found["overall"] == pytest.approx((4 + 6.5 + 5) / 3, abs=1e-6)
    assert (found["turn_1"], found["turn_2"]) == (4, 5.75)
    assert found["categories"] == {"math": 5.25, "stem": 5}
    assert (found["n"], found["failed"], found["unrated"], found["judgings"]) == (12, 4, 1, 3)
    averages = [fmean([2, 5]), fmean([9, 6, 5]), fmean([4, 7, 5])]
    assert found["judgings_sd"] == pytest.approx(stdev(averages), abs=1e-6)


@given(st.lists(st.sampled_from([-1, 1, 4.5, 10]), min_size=4, max_size=4))
def test_one_judging_is_the_plain_mean_without_what_failed(scores: list[float]) -> None:
    turns = [(81, 1), (81, 2), (82, 1), (82, 2)]
    judged = rows(*((*turn, 0, score) for turn, score in zip(turns, scores, strict=True)))
    found = summarise(judged, QUESTIONS)
    scored = [score for score in scores if score > 0]
    assert found["overall"] == (pytest.approx(fmean(scored), abs=1e-6) if scored else None)
    assert found["judgings_sd"] is None
    assert found["failed"] == found["unrated"] == 4 - len(scored)
