"""MT-Bench judging: FastChat's rows from a local judge."""

import json
from pathlib import Path

import pytest
from support.judged_study import CATEGORIES, LOCAL, fastchat_average, judge
from support.small_models import save_tiny, tiny_llama

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, write_jsonl
from owlore.mtbench.graders import grader_of
from owlore.study.judge import LocalJudge


def test_local_judgments_are_fastchats_rows(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, scores = judge(study)
    assert [(row["turn"], row["judge"][1], row["question_id"]) for row in rows] == [
        (1, "single-v1", 81),
        (1, "single-v1", 83),
        (1, "single-math-v1", 82),
        (1, "single-math-v1", 84),
        (2, "single-v1-multi-turn", 81),
        (2, "single-v1-multi-turn", 83),
        (2, "single-math-v1-multi-turn", 82),
        (2, "single-math-v1-multi-turn", 84),
    ]
    columns = {"question_id", "model", "judge", "user_prompt", "judgment", "score", "turn"}
    assert all(columns | {"tstamp"} <= row.keys() for row in rows)
    assert rows[2]["user_prompt"] == "Rate. math? / R1 / A {1}"
    assert rows[7]["user_prompt"] == "R1 R2 / A {1} / A 2"
    assert all(1 <= row["score"] <= 10 for row in rows)
    assert fastchat_average(study, capsys) == pytest.approx(scores["overall"], abs=1e-5)

    by = {(row["question_id"], row["turn"]): row["score"] for row in rows}
    assert scores["turn_1"] == pytest.approx(sum(by[q, 1] for q in range(81, 85)) / 4, abs=1e-6)
    assert scores["categories"]["math"] == pytest.approx((by[82, 1] + by[82, 2]) / 2, abs=1e-6)
    assert list(scores["categories"]) == list(CATEGORIES)
    assert (scores["n"], scores["failed"], scores["questions"]) == (8, 0, 4)
    assert scores["comparable"] is False
    assert scores["judge"] == {
        "provider": "transformers",
        "model": "tiny",
        "label": "plumbing check: expected rating of tiny, not an MT-Bench score",
    }
    assert scores["weights_sha256"] == "ab" * 32
    assert (scores["reference_set"], scores["max_new_tokens"]) == ("gpt-4", 8)
    assert not (study / "out" / "judgments.journal.jsonl").exists()


def test_local_judge_is_deterministic_and_reads_the_answers(study: Path) -> None:
    first, again = judge(study)[0], judge(study)[0]
    assert [row["score"] for row in first] == [row["score"] for row in again]
    rows = read_jsonl(study / "answers.jsonl")
    rows[0]["choices"][0]["turns"] = ["Another answer", "A 2"]
    write_jsonl(study / "answers.jsonl", rows)
    changed = judge(study)[0]
    different = [
        left["score"] != right["score"] for left, right in zip(first, changed, strict=True)
    ]
    assert [row["question_id"] for row, other in zip(first, different, strict=True) if other] == [
        81,
        81,
    ]


def test_a_folder_may_judge_and_references_can_be_missing(study: Path) -> None:
    save_tiny(study / "elsewhere", tiny_llama(seed=3))
    rows, scores = judge(study, LocalJudge(provider="transformers", model=str(study / "elsewhere")))
    assert scores["judge"]["model"] == "elsewhere" == rows[0]["judge"][0]
    assert str(study) not in json.dumps(scores)
    with pytest.raises(BadInput, match=r"gpt-4-0125-preview\.jsonl: no such file"):
        judge(study, reference_set="gpt-4-0125-preview")
    write_jsonl(study / "answers.jsonl", read_jsonl(study / "answers.jsonl")[1:])
    with pytest.raises(BadInput, match="question 81"):
        judge(study)


def test_line_separators_in_an_answer_do_no_harm(study: Path) -> None:
    answers = read_jsonl(study / "answers.jsonl")
    answers[0]["choices"][0]["turns"][0] = odd = "one\u2028two\x85three\x0bfour\r\nfive"
    write_jsonl(study / "answers.jsonl", answers)
    assert judge(study)[0][0]["user_prompt"] == f"Rate. writing? / {odd}"


def test_base_judge_needs_the_base_model() -> None:
    with pytest.raises(BadInput, match="--base-model"):
        grader_of(LOCAL, None, "cpu")
