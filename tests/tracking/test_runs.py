"""What a cell and a study show in MLflow: files in, runs out."""

import json
from pathlib import Path

import pytest
from support.results_studies import MINI_TRACK, made_up_study
from support.results_tree import write_made_up_results
from support.tracked import BASE, LISA, METHODS, STAGES, STUDY, client, names, runs, track

from owlore.core.errors import BadInput
from owlore.core.files import read_json, read_jsonl, sha256_file, write_jsonl, write_text
from owlore.study.config import Study
from owlore.tracking import runs as mlflow_runs
from owlore.tracking import stage as tracking
from owlore.tracking.store import ViewType


def test_a_cell_is_a_parent_with_a_child_a_stage(root: Path) -> None:
    receipt = track(root)
    parent = client(root).get_run(receipt["run_id"])
    finetune = read_json(root / LISA.path / "finetune.json")
    commonsense = read_json(root / LISA.path / "commonsense.json")
    assert parent.info.run_name == "lisa seed0 (tiny_model, mini)"
    assert parent.info.status == "FINISHED"
    start = parent.info.start_time / 1000
    assert start == 1767225600  # 2026-01-01T00:00:00Z, as in the files
    assert parent.info.end_time / 1000 == start + 60
    assert parent.data.metrics["commonsense_average"] == commonsense["average"]
    assert parent.data.metrics["peak_gib"] == finetune["peak_bytes"] / 2**30
    assert parent.data.metrics["seconds"] == finetune["seconds"]
    assert parent.data.metrics["tokens_per_second"] == finetune["tokens_per_second"]
    assert {"mmlu_average", "mtbench_overall", "trainable_parameters"} <= set(parent.data.metrics)
    assert parent.data.params["learning_rate"] == "0.0001"
    assert parent.data.params["gamma"] == "3"
    assert (parent.data.params["method"], parent.data.params["seed"]) == ("lisa", "0")
    assert parent.data.tags["weights_sha256"] == finetune["weights_sha256"]
    assert parent.data.tags["git_commit"] == "0" * 40
    assert parent.data.tags["git_dirty"] == "false"
    assert parent.data.tags["version.torch"] == "0.0"
    assert parent.data.tags["machine.cores"] == "2"
    assert parent.data.tags["owlore.key"] == LISA.path
    (data,) = parent.inputs.dataset_inputs
    assert data.dataset.digest == finetune["data_sha256"][:36]
    assert json.loads(data.dataset.source) == {"uri": "data/mini/seed0.jsonl"}
    assert json.loads(data.dataset.profile)["pools"] == {"wordnet_category": 100}

    assert set(receipt["children"]) == STAGES
    for run_id in receipt["children"].values():
        child = client(root).get_run(run_id)
        assert child.data.tags["mlflow.parentRunId"] == receipt["run_id"]
        assert child.info.status == "FINISHED"


def test_curves_and_scores_are_in_the_children(root: Path) -> None:
    children = track(root)["children"]
    history = read_jsonl(root / LISA.path / "history.jsonl")
    losses = client(root).get_metric_history(children["finetune"], "loss")
    assert [(point.step, point.value) for point in losses] == [
        (row["step"], row["loss"]) for row in history
    ]
    times = [point.timestamp for point in losses]
    assert times == sorted(times)
    assert times[1] - times[0] == 2500  # 2.5 s a step in the files
    for name in ("learning_rate", "grad_norm", "tokens_per_second"):
        assert len(client(root).get_metric_history(children["finetune"], name)) == len(history)
    finetune = client(root).get_run(children["finetune"])
    assert finetune.info.run_name == "finetune: lisa seed0"
    assert finetune.data.metrics["finetune/first_loss"] == history[0]["loss"]
    scores = read_json(root / LISA.path / "commonsense.json")["tasks"]
    metrics = client(root).get_run(children["commonsense"]).data.metrics
    for task, score in scores.items():
        assert metrics[f"commonsense/{task}"] == score["value"]
        assert metrics[f"commonsense/{task}_stderr"] == score["stderr"]
    mtbench = client(root).get_run(children["mtbench"])
    assert mtbench.data.tags["mtbench_comparable"] == "false"
    assert mtbench.data.params["judge.provider"] == "transformers"
    assert "mtbench/turn_1" in mtbench.data.metrics


def test_artifacts_are_the_files(root: Path) -> None:
    receipt = track(root)
    listed = {
        stage: {item.path for item in client(root).list_artifacts(run_id)}
        for stage, run_id in receipt["children"].items()
    }
    assert listed == {
        "finetune": {"finetune.json", "history.jsonl"},
        "commonsense": {"commonsense.json"},
        "mmlu": {"mmlu.json"},
        "mtbench": {
            "mtbench.json",
            "answers.jsonl",
            "judgments.jsonl",
            "answers_and_judgments.html",
        },
    }
    parent = {item.path for item in client(root).list_artifacts(receipt["run_id"])}
    assert parent == {f"{stage}.json" for stage in STAGES}
    copies = (root / "mlflow" / "artifacts" / receipt["run_id"] / "artifacts").iterdir()
    for copy in copies:
        assert sha256_file(copy) == sha256_file(root / LISA.path / copy.name)
    page = root / "mlflow" / "artifacts" / receipt["children"]["mtbench"] / "artifacts"
    text = (page / "answers_and_judgments.html").read_text()
    assert "a &lt; b" in text and "a < b" not in text
    assert text.count("<tr>") == 1 + 2 * 8  # two turns of eight questions


def test_the_base_model_has_no_training_to_show(root: Path) -> None:
    receipt = track(root, BASE)
    parent = client(root).get_run(receipt["run_id"])
    assert parent.info.run_name == "base (tiny_model, mini)"
    assert set(receipt["children"]) == STAGES - {"finetune"}
    assert "peak_gib" not in parent.data.metrics
    assert "seed" not in parent.data.params


def test_the_study_run_has_report_tables_and_figures(root: Path) -> None:
    receipt = tracking.receipt_path(root, "study")
    tracking.track_study(STUDY, root, receipt)
    assert len(names(root)) == 15  # the cells that the database lacked, too
    run = client(root).get_run(read_json(receipt)["run_id"])
    assert run.info.run_name == "study made-up"
    assert run.data.params["methods"] == "base, full, lisa"
    artifacts = root / "mlflow" / "artifacts" / run.info.run_id / "artifacts"
    found = {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()}
    assert found == {
        "study.json",
        "manifest.json",
        "report/answers.html",
        "report/index.html",
        "tables/commonsense.csv",
        "figures/pareto.svg",
        "outliers/tiny_model.json",
        "outliers/tiny_model.sha256",
        "memory/tiny_model.csv",
        "memory/tiny_model.json",
        "contamination/mini.json",
    }
    tracking.track_study(STUDY, root, receipt)
    assert len(runs(root, ViewType.ALL)) == 15
    write_text(root / "tables" / "commonsense.csv", "method,average\nlisa,0.6\n")
    tracking.track_study(STUDY, root, receipt)
    assert (len(runs(root)), len(runs(root, ViewType.ALL))) == (15, 16)


@pytest.mark.parametrize("name", ["finetune.json", "mmlu.json", "history.jsonl"])
def test_a_missing_file_is_named_before_anything_is_logged(root: Path, name: str) -> None:
    (root / LISA.path / name).unlink()
    with pytest.raises(BadInput, match=name):
        track(root)
    assert client(root).get_experiment_by_name("made-up") is None


def test_a_benchmark_that_the_track_does_not_have_is_no_stage(root: Path) -> None:
    tracks = {"mini": {"train": {"a": 1}, "mmlu": {"tasks": {"mmlu_mini": {}}}}}
    study: Study = made_up_study(run=METHODS, tracks=tracks)
    for name in ("commonsense.json", "mtbench.json"):
        (root / LISA.path / name).unlink()
    receipt = root / "receipt.json"
    tracking.track_cell(study, root, LISA, receipt)
    assert set(read_json(receipt)["children"]) == {"finetune", "mmlu"}


def test_a_long_history_is_thinned_but_keeps_its_ends(tmp_path: Path) -> None:
    rows = [
        {"step": step, "loss": 1.0, "learning_rate": 1e-4, "grad_norm": None, "seconds": step}
        | {"tokens_per_second": 5.0}
        for step in range(1, 12346)
    ]
    write_jsonl(tmp_path / "history.jsonl", rows)
    curves = mlflow_runs._curves(tmp_path / "history.jsonl", (0, 5_000_000))
    steps = [step for step, _, _ in curves["loss"]]
    assert (steps[0], steps[-1]) == (1, 12345)
    assert len(steps) <= mlflow_runs.CURVE_POINTS + 1
    assert curves["grad_norm"] == []
    assert max(time for _, time, _ in curves["loss"]) == 5_000_000  # never after the end


def test_a_further_judge_is_a_child_of_its_own(tmp_path: Path) -> None:
    judge = {"provider": "openai", "model": "b", "base_url": "https://judge.invalid/v1"}
    mtbench = {**MINI_TRACK["mtbench"], "further_judges": {"real": {**judge, "judgings": 3}}}
    study = made_up_study(run=METHODS, tracks={"mini": {**MINI_TRACK, "mtbench": mtbench}})
    write_made_up_results(study, tmp_path)
    run = mlflow_runs.cell_run(study, tmp_path, LISA)
    assert set(run.children) == STAGES | {"mtbench/real"}
    headline, further = run.children["mtbench"], run.children["mtbench/real"]
    folder = tmp_path / LISA.path / "mtbench"
    for child, scores, judgments in (
        (headline, folder.parent / "mtbench.json", folder / "judgments.jsonl"),
        (further, folder / "real" / "mtbench.json", folder / "real" / "judgments.jsonl"),
    ):
        assert child.metrics["mtbench/overall"] == read_json(scores)["overall"]
        assert [path for _, path in child.files] == [scores, folder / "answers.jsonl", judgments]
    assert further.name == "mtbench by real: lisa seed0"
    assert (further.params["judgings"], further.params["judge.model"]) == (3, "b")
    assert [place for place, _ in run.files] == ["", "", "", "", "mtbench/real"]
    assert run.metrics["mtbench_overall"] == headline.metrics["mtbench/overall"]
