"""MT-Bench answers: oracle decoding, batch size, seeds, choice of questions, FastChat's tools."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import fastchat.llm_judge.common as common
import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.judged_study import ALL_CATEGORIES
from support.small_models import save_tiny, tiny_llama, tiny_tokenizer

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, write_jsonl
from owlore.mtbench import answer as mtbench
from owlore.mtbench import protocol as fastchat
from owlore.records.mtbench import AnswerJob
from owlore.sources.models import Weights
from owlore.study.config import MTBench


def spec(**values: Any) -> MTBench:
    judge = {"provider": "transformers", "model": "base"}
    return MTBench(**{"questions": 8, "max_new_tokens": 12, "judge": judge, **values})


def question_file(folder: Path, per_category: int = 2) -> Path:
    rows = [
        {
            "question_id": 101 + number,
            "category": category,
            "turns": [f"Say {'very ' * number}much about {category}.", f"Now in {number} words."],
        }
        for number, category in enumerate(ALL_CATEGORIES * per_category)
    ]
    write_jsonl(folder / "question.jsonl", rows)
    return folder / "question.jsonl"


def answered(
    folder: Path,
    name: str,
    file: Path,
    output: Path,
    adapter: Path | None = None,
    **values: Any,
) -> None:
    weights = Weights(folder / "model", adapter, f"weights of {adapter}")
    mtbench.run(AnswerJob.of_settings(spec(**values), name), weights, file, output)


def answers(folder: Path, name: str, **values: Any) -> list[list[str]]:
    """Answer with the tiny model in `folder`/model; return the two turns of each question."""
    output = folder / "answers" / f"{name}.jsonl"
    questions = folder / "question.jsonl"
    answered(folder, name, questions, output, **values)
    return [row["choices"][0]["turns"] for row in read_jsonl(output)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mtbench")
    save_tiny(folder / "model")
    question_file(folder)
    return folder


def test_batch_size_changes_no_answer(folder: Path) -> None:
    one, four = answers(folder, "one", batch_size=1), answers(folder, "four", batch_size=4)
    assert one == four
    assert all(len(turns) == 2 for turns in one)


def test_a_killed_run_goes_on_and_answers_as_one_never_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = {"questions": 16, "batch_size": 4}
    whole = answers(folder, "whole", **everything)
    original, batches = mtbench._answer_batch, []

    def dying(*args: Any) -> Any:
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append([row["question_id"] for row in args[2]])
        return original(*args)

    monkeypatch.setattr(mtbench, "_answer_batch", dying)
    with pytest.raises(KeyboardInterrupt):
        answers(folder, "killed", **everything)
    partial = folder / "answers" / "killed.partial.jsonl"
    with open(partial, "a") as stream:  # cut short while it wrote a row
        stream.write('{"question_id": 1')
    first = list(batches)
    batches[:] = []
    assert answers(folder, "killed", **everything) == whole  # the other two batches
    assert len(batches) == 2
    assert not partial.exists()
    asked = [number for batch in first + batches for number in batch]
    assert len(asked) == len(set(asked)) == 16


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_new_tokens": 6}, {"questions": 8}])
def test_a_partial_file_of_another_run_is_not_gone_on_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    settings = {"questions": 16, "batch_size": 4, **change}
    fresh = answers(folder, "fresh", **settings)
    original, calls = mtbench._answer_batch, []

    def dying(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mtbench, "_answer_batch", dying)
        answers(folder, "stale", questions=16, batch_size=4)
    assert answers(folder, "stale", **settings) == fresh


def test_seed_changes_sampled_answers_only_and_reruns_are_equal(folder: Path) -> None:
    everything = {"questions": 16, "batch_size": 16}
    first = answers(folder, "seed0", seed=0, **everything)
    again = answers(folder, "again", seed=0, **everything)
    other = answers(folder, "seed1", seed=1, **everything)
    assert first == again
    categories = [row["category"] for row in read_jsonl(folder / "question.jsonl")]
    for category, left, right in zip(categories, first, other, strict=True):
        if fastchat.temperature(category) == 0:
            assert left == right
        elif fastchat.temperature(category) == 0.7:
            assert left != right
    ids = [
        [row["answer_id"] for row in read_jsonl(folder / "answers" / f"{name}.jsonl")]
        for name in ("seed0", "seed1")
    ]
    assert len(set(ids[0])) == 16
    assert ids[0] != ids[1]


def test_fastchat_loads_the_answers(folder: Path) -> None:
    turns = answers(folder, "loaded")
    loaded = common.load_model_answers(str(folder / "answers"))["loaded"]
    assert [row["choices"][0]["turns"] for row in loaded.values()] == turns
    for row in loaded.values():
        assert {"question_id", "answer_id", "model_id", "choices", "tstamp"} <= row.keys()
        assert row["prompt_format"] == "chat_template"
        assert row["truncated_tokens"] == [0, 0]


def test_an_adapter_changes_the_answers(folder: Path) -> None:
    wrapped = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj", "up_proj"]))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.2)
    wrapped.save_pretrained(folder / "adapter")
    output = folder / "adapted.jsonl"
    questions = folder / "question.jsonl"
    answered(folder, "lora", questions, output, folder / "adapter")
    adapted = [row["choices"][0]["turns"] for row in read_jsonl(output)]
    assert adapted != answers(folder, "plain")
    with pytest.raises(BadInput, match=r"no adapter_model\.safetensors"):
        answered(folder, "lora", questions, output, folder / "nowhere")


def test_second_turn_sees_the_first_answer() -> None:
    tokenizer = tiny_tokenizer()
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    (ids,) = mtbench.encode(tokenizer, talk)
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
        "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n"
    )
    tokenizer.chat_template = None
    (ids,) = mtbench.encode(tokenizer, talk)
    text = tokenizer.decode(ids)
    assert text.startswith("Below is an instruction")
    assert text.endswith(
        "### Instruction: one\n\n### Response: two<|im_end|>### Instruction: three\n\n### Response:"
    )


def test_a_template_without_system_messages_gets_them_in_the_users() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    )
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    (ids,) = mtbench.encode(tokenizer, talk)
    assert tokenizer.decode(ids) == "Be brief.\n\nHello"


def test_long_prompts_lose_their_beginning_and_are_counted(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", tiny_llama(max_position_embeddings=64))
    path = question_file(tmp_path, per_category=1)
    rows = read_jsonl(path)
    rows[0]["turns"][0] = "x" * 10
    write_jsonl(path, rows)
    turns = answers(tmp_path, "short", max_new_tokens=24)
    cut = [row["truncated_tokens"] for row in read_jsonl(tmp_path / "answers" / "short.jsonl")]
    prompts = [
        mtbench.encode(tiny_tokenizer(), [{"role": "user", "content": row["turns"][0]}])[0]
        for row in rows
    ]
    assert [first for first, _ in cut] == [max(0, len(ids) - 40) for ids in prompts]
    assert cut[0][0] == 0
    assert all(second > 0 for _, second in cut)

    for row in rows[1:]:  # what is cut off cannot matter
        row["turns"][0] = "Something else. " + row["turns"][0]
    write_jsonl(path, rows)
    assert answers(tmp_path, "longer", max_new_tokens=24) == turns
    with pytest.raises(BadInput, match="window is 64"):
        answers(tmp_path, "none", max_new_tokens=64)


def test_subset_is_spread_over_the_categories(tmp_path: Path) -> None:
    path = question_file(tmp_path, per_category=10)
    everything = read_jsonl(path)
    chosen = {number: mtbench.read_questions(path, number, 0) for number in (5, 8, 20, 80)}
    assert Counter(row["category"] for row in chosen[8]) == dict.fromkeys(ALL_CATEGORIES, 1)
    assert set(Counter(row["category"] for row in chosen[20]).values()) == {2, 3}
    assert chosen[80] == everything
    for smaller, larger in ((5, 8), (8, 20)):
        assert all(row in chosen[larger] for row in chosen[smaller])
    assert chosen[20] == [row for row in everything if row in chosen[20]]  # the file's order
    assert chosen[8] == mtbench.read_questions(path, 8, 0)
    assert chosen[8] != mtbench.read_questions(path, 8, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 1, "category": "math", "turns": ["only one"]}, "two turns"),
        ({"question_id": 1, "category": "cooking", "turns": ["a", "b"]}, "cooking"),
        ({"question_id": 1, "turns": ["a", "b"]}, "expected question_id"),
        ({"question_id": 1, "category": "math", "turns": ["a", "b"]}, "8: .* has 1 questions"),
    ],
)
def test_bad_questions_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    (tmp_path / "question.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(BadInput, match=message):
        mtbench.read_questions(tmp_path / "question.jsonl", 8, 0)
