"""One row a question, from lm-eval's logged samples."""

from types import SimpleNamespace
from typing import Any

import pytest

from owlore.core.errors import BadInput
from owlore.evaluate.question_rows import _cluster, metrics_of, question_rows


def test_questions_on_one_text_are_a_cluster() -> None:
    boolq = [{"question": f"is it {word}", "passage": "The same text."} for word in "ab"]
    docs = [*boolq, {"passage": "Another."}, {"context": "The same text.", "question": "Why?"}]
    first, second, other, story = (
        _cluster({"doc": doc, "doc_hash": f"hash {place}"}) for place, doc in enumerate(docs)
    )
    assert first == second == story != other
    video = {"source_id": "activitynet~v_1", "query": "He"}
    assert _cluster({"doc": video, "doc_hash": "a"}) == _cluster({"doc": video, "doc_hash": "b"})
    assert _cluster({"doc": {"question": "q", "passage": " "}, "doc_hash": "own"}) == "own"
    ours = {"cluster": "twins", "passage": "The same text."}
    assert _cluster({"doc": ours, "doc_hash": "own"}) == "twins"


def task(**values: Any) -> Any:
    """What the module asks of an lm-eval task of two choices."""
    given = {
        "OUTPUT_TYPE": "multiple_choice",
        "task_name": "quartz",
        "multiple_input": False,
        "doc_to_choice": lambda doc: doc["choices"],
        "aggregation": lambda: {"acc": None, "acc_norm": None, "bypass": None},
        "_filters": [],
    }
    return SimpleNamespace(**{**given, **values})


def sample(**values: Any) -> dict[str, Any]:
    given = {
        "doc_id": 0,
        "doc_hash": "h",
        "doc": {"choices": ["no", "certainly"], "cluster": "c"},
        "filtered_resps": [(-2.0, False), (-2.5, True)],
        "target": 1,
        "arguments": [("q", " no"), ("q", " certainly")],
    }
    return {**given, **values}


def rows(given: Any, *samples: dict[str, Any], truncated: Any = (), first: int = 0) -> list[Any]:
    lm: Any = SimpleNamespace(truncated=set(truncated))
    return question_rows(lm, "quartz", given, first, list(samples))


def test_the_likeliest_choice_and_the_likeliest_a_letter() -> None:
    (row,) = rows(task(), sample(), first=7)
    assert (row["task"], row["subject"], row["doc_id"], row["cluster"]) == ("quartz", "", 7, "c")
    assert (row["prediction"], row["prediction_norm"]) == (0, 1)  # -2.0 > -2.5; -1.0 < -0.28
    assert (row["correct"], row["correct_norm"], row["gold"]) == (False, True, 1)
    assert row["loglikelihoods"] == [-2.0, -2.5]
    (named,) = rows(task(), sample(target="certainly"))
    assert named == {**row, "doc_id": 0}


def test_a_task_with_the_choices_in_its_context_has_the_answer_there() -> None:
    (row,) = rows(task(multiple_input=True, doc_to_text=lambda doc: 0), sample(target="rest"))
    assert (row["gold"], row["correct"]) == (0, True)


def test_a_question_is_truncated_if_one_of_its_choices_is() -> None:
    (row,) = rows(task(), sample(), truncated=[("q", " certainly")])
    assert row["truncated"] is True
    assert rows(task(), sample(), truncated=[("other", " no")])[0]["truncated"] is False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"filtered_resps": [(-1.0, False), (float("nan"), False)]}, "question 3, are not finite"),
        ({"filtered_resps": [(-1.0, False), (float("-inf"), False)]}, "are not finite"),
        ({"target": 2}, "question 3: answer 2 is not one of its 2 choices"),
        ({"target": "perhaps"}, "answer 'perhaps' is not one of its 2 choices"),
    ],
)
def test_what_cannot_be_scored_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rows(task(), sample(doc_id=3, **values))


def test_a_member_of_a_group_is_a_subject() -> None:
    (row,) = rows(task(task_name="quartz_anatomy"), sample())
    assert row["subject"] == "anatomy"


def test_a_generated_answer_keeps_its_text_and_both_filters() -> None:
    given = task(OUTPUT_TYPE="generate_until", aggregation=lambda: {"exact_match": None})
    filters = [("strict-match", 0), ("flexible-extract", 1)]
    samples = [
        sample(filter=name, exact_match=match, target="#### 3", resps=[["it is 3"]])
        for name, match in filters
    ]
    (row,) = rows(given, *samples, truncated=[("q", None)])
    assert (row["response"], row["target"]) == ("it is 3", "#### 3")
    assert [row[key] for key in ("correct", "correct_norm", "correct_flexible")] == [0, 0, 1]
    assert row["truncated"] is True


def test_metrics_are_those_that_a_task_has_and_we_know() -> None:
    assert metrics_of(task()) == {"acc", "acc_norm"}
    generated = {"exact_match": None}
    assert metrics_of(task(aggregation=lambda: generated)) == {"exact_match"}
    both = [SimpleNamespace(name="strict-match"), SimpleNamespace(name="flexible-extract")]
    assert metrics_of(task(aggregation=lambda: generated, _filters=both)) == {
        "exact_match",
        "exact_match_flexible",
    }
