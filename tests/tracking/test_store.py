"""Into the database: no duplicates, nothing lost, nothing half."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.tracked import BASE, FULL, LISA, STAGES, client, edit, names, runs, track

from owlore.core.files import read_jsonl, write_jsonl
from owlore.tracking import stage as tracking
from owlore.tracking import store as mlflow_store
from owlore.tracking.store import MlflowClient, ViewType


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
from owlore.tracking import stage as tracking
from owlore.study.config import Cell, check_study
from owlore.core.files import read_json
from owlore.tracking.store import MlflowClient
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
    package = Path(tracking.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(root), LISA.model_dump_json()],
        env=os.environ | {"PYTHONPATH": str(package)},
    )
    assert done.returncode == -signal.SIGKILL
    assert not (root / "receipt.json").exists()
    assert sorted(run.info.status for run in runs(root)) == ["FINISHED"] * 4 + ["RUNNING"]
    track(root)  # also: the dead process's lock does not hold us up
    assert [run.info.status for run in runs(root)] == ["FINISHED"] * 5


def test_a_server_is_used_only_when_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri, expected in (
        ("https://mlflow.invalid", "https://mlflow.invalid"),
        ("sqlite:///elsewhere.db", None),
        ("", None),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert mlflow_store.server() == expected


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ({"/": "ext4"}, None),
        ({"/": "ext4", "RESULTS": "nfs4"}, "nfs4"),
        ({"/": "lustre"}, "lustre"),
        ({"/": "nfs", "RESULTS": "xfs"}, None),
        ({"/": "ext4", "RESULTS-of-others": "nfs"}, None),
    ],
)
def test_a_database_on_a_network_file_system_is_warned_of(
    mounts, kind, tmp_path, monkeypatch, capsys
) -> None:
    """The mount table is made up, for mounting NFS needs a server; the nearest mount decides."""
    table = [
        SimpleNamespace(mountpoint=point.replace("RESULTS", str(tmp_path)), fstype=fstype)
        for point, fstype in mounts.items()
    ]
    monkeypatch.setattr(mlflow_store.psutil, "disk_partitions", lambda all: table)
    for _ in range(2):  # only where the database is made
        with mlflow_store.opened("study", tmp_path / "results", {}):
            pass
    warned = [line for line in capsys.readouterr().out.splitlines() if "SQLite" in line]
    assert len(warned) == (kind is not None)
    if kind:
        assert f"is on {kind}," in warned[0] and "MLFLOW_TRACKING_URI" in warned[0]
