"""kill -9 of the whole process group at any moment, then the same command: it finishes, and every
result but times and memory equals an undisturbed run's."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from support.workspace import Workspace

pytestmark = pytest.mark.workflow


def launch(workspace: Workspace, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `owlore run`, which `make reproduce` calls, as the leader of its own group."""
    snakemake = workspace.command(*arguments)[3:]  # without `python -m snakemake`
    return subprocess.Popen(
        [sys.executable, "-m", "owlore", "run", *snakemake],
        cwd=workspace.folder,
        env=workspace.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_at_random_moments_it_ends_with_the_same_results(
    finished: Workspace, fresh: Workspace
):
    moments = random.Random(20261124)
    for _ in range(4):
        process = launch(fresh)
        try:
            process.wait(timeout=moments.uniform(4, 40))
            break  # it was faster than we are
        except subprocess.TimeoutExpired:
            kill_group(process)
    process = launch(fresh)
    printed = process.communicate()[0].decode()
    assert process.returncode == 0, printed
    assert fresh.results() == finished.results()
    assert fresh.snakemake() == []


def test_training_goes_on_from_a_checkpoint_and_the_stale_lock_is_cleared(fresh: Workspace):
    for name in ("full", "owlore"):
        fresh.study(f"methods.{name}.max_steps", 400)
        fresh.study(f"methods.{name}.checkpoint_steps", 10)
    fresh.study("run", ["owlore"])
    cell = fresh.root / "mini" / "toy" / "owlore" / "seed0"
    target = "results/tiny/mini/toy/owlore/seed0/finetune.json"
    process = launch(fresh, target)
    deadline = time.monotonic() + 180
    while not list(cell.glob("checkpoints/*/owlore.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    kill_group(process)
    assert not (cell / "finetune.json").exists()
    assert list((fresh.folder / ".snakemake" / "locks").iterdir()), "the kill left a lock"

    process = launch(fresh, target)
    printed = process.communicate()[0].decode()
    assert process.returncode == 0, printed
    assert "lock files of a run that was killed" in printed
    resumed = json.loads((cell / "finetune.json").read_text())
    assert resumed["resumed_from_step"] > 0
    assert f"resuming from step {resumed['resumed_from_step']}" in printed

    (cell / "finetune.json").unlink()
    fresh.snakemake(target)
    undisturbed = json.loads((cell / "finetune.json").read_text())
    assert undisturbed["resumed_from_step"] is None
    assert undisturbed["weights_sha256"] == resumed["weights_sha256"]


def test_a_live_run_is_respected(fresh: Workspace):
    first = launch(fresh)
    try:
        while not (fresh.folder / ".snakemake" / "locks").exists():
            assert first.poll() is None
            time.sleep(0.1)
        second = launch(fresh)
        printed = second.communicate(timeout=60)[0].decode()
        assert second.returncode == 2
        assert "a run is still going on here" in printed and printed.count("\n") == 1
        assert first.poll() is None
    finally:
        kill_group(first)
