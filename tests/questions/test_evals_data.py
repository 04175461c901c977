"""Social IQa, QuaRTz and MMLU out of chat prompts."""

import json
from collections import Counter, defaultdict

import pytest
from support.archives import (
    chat,
    jsonl,
    mmlu_rows,
    quartz_rows,
    social_iqa_rows,
)

from owlore.questions.evals_data import context_of, mmlu, quartz, social_iqa
from owlore.questions.splits import SPLITS


def test_questions_on_one_context_are_on_one_side():
    parts, dropped = social_iqa(jsonl(social_iqa_rows()), 0)
    sides = defaultdict(set)
    count = Counter()
    for split, rows in parts.items():
        for row in rows:
            key = context_of(row["question"]).lower().rstrip(".")
            sides[key].add((split, row["cluster"]))
            count[key] += 1
    assert len(sides) == 60
    assert set(count.values()) == {2}
    assert all(len(side) == 1 for side in sides.values())  # one split and one cluster
    assert all(len(parts[split]) > 0 for split in SPLITS)
    assert set(dropped.values()) == {0}


def test_nearly_the_same_context_is_the_same_cluster():
    rows = [
        chat(
            "Bo helped Al move into the new home in town. Why did Bo do this? A: a; B: b; C: c.",
            "A",
        ),
        chat("Bo helped Al move into a new home in town. How is Al? A: d; B: e; C: f.", "B"),
        chat("Cy ate a very large green apple. How is Cy? A: d; B: e; C: f.", "B"),
    ]
    parts, _ = social_iqa(jsonl(rows), 0)
    clusters = {row["question"][:2] + row["cluster"] for part in parts.values() for row in part}
    assert len(clusters) == 2


@pytest.mark.parametrize(
    ("question", "context"),
    [
        ("Al ran. What will Al do?", "Al ran."),
        (
            "What a day! Al asked How it was. Why did Al do this?",
            "What a day! Al asked How it was.",
        ),
        ("Al ran", "Al ran"),
    ],
)
def test_context_of(question, context):
    assert context_of(question) == context


def test_social_iqa_choices_and_answers_are_parsed():
    prompt = "Al ran; fast. Why did Al do this? A: to win; really; B: it's B: no; C: for 1.5 km."
    parts, _ = social_iqa(jsonl([chat(prompt, "C")]), 0)
    (row,) = [row for part in parts.values() for row in part]
    assert row["question"] == "Al ran; fast. Why did Al do this?"
    assert row["choices"] == ["to win; really", "it's B: no", "for 1.5 km"]
    assert row["answer"] == 2


def test_rows_that_cannot_be_used_are_dropped_and_counted():
    good = social_iqa_rows(5)
    rows = [
        *good,
        good[0],
        chat("No choices at all", "A"),
        chat("Al ran. Why? A: a; B: a; C: c.", "A"),  # two choices are one
        chat("Al sat. Why? A: a; B: b; C: c.", "A"),  # two right answers
        chat("Al sat. Why? A: a; B: b; C: c.", "B"),
        chat("Al hid. Why? A: a; B: b; C: c.", "D"),  # no such choice
        chat("Al saw a murder. Why? A: a; B: b; C: c.", "A"),
    ]
    parts, dropped = social_iqa(jsonl(rows), 0)
    assert sum(len(part) for part in parts.values()) == len(good)
    assert dropped == {"unusable": 3, "duplicates": 1, "contradictions": 2, "unsuitable": 1}


def test_twins_are_neighbours_in_one_cluster():
    rows, dropped = quartz(jsonl(quartz_rows()), 0)
    assert len(rows) == 100
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert one["cluster"] == other["cluster"]
        assert one["question"].replace("hotter", "colder") == other["question"].replace(
            "hotter", "colder"
        )
        assert {one["answer"], other["answer"]} == {0, 1}
    assert len({row["cluster"] for row in rows}) == 50
    assert rows[0]["choices"] == ["faster", "slower"]  # "or" and "?" are gone
    firsts = [row["question"] for row in rows[::2]]
    assert firsts != sorted(firsts)
    assert set(dropped.values()) == {0}


def test_mmlu_rows_are_parsed_and_are_their_own_clusters():
    tricky = {
        "question": "Which?\nA. is not a choice.\nA. one\nB. two\nC. three\nD. four\nAnswer:",
        "answer": "D",
    }
    rows, dropped = mmlu(jsonl([*mmlu_rows(), mmlu_rows()[0], tricky]), 0)
    assert len(rows) == len({row["cluster"] for row in rows}) == 41
    assert dropped["duplicates"] == 1
    (row,) = [row for row in rows if row["question"].startswith("Which?")]
    assert row["question"] == "Which?\nA. is not a choice."
    assert (row["choices"], row["answer"]) == (["one", "two", "three", "four"], 3)
    (row,) = [row for row in rows if "7 and 7" in row["question"]]
    assert (row["choices"], row["answer"]) == (["w7", "x7", "y7", "z7"], 3)
    assert [json.dumps(row) for row in rows] != sorted(json.dumps(row) for row in rows)
