"""The tracking commands: saved views, receipts, rebuilding after a loss or a move."""

import json
import shutil
from pathlib import Path

import pytest
from support.tracked import BASE, STUDY, client, names, runs, track

from owlore.core.files import read_json
from owlore.tracking import stage as tracking
from owlore.tracking import store as mlflow_store
from owlore.tracking.store import ViewType


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
