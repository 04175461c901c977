"""Tracking: files in, MLflow out: no duplicates, nothing lost, nothing half."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from fake_results import fake_study, write_fake_results

from owlore import mlflow_runs, mlflow_store, tracking
from owlore.config import Cell, Study
from owlore.errors import BadInput
from owlore.files import read_json, read_jsonl, sha256_file, write_json, write_jsonl, write_text
from owlore.mlflow_store import MlflowClient, ViewType

METHODS = ["base", "full", "lisa"]
STUDY = fake_study(run=METHODS)
BASE, FULL, LISA = STUDY.cells()
STAGES = {"finetune", "commonsense", "mmlu", "mtbench"}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with MLflow's tables: making one takes seconds, copying it does not."""
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    mlflow_store.create_database(database)
    return database


@pytest.fixture
def root(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A study's results folder with an empty database; nothing may appear in the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "results" / "made-up"
    write_results(root)
    (root / "mlflow").mkdir()
    shutil.copy(migrated, root / "mlflow" / "mlflow.db")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield root
    assert not list((tmp_path / "cwd").iterdir())


def write_results(root: Path) -> None:
    write_fake_results(STUDY, root)
    answers = []
    for number in range(81, 89):
        answers.append({"question_id": number, "choices": [{"index": 0, "turns": ["a < b", "no"]}]})
    for cell in STUDY.cells():
        write_jsonl(root / cell.path / "mtbench" / "answers.jsonl", answers)
    questions = [
        {"question_id": row["question_id"], "category": "writing", "turns": ["Why?", "Sure?"]}
        for row in answers
    ]
    write_jsonl(root / "questions" / "mtbench" / "question.jsonl", questions)
    write_text(root / "report" / "index.html", "<p>report</p>\n")
    write_text(root / "tables" / "commonsense.csv", "method,average\nlisa,0.5\n")
    write_text(root / "figures" / "pareto.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>\n")


def client(root: Path) -> MlflowClient:
    uri = f"sqlite:///{root / 'mlflow' / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs(root: Path, view: str = ViewType.ACTIVE_ONLY) -> list[Any]:
    experiment = client(root).get_experiment_by_name("made-up")
    assert experiment is not None
    return list(client(root).search_runs([experiment.experiment_id], run_view_type=view))


def names(root: Path) -> list[str]:
    return sorted(run.info.run_name for run in runs(root))


def track(root: Path, cell: Cell = LISA) -> dict[str, Any]:
    receipt = tracking.receipt_path(root, cell.path)
    tracking.track_cell(STUDY, root, cell, receipt)
    value = read_json(receipt)
    assert isinstance(value, dict)
    return value


def edit(path: Path, **values: Any) -> None:
    write_json(path, read_json(path) | values)


def test_initialise_twice_gives_one_experiment(root: Path) -> None:
    receipts = [root / "receipts" / f"init{turn}.json" for turn in (1, 2)]
    for receipt in receipts:
        tracking.initialise(STUDY, root, receipt)
    first, second = map(read_json, receipts)
    assert first == second
    assert (first["experiment"], first["tracking"]) == ("made-up", "sqlite")
    experiments = client(root).search_experiments()
    assert [one.name for one in experiments] == ["made-up"]  # and no empty "Default"
    assert experiments[0].experiment_id == first["experiment_id"]
    assert experiments[0].tags["mlflow.note.content"] == STUDY.description


def test_the_saved_view_shows_one_row_a_cell_with_metrics_that_exist(root: Path) -> None:
    receipt = track(root)
    experiment = client(root).get_experiment(receipt["experiment_id"])
    saved = json.loads(experiment.tags["mlflow.sharedViewState.comparison"])
    state = json.loads(saved["state"])
    shown = client(root).search_runs([receipt["experiment_id"]], state["searchFilter"])
    assert [run.info.run_id for run in shown] == [receipt["run_id"]]
    assert {f"metrics.`{name}`" for name in shown[0].data.metrics} >= set(state["selectedColumns"])


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


def test_tracking_again_makes_no_duplicates(root: Path) -> None:
    first = track(root)
    before = runs(root, ViewType.ALL)
    assert track(root) == first
    assert [run.to_dictionary() for run in runs(root, ViewType.ALL)] == [
        run.to_dictionary() for run in before
    ]
    assert len(before) == 5


def test_dates_are_not_in_the_fingerprint_but_results_are(root: Path) -> None:
    first = track(root)
    finetune = root / LISA.path / "finetune.json"
    judgments = root / LISA.path / "mtbench" / "judgments.jsonl"
    edit(finetune, started="2027-01-01T00:00:00+00:00", ended="2027-01-01T00:01:00+00:00")
    write_jsonl(judgments, [row | {"tstamp": 7.0} for row in read_jsonl(judgments)])
    assert track(root) == first
    edit(finetune, final_loss=0.125)
    second = track(root)
    assert second["fingerprint"] != first["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit(folder / "finetune.json", weights_sha256="f" * 64),
        lambda folder: edit(folder / "mmlu.json", average=0.75),
        lambda folder: write_jsonl(folder / "mtbench" / "judgments.jsonl", []),
        lambda folder: write_jsonl(
            folder / "history.jsonl", read_jsonl(folder / "history.jsonl")[:-1]
        ),
    ],
    ids=["weights", "score", "judgments", "history"],
)
def test_a_change_leaves_one_live_run(root: Path, change: Any) -> None:
    first = track(root)
    other = track(root, FULL)
    change(root / LISA.path)
    second = track(root)
    live = {run.info.run_id for run in runs(root)}
    gone = {run.info.run_id for run in runs(root, ViewType.DELETED_ONLY)}
    assert live == {
        run_id
        for receipt in (second, other)
        for run_id in (receipt["run_id"], *receipt["children"].values())
    }
    assert gone == {first["run_id"], *first["children"].values()}


def test_a_run_deleted_by_hand_comes_back(root: Path) -> None:
    first = track(root)
    client(root).delete_run(first["children"]["mmlu"])
    second = track(root)
    assert second["run_id"] != first["run_id"]
    assert len(runs(root)) == 5


def test_deleted_artifacts_come_back(root: Path) -> None:
    first = track(root)
    shutil.rmtree(root / "mlflow" / "artifacts" / first["children"]["mtbench"])
    second = track(root)
    assert second["run_id"] != first["run_id"]
    assert client(root).list_artifacts(second["children"]["mtbench"])


def test_a_receipt_is_not_believed_when_the_database_is_gone(root: Path, migrated: Path) -> None:
    first = track(root)
    shutil.copy(migrated, root / "mlflow" / "mlflow.db")  # as after `rm`, without the wait
    second = track(root)
    assert second["fingerprint"] == first["fingerprint"]
    assert second["run_id"] != first["run_id"]
    assert len(runs(root)) == 5


def test_rebuild_after_the_database_was_deleted(
    root: Path, migrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking.rebuild(STUDY, root)
    before = names(root)
    assert len(before) == 4 + 5 + 5 + 1
    (root / "mlflow" / "mlflow.db").unlink()
    (root / BASE.path / "mmlu.json").unlink()
    tracking.rebuild(STUDY, root)  # makes and migrates a new database
    assert len(names(root)) == len(before) - 4
    assert f"{BASE.path}: not tracked" in capsys.readouterr().out
    assert len(runs(root, ViewType.ALL)) == len(before) - 4


def test_rebuild_changes_nothing_where_nothing_changed(root: Path) -> None:
    tracking.rebuild(STUDY, root)
    receipts = [path for path in (root / "receipts").rglob("*.json")]
    before = {path: (path.read_text(), path.stat().st_mtime_ns) for path in receipts}
    tracking.rebuild(STUDY, root)
    assert {path: (path.read_text(), path.stat().st_mtime_ns) for path in receipts} == before
    assert {str(path.relative_to(root / "receipts")) for path in receipts} == {
        "init.json",
        "study.json",
        *(f"{cell.path}.json" for cell in STUDY.cells()),
    }


def test_a_moved_folder_gets_a_database_of_its_own(
    root: Path, tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.rebuild(STUDY, root)
    before = names(root)
    moved = tmp_path / "moved here"  # with a blank, too
    root.rename(moved)
    monkeypatch.setattr(mlflow_store, "create_database", lambda path: shutil.copy(migrated, path))
    tracking.rebuild(STUDY, moved)
    assert names(moved) == before
    assert (moved / "mlflow" / "mlflow.db.bak").exists()
    assert not root.exists()  # nothing was written to the old place
    for run in runs(moved):
        assert Path(run.info.artifact_uri).is_relative_to(moved)
        assert client(moved).list_artifacts(run.info.run_id)


def test_a_damaged_database_is_set_aside(
    root: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "mlflow" / "mlflow.db").write_bytes(b"not a database")
    monkeypatch.setattr(mlflow_store, "create_database", lambda path: shutil.copy(migrated, path))
    track(root)
    assert len(runs(root)) == 5
    assert (root / "mlflow" / "mlflow.db.bak").read_bytes() == b"not a database"


def test_four_processes_on_a_new_database_lose_nothing(root: Path) -> None:
    (root / "mlflow" / "mlflow.db").unlink()
    jobs = [(root, cell) for cell in (BASE, FULL, LISA, LISA)]
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        receipts = list(pool.map(track, *zip(*jobs, strict=True)))
    assert receipts[2] == receipts[3]  # the same cell twice: one logged, the other found it
    assert names(root) == sorted(
        name
        for cell, title in ((BASE, "base"), (FULL, "full seed0"), (LISA, "lisa seed0"))
        for name in (
            f"{title} (tiny_model, mini)",
            *(f"{stage}: {title}" for stage in STAGES if (cell, stage) != (BASE, "finetune")),
        )
    )
    assert all(run.info.status == "FINISHED" for run in runs(root))
    assert len(runs(root, ViewType.ALL)) == 14
    for receipt in receipts[1:]:
        losses = client(root).get_metric_history(receipt["children"]["finetune"], "loss")
        assert len(losses) == 30


@pytest.mark.parametrize(
    ("method", "calls"),
    [("create_run", 3), ("log_batch", 4), ("log_artifact", 3), ("set_terminated", 5)],
)
def test_a_crash_leaves_nothing_that_looks_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch, method: str, calls: int
) -> None:
    original, seen = getattr(MlflowClient, method), []

    def breaking(*args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        if len(seen) == calls:
            raise OSError("no space left on device")
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, method, breaking)
        with pytest.raises(OSError, match="no space"):
            track(root)
    assert not tracking.receipt_path(root, LISA.path).exists()
    parents = [run for run in runs(root) if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.status for run in parents] == ["RUNNING"]
    track(root)
    assert [run.info.status for run in runs(root)] == ["FINISHED"] * 5


def test_kill_9_in_the_middle_is_repaired(root: Path) -> None:
    """A real process, killed when four of the five runs were marked as finished."""
    script = """
import os, signal, sys
from pathlib import Path
from owlore import tracking
from owlore.config import Cell, check_study
from owlore.files import read_json
from owlore.mlflow_store import MlflowClient
root = Path(sys.argv[1])
finish, done = MlflowClient.set_terminated, []
def terminate(*args):
    done.append(args)
    if len(done) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(*args)
MlflowClient.set_terminated = terminate
cell = Cell.model_validate_json(sys.argv[2])
tracking.track_cell(check_study(read_json(root / "study.json")), root, cell, root / "receipt.json")
"""
    package = Path(tracking.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(root), LISA.model_dump_json()],
        env=os.environ | {"PYTHONPATH": str(package)},
    )
    assert done.returncode == -signal.SIGKILL
    assert not (root / "receipt.json").exists()
    assert sorted(run.info.status for run in runs(root)) == ["FINISHED"] * 4 + ["RUNNING"]
    track(root)  # also: the dead process's lock does not hold us up
    assert [run.info.status for run in runs(root)] == ["FINISHED"] * 5


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
        "report/index.html",
        "tables/commonsense.csv",
        "figures/pareto.svg",
        "outliers/tiny_model.json",
        "memory/tiny_model.json",
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
    study: Study = fake_study(run=METHODS, tracks=tracks)
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


def test_a_server_is_used_only_when_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri, expected in (
        ("https://mlflow.invalid", "https://mlflow.invalid"),
        ("sqlite:///elsewhere.db", None),
        ("", None),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert mlflow_store.server() == expected
