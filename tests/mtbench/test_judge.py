"""MT-Bench judging: FastChat's rows, and a local judge's expected rating by brute force."""

import json
from pathlib import Path

import fastchat.llm_judge.common as common
import pytest
import torch
from support.judged_study import CATEGORIES, LOCAL, fastchat_average, judge, write_study
from support.small_models import save_tiny, tiny_llama, tiny_mistral, tiny_tokenizer

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, write_jsonl
from owlore.mtbench import answer as mtbench
from owlore.mtbench import protocol as fastchat
from owlore.mtbench import rating_model
from owlore.mtbench.graders import grader_of
from owlore.study.judge import LocalJudge


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path)


# What FastChat reads


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[8.5]]", 8.5),
        ("[5]", 5),
        ("use [[5]], so [[3]]", 5),
        ("[[10]]", 10),
        ("[[11]]", -1),
        ("[[0]]", -1),
        ("[[07]]", -1),
        ("[[" + "9" * 5000 + "]]", -1),
        ("7/10", -1),
        ("", -1),
    ],
)
def test_ratings_are_read_by_fastchat_and_kept_in_range(
    study: Path, text: str, score: float
) -> None:
    before = {name: getattr(common, name) for name in fastchat.REBOUND}
    prompts = {row["name"]: row for row in read_jsonl(study / "judge_prompts.jsonl")}
    questions = read_jsonl(study / "question.jsonl")[:1]
    answers = {81: read_jsonl(study / "answers.jsonl")[0]}
    match = fastchat.matches(questions, answers, {}, prompts, model_id="m", judge_model="j")[0]
    row = fastchat.row(match, text)
    assert row["score"] == score
    assert row["judgment"] == text
    assert {name: getattr(common, name) for name in fastchat.REBOUND} == before
    assert fastchat.request(match) == {
        "messages": [
            {"role": "system", "content": "Judge by single-v1."},
            {"role": "user", "content": "Rate. writing? / A {1}"},
        ],
        "temperature": 0,
        "max_tokens": 2048,
    }


def test_a_missing_judge_prompt_is_named(study: Path) -> None:
    path = study / "judge_prompts.jsonl"
    write_jsonl(path, [row for row in read_jsonl(path) if row["name"] != "single-math-v1"])
    with pytest.raises(BadInput, match="'single-math-v1'"):
        judge(study)


# The local judge


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


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    "pieces", [[], ["10"], ["10]]", "7]]"], ["[[3", "]]"], [f"{k}]]" for k in range(5, 11)]]
)
@pytest.mark.parametrize("limit", [1536, 20])
@pytest.mark.parametrize("architecture", ["llama", "mistral with a sliding window"])
def test_expected_rating_equals_brute_force(
    pieces: list[str], limit: int, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: one plain forward over each whole text; what they share cancels out."""
    monkeypatch.setattr(rating_model, "MAX_PROMPT_TOKENS", limit)
    model, tokenizer = tiny_llama(initializer_range=0.1), tiny_tokenizer()
    if architecture != "llama":
        model = tiny_mistral()  # its window is shorter than the prompt
    tokenizer.add_tokens(pieces)
    messages = [{"role": "user", "content": "How good is that answer?"}]
    found, cut = rating_model.rating_logprobs(model, tokenizer, messages)
    assert (cut > 0) == (limit == 20)

    totals = []
    for rating in range(1, 11):
        (ids,) = mtbench.encode(tokenizer, messages, (f"Rating: [[{rating}]]",))
        text = torch.tensor([ids[cut:]])
        with torch.no_grad():
            steps = model(text).logits[0, :-1].double().log_softmax(-1)
        totals.append(steps.gather(1, text[0, 1:, None]).sum())
    expected = torch.stack(totals)
    torch.testing.assert_close(found.softmax(0), expected.softmax(0), rtol=1e-4, atol=1e-7)
    assert (found - found[0]).sub(expected - expected[0]).abs().max() < 1e-4


def test_score_is_the_expectation_to_four_decimals(study: Path) -> None:
    rows, _ = judge(study)
    content = [
        {"role": "system", "content": "Judge by single-v1."},
        {"role": "user", "content": rows[0]["user_prompt"]},
    ]
    logprobs, _ = rating_model.rating_logprobs(tiny_llama(), tiny_tokenizer(), content)
    expected = float((logprobs.softmax(0) * torch.arange(1, 11)).sum())
    # Judged in a batch, here alone: sums may differ in their last digits.
    assert rows[0]["score"] == pytest.approx(expected, abs=1.1e-4)
    assert rows[0]["score"] == round(rows[0]["score"], 4)


def test_long_prompts_are_cut_and_counted(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating_model, "MAX_PROMPT_TOKENS", 40)
    rows, scores = judge(study)
    assert scores["truncated_prompts"] == 8
    assert all(row["truncated_tokens"] > 0 for row in rows)


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
