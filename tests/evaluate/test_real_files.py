"""Real benchmark files through owlore and through lm-eval's own front door: the same numbers.

The files are not part of the project (see README, "Run your own study"): a folder with
`arc_easy_{train,test}.jsonl` and so on, OWLORE_BENCHMARK_FILES or `../shared/data`.
"""

import os
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from support.scoring import benchmark, run
from support.small_models import save_tiny, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM

from owlore.core.files import read_jsonl, write_jsonl
from owlore.evaluate import lm_tasks

ROOT = Path(__file__).parents[2]
FILES = Path(os.environ.get("OWLORE_BENCHMARK_FILES", ROOT.parent / "shared" / "data"))
WINDOW = 4096  # one token a byte: five shots are long
LONG = tiny_llama(max_position_embeddings=WINDOW)
pytestmark = pytest.mark.skipif(
    not (FILES / "mmlu_dev.jsonl").is_file(), reason=f"no benchmark files in {FILES}"
)
# task -> configuration of its data set on the hub; the splits are those of the files
FIVE_SHOTS = {"arc_easy": "ARC-Easy", "arc_challenge": "ARC-Challenge", "openbookqa": "main"}
NO_SHOTS = {"boolq": "boolq", "social_iqa": "default", "winogrande": "winogrande_xl"}


def hub_shaped(folder: Path, splits: dict[str, dict[str, list[dict[str, Any]]]]) -> Path:
    """Write configurations and their splits as a data set's folder on the hub has them."""
    configs = []
    for name, of_split in splits.items():
        for split, rows in of_split.items():
            write_jsonl(folder / name / f"{split}.jsonl", rows)
        files = [{"split": split, "path": f"{name}/{split}.jsonl"} for split in of_split]
        configs.append({"config_name": name, "data_files": files})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
    return folder


def plain(
    model: Path, group: dict[str, Any], folder: Path, shots: int, chosen: dict[str, list[int]]
) -> dict[str, Any]:
    """Score with unmodified lm-eval: HFLM, its own tasks, their data set replaced by a folder."""
    (folder / f"{group['group']}.yaml").write_text(yaml.safe_dump(group))
    found: dict[str, Any] = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=LlamaForCausalLM.from_pretrained(model),
            tokenizer=tiny_tokenizer(),
            batch_size=4,
            max_length=WINDOW,
        ),
        tasks=[group["group"]],
        num_fewshot=shots,
        samples=chosen,
        bootstrap_iters=10,
        task_manager=TaskManager(include_path=str(folder)),
    )
    return found


def compare(rows: Any, mine: dict[str, Any], theirs: dict[str, Any], name: str, first: int) -> None:
    """Compare one lm-eval task: every question, and the averages."""
    for sample in theirs["samples"][name]:
        row = rows.loc[first + sample["doc_id"]]
        likelihoods = [value for value, _ in sample["filtered_resps"]]
        assert list(row["loglikelihoods"]) == pytest.approx(likelihoods, abs=1e-3)
        assert (row["doc_hash"], row["correct"]) == (sample["doc_hash"], bool(sample["acc"]))
        if "acc_norm" in sample:
            assert row["correct_norm"] == bool(sample["acc_norm"])
    if mine:
        for metric in ("acc", "acc_norm", "acc_stderr", "acc_norm_stderr"):
            assert mine[metric] == pytest.approx(theirs["results"][name].get(f"{metric},none"))


@pytest.mark.parametrize(("tasks", "shots"), [(FIVE_SHOTS, 5), (NO_SHOTS, 0)])
def test_commonsense_equals_plain_lm_eval(
    tmp_path: Path, tasks: dict[str, str], shots: int
) -> None:
    model = save_tiny(tmp_path / "model", LONG)
    chosen = benchmark(
        tasks={name: {"limit": 16} for name in tasks}, num_fewshot=shots, max_length=WINDOW
    )
    record, rows = run(tmp_path, model, chosen, FILES)
    members = []
    for name, configuration in tasks.items():
        splits = {
            split: read_jsonl(FILES / f"{name}_{split}.jsonl")
            for split in ("train", "validation", "test")
            if (FILES / f"{name}_{split}.jsonl").is_file()
        }
        path = hub_shaped(tmp_path / name, {configuration: splits})
        missing = {f"{key}_split": None for key in ("validation", "test") if key not in splits}
        member = {"task": name, "dataset_path": str(path), **missing}
        members.append(member if "train" in splits else member | {"training_split": None})
    indices = {name: rows[rows["task"] == name]["doc_id"].tolist() for name in tasks}
    theirs = plain(model, {"group": "files", "task": members}, tmp_path, shots, indices)
    for name in tasks:
        own = rows[rows["task"] == name].set_index("doc_id")
        assert len(own) == len(theirs["samples"][name]) == 16
        compare(own, record["tasks"][name], theirs, name, 0)


def test_mmlu_equals_plain_lm_eval(tmp_path: Path) -> None:
    by_subject: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for split in ("dev", "validation"):
        for row in read_jsonl(FILES / f"mmlu_{split}.jsonl"):
            of_split = by_subject.setdefault(row["subject"], {"dev": [], "validation": []})
            of_split[split].append(row)
    path = hub_shaped(tmp_path / "mmlu", by_subject)
    assert len(by_subject) == 57

    model = save_tiny(tmp_path / "model", LONG)
    chosen = benchmark(tasks={"mmlu": {"limit": 60}}, num_fewshot=5, max_length=WINDOW)
    record, rows = run(tmp_path, model, chosen, FILES)
    assert len(rows) == 60
    # The questions of a group are numbered through, in the order of its members.
    first, begins, indices = 0, {}, {}
    for name in lm_tasks.members("mmlu", TaskManager()):
        subject = name.removeprefix("mmlu_")
        begins[name] = first
        first += len(by_subject[subject]["validation"])
        own = rows[rows["subject"] == subject]["doc_id"] - begins[name]
        if len(own):
            indices[name] = own.tolist()
    asked = [
        {"task": name, "dataset_path": str(path), "test_split": "validation"} for name in indices
    ]
    theirs = plain(model, {"group": "files", "task": asked}, tmp_path, 5, indices)
    for name in indices:
        compare(rows.set_index("doc_id"), {}, theirs, name, begins[name])
    right = [bool(sample["acc"]) for name in indices for sample in theirs["samples"][name]]
    assert record["tasks"]["mmlu"]["acc"] == pytest.approx(sum(right) / 60)
