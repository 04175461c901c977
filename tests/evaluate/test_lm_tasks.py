"""lm-eval's own tasks over local copies of their data: files and hub-shaped folders."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scoring import benchmark, index_only, questions, run
from support.small_models import save_tiny

from owlore.core.errors import BadInput
from owlore.core.files import write_jsonl
from owlore.evaluate import lm_tasks
from owlore.evaluate.draw import draw
from owlore.evaluate.shared_prefix import SharedPrefixLM


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


def arc(n: int, label: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{label}-{index}",
            "question": row["question"],
            "choices": {"text": row["choices"], "label": list("ABCD")},
            "answerKey": "ABCD"[row["answer"]],
        }
        for index, row in enumerate(questions(n, label))
    ]


def test_builtin_tasks_read_local_files(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index_only(monkeypatch, "arc", "super_glue/boolq", "winogrande")
    data = tmp_path / "data"
    write_jsonl(data / "arc_easy_test.jsonl", arc(6, "arc test"))
    write_jsonl(data / "arc_easy_train.jsonl", arc(3, "arc train"))
    boolq = [{"question": f"is it {i}", "passage": "thin water", "label": i % 2} for i in range(5)]
    pd.DataFrame(boolq).to_parquet(data / "boolq_validation.parquet", index=False)
    write_jsonl(
        data / "winogrande_validation.jsonl",
        [
            {"sentence": f"{i} the owl met the hero and _ ran.", "option1": "the owl"}
            | {"option2": "hero", "answer": str(1 + i % 2)}
            for i in range(4)
        ],
    )
    tasks = {"arc_easy": {"metric": "acc_norm"}, "boolq": {}, "winogrande": {}}
    record, rows = run(tmp_path, model, benchmark(tasks=tasks), data)
    assert {name: task["split"] for name, task in record["tasks"].items()} == {
        "arc_easy": "test",
        "boolq": "validation",
        "winogrande": "validation",
    }
    assert "boolq: acc" in (printed := capsys.readouterr().out)
    assert "5 questions, validation split" in printed
    assert record["tasks"]["boolq"]["acc_norm"] is None
    golds = rows.groupby("task")["gold"].apply(list)
    assert golds["boolq"] == [0, 1, 0, 1, 0]
    assert rows[rows["task"] == "boolq"]["cluster"].nunique() == 1, "questions on one passage"
    assert rows[rows["task"] == "arc_easy"]["cluster"].nunique() == 6
    assert golds["winogrande"] == [0, 1, 0, 1]
    assert golds["arc_easy"] == [row["answer"] for row in questions(6, "arc test")]

    chosen = benchmark(tasks={"arc_easy": {}}, num_fewshot=3)
    (task,) = lm_tasks.load_tasks(chosen, data)["arc_easy"]
    task.build_all_requests()
    assert {i.args[0].count("arc train") for i in task.instances} == {3}
    assert {i.args[0].count("arc test") for i in task.instances} == {1}
    with pytest.raises(BadInput, match="boolq has 0 examples"):
        lm_tasks.load_tasks(benchmark(tasks={"boolq": {}}, num_fewshot=1), data)
    with pytest.raises(BadInput, match=r"no arc_challenge_test\.jsonl or \.parquet, no fold"):
        lm_tasks.load_tasks(benchmark(tasks={"arc_challenge": {}}), data)
    with pytest.raises(BadInput, match=r"ai2_arc: a tag, not a task; name its tasks \(arc_ch"):
        lm_tasks.load_tasks(benchmark(tasks={"ai2_arc": {}}), data)


def test_mmlu_is_one_task_over_all_subjects(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_only(monkeypatch, "mmlu/default")
    members = lm_tasks.members("mmlu", lm_tasks.TaskManager(str(lm_tasks.TASKS), True, {}))
    assert len(members) == 57
    rows = [
        {**row, "subject": member.removeprefix("mmlu_")}
        for member in members
        for row in questions(3, member)
    ]
    write_jsonl(tmp_path / "mmlu_validation.jsonl", rows)
    write_jsonl(tmp_path / "mmlu_dev.jsonl", [r for r in rows if " 0:" in r["question"]])
    chosen = benchmark(tasks={"mmlu": {"limit": 40}}, num_fewshot=1, max_length=512)
    record, table = run(tmp_path, model, chosen, tmp_path)
    mmlu = record["tasks"]["mmlu"]
    assert (mmlu["n"], mmlu["n_available"], mmlu["split"]) == (40, 171, "validation")
    assert mmlu["acc"] == table["correct"].mean()
    assert set(table["task"]) == {"mmlu"}
    assert set(mmlu["groups"]) <= {"stem", "other", "social_sciences", "humanities"}
    assert sum(group["n"] for group in mmlu["groups"].values()) == 40
    weighted = sum(group["acc"] * group["n"] for group in mmlu["groups"].values()) / 40
    assert weighted == pytest.approx(mmlu["acc"])
    assert set(table["subject"]) <= {member.removeprefix("mmlu_") for member in members}
    assert table["doc_id"].tolist() == draw("mmlu", 171, chosen)
    ordered = [row for member in members for row in questions(3, member)]
    assert table["gold"].tolist() == [ordered[i]["answer"] for i in table["doc_id"]]


def test_gsm8k_keeps_the_answers_and_both_filters(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_only(monkeypatch, "gsm8k")
    rows = [{"question": f"{i} owls and 2 more?", "answer": f"So\n#### {i + 2}"} for i in range(4)]
    write_jsonl(tmp_path / "gsm8k_test.jsonl", rows)
    write_jsonl(tmp_path / "gsm8k_train.jsonl", rows[:2])

    def generate(lm: Any, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        given = ["#### 2", "it is 3", "#### 9", "none"]
        return [given[request.doc_id] for request in requests]

    monkeypatch.setattr(SharedPrefixLM, "generate_until", generate)
    for metric, value in (("exact_match", 0.25), ("exact_match_flexible", 0.5)):
        chosen = benchmark(tasks={"gsm8k": {"metric": metric}}, num_fewshot=1)
        record, table = run(tmp_path, model, chosen, tmp_path)
        assert record["tasks"]["gsm8k"]["value"] == value
    assert table["correct"].tolist() == [True, False, False, False]
    assert table["correct_flexible"].tolist() == [True, True, False, False]
    assert table["response"].tolist() == ["#### 2", "it is 3", "#### 9", "none"]


def test_gsm8k_is_generated_by_the_model(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_only(monkeypatch, "gsm8k")
    rows = [{"question": f"{i} owls?", "answer": f"#### {i}"} for i in range(2)]
    write_jsonl(tmp_path / "gsm8k_test.jsonl", rows)
    chosen = benchmark(tasks={"gsm8k": {"metric": "exact_match"}}, max_length=300)
    record, table = run(tmp_path, model, chosen, tmp_path)
    assert record["tasks"]["gsm8k"]["n"] == 2 and table["response"].map(type).eq(str).all()


def test_builtin_tasks_read_hub_shaped_folders(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_only(monkeypatch, "arc")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "ai2_arc"
    for split, n in (("train", 2), ("validation", 4), ("test", 6)):
        write_jsonl(folder / f"easy/{split}.jsonl", arc(n, f"arc {split}"))
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: ARC-Easy\n  data_files:\n"
        + "".join(
            f"  - {{split: {split}, path: easy/{split}.jsonl}}\n"
            for split in ("train", "validation", "test")
        )
        + "---\n"
    )
    for split, n in (("test", 6), ("validation", 4)):
        chosen = benchmark(tasks={"arc_easy": {}}, num_fewshot=1, split=split)
        record, rows = run(tmp_path, model, chosen, tmp_path)
        assert record["tasks"]["arc_easy"]["split"] == split
        assert rows["gold"].tolist() == [row["answer"] for row in questions(n, f"arc {split}")]
