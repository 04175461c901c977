"""Tiny models on made-up questions, against lm-eval's own front door and hand computation."""

import math
from pathlib import Path
from typing import Any

import lm_eval
import pandas as pd
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from peft import LoraConfig, get_peft_model
from support.scoring import SHA, benchmark, index_only, questions, run
from support.small_models import save_tiny, tiny_llama, tiny_tokenizer

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, write_jsonl
from owlore.evaluate import lm_tasks
from owlore.evaluate import stage as evaluate
from owlore.evaluate.draw import draw


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    write_jsonl(folder / "wordnet_category_test.jsonl", questions(24, "category test"))
    write_jsonl(folder / "wordnet_category_train.jsonl", questions(9, "category train"))
    write_jsonl(folder / "wordnet_category_validation.jsonl", questions(5, "category validation"))
    write_jsonl(folder / "quartz_mini_test.jsonl", questions(13, "quartz test", choices=2) * 2)
    write_jsonl(folder / "mmlu_mini_test.jsonl", questions(11, "mmlu test"))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


def simple(model: Path, data: Path, tasks: list[str], shots: int) -> dict[str, Any]:
    """The same tasks the way lm-eval's users run them."""
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=tiny_llama().from_pretrained(model),
            tokenizer=tiny_tokenizer(),
            batch_size=4,
            max_length=512,
        ),
        tasks=tasks,
        num_fewshot=shots,
        fewshot_random_seed=1234,
        bootstrap_iters=10,
        task_manager=TaskManager(
            include_path=str(lm_tasks.TASKS),
            include_defaults=False,
            metadata={"data_dir": str(data), "split": "test"},
        ),
    )
    return found


def test_output_has_the_documented_shape(tmp_path: Path, model: Path, data: Path) -> None:
    record, rows = run(tmp_path, model, benchmark(), data)
    assert set(record) >= {
        *("benchmark", "weights_sha256", "tasks", "average", "average_stderr", "split", "seed"),
        *("engine", "lm_eval_version", "dtype", "started", "ended", "seconds", "versions", "git"),
    }
    assert record["benchmark"] == "commonsense"
    assert record["weights_sha256"] == SHA
    assert (record["engine"], record["lm_eval_version"]) == ("shared-prefix", "0.4.13")
    category, quartz = record["tasks"]["wordnet_category"], record["tasks"]["quartz_mini"]
    assert (category["n"], category["n_available"], quartz["n"]) == (24, 24, 26)
    assert (category["num_fewshot"], category["truncated"], category["version"]) == (0, 0, 1.0)
    assert category["value"] == category["acc_norm"]
    assert quartz["value"] == quartz["acc"]
    assert record["average"] == pytest.approx((category["value"] + quartz["value"]) / 2)
    expected = math.sqrt(category["stderr"] ** 2 + quartz["stderr"] ** 2) / 2
    assert record["average_stderr"] == pytest.approx(expected)
    assert [*rows.columns] == [
        *("task", "subject", "doc_id", "doc_hash", "cluster", "gold", "prediction"),
        *("prediction_norm", "correct", "correct_norm", "loglikelihoods"),
    ]
    assert rows[["correct", "correct_norm"]].dtypes.eq(bool).all()
    keys = list(zip(rows["task"], rows["doc_id"], strict=True))
    expected_keys = [("quartz_mini", i) for i in range(26)]
    assert keys == expected_keys + [("wordnet_category", i) for i in range(24)]
    # The file holds every quartz question twice: same hash, own rows.
    assert rows["doc_hash"].nunique() == 13 + 24
    assert rows["cluster"].iloc[-1] == "category test-11"
    assert not list(tmp_path.glob("**/*.partial"))


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("engine", ["plain", "shared-prefix"])
def test_metrics_equal_simple_evaluate(
    tmp_path: Path, model: Path, data: Path, engine: str, shots: int
) -> None:
    tasks = ["wordnet_category"] if shots else ["wordnet_category", "quartz_mini", "mmlu_mini"]
    chosen = benchmark(tasks={name: {} for name in tasks}, num_fewshot=shots)
    record, rows = run(tmp_path, model, chosen, data, engine=engine)
    reference = simple(model, data, tasks, shots)
    assert record["engine"] == engine
    for name in tasks:
        mine, theirs = record["tasks"][name], reference["results"][name]
        for metric in ("acc", "acc_norm", "acc_stderr", "acc_norm_stderr"):
            assert mine[metric] == pytest.approx(theirs.get(f"{metric},none")), (name, metric)
        for sample in reference["samples"][name]:
            row = rows[(rows["task"] == name) & (rows["doc_id"] == sample["doc_id"])].iloc[0]
            likelihoods = [value for value, _ in sample["filtered_resps"]]
            assert row["loglikelihoods"] == pytest.approx(likelihoods, abs=1e-3)
            assert (row["correct"], row["doc_hash"]) == (sample["acc"], sample["doc_hash"])


def test_scores_follow_from_the_stored_log_likelihoods(
    tmp_path: Path, model: Path, data: Path
) -> None:
    record, rows = run(tmp_path, model, benchmark(), data)
    docs = read_jsonl(data / "wordnet_category_test.jsonl")
    hits = hits_norm = 0
    for row in rows[rows["task"] == "wordnet_category"].to_dict("records"):
        doc, likelihoods = docs[row["doc_id"]], list(row["loglikelihoods"])
        per_letter = [ll / len(c) for ll, c in zip(likelihoods, doc["choices"], strict=True)]
        best, best_norm = (x.index(max(x)) for x in (likelihoods, per_letter))
        assert (row["gold"], row["prediction"]) == (doc["answer"], best)
        assert row["prediction_norm"] == best_norm
        assert row["correct"] == (best == doc["answer"])
        assert row["correct_norm"] == (best_norm == doc["answer"])
        hits, hits_norm = hits + (best == doc["answer"]), hits_norm + (best_norm == doc["answer"])
    summary = record["tasks"]["wordnet_category"]
    assert (summary["acc"], summary["acc_norm"]) == (hits / 24, hits_norm / 24)
    p = hits_norm / 24
    assert summary["acc_norm_stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 23))


def test_a_limit_draws_the_same_subset_for_every_model(
    tmp_path: Path, model: Path, data: Path
) -> None:
    tasks = {"wordnet_category": {"limit": 7}, "quartz_mini": {"limit": 100}}
    chosen = benchmark(tasks=tasks)
    record, rows = run(tmp_path / "a", model, chosen, data)
    other = save_tiny(tmp_path / "other", tiny_llama(seed=1))
    _, other_rows = run(tmp_path / "b", other, chosen, data)
    ids = rows[rows["task"] == "wordnet_category"]["doc_id"].tolist()
    assert ids == draw("wordnet_category", 24, chosen) == sorted(set(ids))
    assert len(ids) == record["tasks"]["wordnet_category"]["n"] == 7
    assert record["tasks"]["wordnet_category"]["n_available"] == 24
    assert record["tasks"]["quartz_mini"]["n"] == 26
    keys = ["task", "doc_id", "doc_hash", "gold"]
    pd.testing.assert_frame_equal(rows[keys], other_rows[keys])
    assert rows["loglikelihoods"].tolist()[0][0] != other_rows["loglikelihoods"].tolist()[0][0]
    docs = read_jsonl(data / "wordnet_category_test.jsonl")
    assert [docs[i]["answer"] for i in ids] == rows["gold"].tolist()[-7:]

    alone = benchmark(tasks={"wordnet_category": {"limit": 7}})
    assert draw("wordnet_category", 24, alone) == ids
    reseeded = benchmark(tasks=tasks, seed=5)
    assert draw("wordnet_category", 24, reseeded) != ids
    assert ids != list(range(7))


@pytest.mark.arithmetic
def test_an_adapter_changes_the_scores_as_merged(tmp_path: Path, model: Path, data: Path) -> None:
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tuned = get_peft_model(tiny_llama(), config)
    tuned.save_pretrained(tmp_path / "adapter")
    merged = save_tiny(tmp_path / "merged", tuned.merge_and_unload())
    _, base = run(tmp_path / "a", model, benchmark(), data)
    _, adapted = run(tmp_path / "b", model, benchmark(), data, adapter=tmp_path / "adapter")
    _, expected = run(tmp_path / "c", merged, benchmark(), data)
    likelihoods = [
        torch.tensor([x for row in rows["loglikelihoods"] for x in row])
        for rows in (base, adapted, expected)
    ]
    assert torch.allclose(likelihoods[1], likelihoods[2], atol=1e-3)
    assert not torch.allclose(likelihoods[0], likelihoods[1], atol=0.1)


def test_fewshot_examples_never_come_from_the_scored_split(data: Path) -> None:
    for split, own in (("test", "category test"), ("validation", "category validation")):
        chosen = benchmark(tasks={"wordnet_category": {}}, num_fewshot=9, split=split)
        (task,) = lm_tasks.load_tasks(chosen, data)["wordnet_category"]
        task.build_all_requests()
        for instance in task.instances:
            prompt = instance.args[0]
            assert prompt.count("category train") == 9
            assert prompt.count("Question: ") == 10
            assert prompt.count(own) == prompt.rsplit("Question: ", 1)[1].count(own) == 1


def test_truncated_questions_are_counted(
    tmp_path: Path, model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = benchmark(tasks={"wordnet_category": {}}, num_fewshot=3, max_length=64)
    for engine in ("plain", "shared-prefix"):
        record, _ = run(tmp_path, model, chosen, data, engine=engine)
        assert record["tasks"]["wordnet_category"]["truncated"] == 24
    assert "24 truncated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        ({"tasks": {"wordnet_categry": {}}}, {}, "did you mean wordnet_category"),
        ({"tasks": {"wordnet_antonym": {}}}, {}, r"wordnet_antonym_test\.jsonl: no such file"),
        ({"tasks": {"mmlu_mini": {"metric": "acc_norm"}}}, {}, "mmlu_mini: metric: acc_norm"),
        ({"num_fewshot": 10}, {}, "num_fewshot: 10: wordnet_category has 9 examples"),
        ({"tasks": {"mmlu_mini": {}}, "num_fewshot": 1}, {}, "mmlu_mini has 0 examples"),
        ({}, {"engine": "fast"}, "engine: fast: allowed: shared-prefix, plain"),
        ({}, {"dtype": "float16"}, "dtype: float16: allowed"),
        ({}, {"adapter": Path("nowhere")}, "adapter: nowhere"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path,
    model: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    more: dict[str, Any],
    message: str,
) -> None:
    index_only(monkeypatch, "arc")
    with pytest.raises(BadInput, match=message) as error:
        run(tmp_path, model, benchmark(**values), data, **more)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_embedded_tasks_need_a_folder(tmp_path: Path, model: Path) -> None:
    with pytest.raises(BadInput, match="data_dir: the task wordnet_category needs"):
        run(tmp_path, model, benchmark(), None)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "choices": ["a", "b"], "answer": 2},
        {"question": "q", "choices": ["a", ""], "answer": 0},
        {"question": None, "choices": ["a", "b"], "answer": 0},
        {"text": "q"},
    ],
)
def test_malformed_questions_are_named(tmp_path: Path, model: Path, row: dict[str, Any]) -> None:
    write_jsonl(tmp_path / "quartz_mini_test.jsonl", [*questions(1, "quartz", choices=2), row])
    chosen = benchmark(tasks={"quartz_mini": {}})
    with pytest.raises(BadInput, match=r"quartz_mini_test\.jsonl: row 2: expected question"):
        run(tmp_path, model, chosen, tmp_path)


def test_a_killed_evaluation_goes_on_behind_its_finished_tasks(
    tmp_path: Path, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, rows = run(tmp_path / "whole", model, benchmark(), data)
    asked: list[str] = []
    real = evaluate._score

    def score(lm: Any, name: str, *others: Any) -> Any:
        asked.append(name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(lm, name, *others)

    monkeypatch.setattr(evaluate, "_score", score)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", model, benchmark(), data)
    assert not (tmp_path / "cut" / "commonsense.json").exists()
    record, again = run(tmp_path / "cut", model, benchmark(), data)
    assert asked == ["wordnet_category", "quartz_mini", "quartz_mini"]
    assert record["tasks"] == whole["tasks"] and again.equals(rows)
    assert not list((tmp_path / "cut" / "samples").glob(".*")), "the parts are gone"


@pytest.mark.parametrize("engine", ["plain", "shared-prefix"])
def test_a_broken_model_is_not_scored(tmp_path: Path, data: Path, engine: str) -> None:
    broken = tiny_llama()
    broken.model.norm.weight.data.fill_(float("nan"))
    folder = save_tiny(tmp_path / "model", broken)
    with pytest.raises(BadInput, match=r"wordnet_category, question 0, are not finite"):
        run(tmp_path / "out", folder, benchmark(), data, engine=engine)
    assert not (tmp_path / "out").exists()
