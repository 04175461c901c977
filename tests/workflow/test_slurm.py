"""The workflow on a real Slurm of one node: its jobs, its limits, its GPUs, and a killed head."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from support import slurm_node
from support.workspace import REPOSITORY, Workspace, without_times

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(slurm_node.missing() is not None, reason=str(slurm_node.missing())),
]
PROFILES = REPOSITORY / "workflow" / "profiles"
# No accounting, so squeue; and an impatient test.
HASTE = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
GPU, CPU = (["--workflow-profile", str(PROFILES / name), *HASTE] for name in ("slurm", "slurm-cpu"))
CELL = "results/tiny/mini/toy/owlore/seed0/finetune.json"


@pytest.fixture(scope="module")
def node():
    with slurm_node.cluster() as environment:
        yield environment


@pytest.fixture
def on_node(fresh: Workspace, node, monkeypatch) -> Workspace:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, node[name])
    return fresh


def submitted(printed: str) -> list[str]:
    """Slurm's job ids in Snakemake's log, in order."""
    return re.findall(r"has been submitted with SLURM jobid (\d+)", printed)


def squeue(form: str) -> list[list[str]]:
    """One list of words a job, finished jobs included, in the order of submission."""
    command = ["squeue", "--states=all", "--noheader", "--sort=i", f"--Format={form}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def without_tables(workspace: Workspace) -> dict[str, object]:
    cells = (workspace.root / "mini").rglob("*.json")
    return {
        str(file.relative_to(workspace.root)): without_times(json.loads(file.read_text()))
        for file in cells
    }


def owlore_run(workspace: Workspace, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "owlore", "run", *workspace.command(*arguments)[3:]]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    where = {"cwd": workspace.folder, "env": workspace.env}
    return subprocess.Popen(command, start_new_session=True, **pipe, **where)


def test_cells_run_as_slurm_jobs_with_the_same_results_and_on_two_gpus(
    on_node: Workspace, finished: Workspace
):
    on_node.study("run", ["base", "owlore"])
    on_node.snakemake("commonsense", "mtbench", *GPU)
    states = {job: rest for job, *rest in squeue("JobID,State,tres-per-job:30,Comment:90")}
    jobs = [states[job] for job in submitted(on_node.printed)]
    assert {state for state, *_ in jobs} == {"COMPLETED"}
    asked = Counter((re.sub("_wildcards.*", "", comment), gpu) for _, gpu, comment in jobs)
    once = [(f"rule_{name}", "N/A") for name in ("base_model", "questions", "training_data")]
    once += [(f"rule_{name}", "gres:gpu:1") for name in ("score_outliers", "train")]
    twice = [(f"rule_{name}", "gres:gpu:1") for name in ("evaluate", "answer", "judge")]
    assert asked == Counter(once + twice * 2)
    wanted = without_tables(finished)
    assert without_tables(on_node) == {
        name: result for name, result in wanted.items() if "/full/" not in name
    }

    # And on two GPUs: two processes, which here find nothing to compute on but the CPU.
    (on_node.folder / CELL).unlink()
    on_node.snakemake(CELL, *GPU, "--set-resources", "train:gpu=2")
    (job,) = submitted(on_node.printed)
    assert dict(squeue("JobID,tres-per-job:30"))[job] == "gres:gpu:2"
    assert json.loads((on_node.folder / CELL).read_text())["ranks"] == 2


def test_what_slurm_kills_is_tried_with_more_and_training_goes_on(
    on_node: Workspace, tmp_path_factory
):
    """Score layers dies for its memory, training for its time; the weights are those of no kill."""
    on_node.study("methods.owlore.max_steps", 12000)  # more than a minute, Slurm's shortest limit
    on_node.study("methods.owlore.checkpoint_steps", 100)
    undisturbed = Workspace(tmp_path_factory.mktemp("undisturbed"))
    shutil.copytree(on_node.folder, undisturbed.folder, dirs_exist_ok=True)
    beside = owlore_run(undisturbed, CELL)

    limits = ["score_outliers:gpu=0", "score_outliers:mem_mb=150 if attempt == 1 else 3000"]
    limits += ["train:gpu=0", "train:runtime=1 if attempt == 1 else 30"]
    on_node.snakemake(CELL, *CPU, "--set-resources", *limits)
    jobs = submitted(on_node.printed)
    seen = squeue("JobID,State,TimeLimit,MinMemory,tres-per-job:30,Comment:90")
    scored, trained = (
        [one[1:5] for one in seen if one[0] in jobs and one[5].startswith(f"rule_{rule}")]
        for rule in ("score_outliers", "train_")
    )
    assert [one[2] for one in scored] == ["150M", "3000M"] and scored[1][0] == "COMPLETED"
    assert scored[0][0] in {"CANCELLED", "FAILED", "OUT_OF_MEMORY"}
    assert [one[:2] for one in trained] == [["TIMEOUT", "1:00"], ["COMPLETED", "30:00"]]
    assert {one[3] for one in scored + trained} == {"N/A"}, "no GPU was to be asked for"

    printed = beside.communicate()[0]
    assert beside.returncode == 0, printed
    resumed, whole = (
        json.loads((workspace.folder / CELL).read_text()) for workspace in (on_node, undisturbed)
    )
    assert resumed["resumed_from_step"] and whole["resumed_from_step"] is None
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def test_jobs_that_outlive_a_killed_head_are_respected(on_node: Workspace):
    on_node.study("methods.full.max_steps", 100000)
    head = owlore_run(on_node, CELL.replace("owlore", "full"), *CPU)
    training = ["squeue", "--noheader", "--states=running", "--format=%i %k"]
    deadline = time.monotonic() + 180
    while "rule_train_" not in (found := subprocess.check_output(training, text=True)):
        assert time.monotonic() < deadline and head.poll() is None, found
        time.sleep(0.5)
    os.killpg(head.pid, signal.SIGKILL)
    head.communicate()
    again = owlore_run(on_node, CELL, *CPU)
    printed = again.communicate(timeout=60)[0]
    assert again.returncode == 2
    job = re.search(r"^(\d+) rule_train_", found, re.M)[1]
    assert "a run is still going on here" in printed and printed.count("\n") == 1
    assert f"Slurm job {job}" in printed
