"""FastChat's protocol: what is rebound, what it asks, what it reads."""

from pathlib import Path

import fastchat.llm_judge.common as common
import pytest
from support.judged_study import ALL_CATEGORIES, judge

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, write_jsonl
from owlore.mtbench import protocol as fastchat


def test_names_that_are_rebound_exist_in_fastchat() -> None:
    assert all(hasattr(common, name) for name in fastchat.REBOUND)
    assert callable(common.chat_completion_openai)
    assert callable(common.get_conversation_template)
    assert set(ALL_CATEGORIES) <= common.temperature_config.keys()


def test_temperatures_and_reference_categories_are_fastchats() -> None:
    temperatures = [fastchat.temperature(name) for name in ALL_CATEGORIES]
    assert temperatures == [0.7, 0.7, 0, 0, 0, 0, 0.1, 0.1]
    assert [name for name in ALL_CATEGORIES if fastchat.needs_reference(name)] == [
        "reasoning",
        "math",
        "coding",
    ]
    with pytest.raises(BadInput, match=r"cooking.*writing"):
        fastchat.temperature("cooking")


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
