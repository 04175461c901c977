"""Handing out GPUs: no two jobs that live at one time have the same one. No GPU is needed."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

import owlore.cli.devices
from owlore.cli.devices import choose
from owlore.core.errors import BadInput

UUIDS = ["GPU-a", "GPU-b", "GPU-c"]
# Takes devices, becomes another program, as `devices.py` does, and lives until its input ends.
JOB = """
import json, os, sys
from pathlib import Path
from owlore.cli.devices import choose
got = choose(int(sys.argv[1]), None, sys.argv[3:], Path(sys.argv[2]))
os.execv(sys.executable, [sys.executable, "-c", f"print({json.dumps(got)!r}, flush=True); input()"])
"""


def job(count: int, folder: Path, uuids: list[str] = UUIDS) -> subprocess.Popen:
    line = [sys.executable, "-c", JOB, str(count), str(folder), *uuids]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def devices(process: subprocess.Popen) -> list[str]:
    return json.loads(process.stdout.readline())


def end(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_jobs_side_by_side_have_different_devices(tmp_path):
    jobs = [job(1, tmp_path), job(2, tmp_path)]
    found = [devices(process) for process in jobs]
    assert sorted(found[0] + found[1]) == UUIDS and [len(each) for each in found] == [1, 2]
    end(*jobs)


def test_a_job_waits_for_a_device_and_gets_that_of_a_killed_one(tmp_path):
    first = job(1, tmp_path, ["GPU-a"])
    assert devices(first) == ["GPU-a"]
    second = job(1, tmp_path, ["GPU-a"])
    printed, _, _ = select.select([second.stdout], [], [], 2)
    assert not printed, "the other one waits"
    first.kill()
    assert devices(second) == ["GPU-a"]
    end(first, second)


def test_jobs_that_want_all_do_not_hold_each_other_up(tmp_path):
    jobs = [job(2, tmp_path, ["GPU-a", "GPU-b"]) for _ in range(3)]
    for process in jobs:
        process.stdin.close()  # it ends as soon as it has had them
    for process in jobs:
        assert devices(process) == ["GPU-a", "GPU-b"]
        process.wait()


@pytest.mark.parametrize(
    ("count", "visible", "uuids", "expected"),
    [
        (1, None, [], []),  # no GPU: as it is
        (2, None, [], []),  # two processes on the CPU
        (0, None, UUIDS, []),
        (1, "2", UUIDS, []),  # Slurm has given exactly what is wanted
        (2, "0,2", UUIDS, []),
        (2, "", UUIDS, []),  # hidden on purpose
        (1, "2,1", UUIDS, ["2"]),
        (2, None, UUIDS, ["GPU-a", "GPU-b"]),
    ],
)
def test_what_is_left_alone(count, visible, uuids, expected, tmp_path):
    assert choose(count, visible, uuids, tmp_path) == expected


def test_a_number_and_its_uuid_are_one_device(tmp_path):
    holder = job(1, tmp_path)
    assert devices(holder) == ["GPU-a"]
    assert choose(1, "0,1", UUIDS, tmp_path) == ["1"]
    end(holder)


def test_more_devices_than_there_are(tmp_path):
    with pytest.raises(BadInput, match="gpu: 4: there are 3 to be seen: GPU-a, GPU-b, GPU-c"):
        choose(4, None, UUIDS, tmp_path)


@pytest.mark.parametrize("arguments", [["1", "--version"], ["0", "--version"]])
def test_without_a_gpu_the_command_is_the_plain_one(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "owlore.cli.devices", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0 and done.stdout.startswith("owlore ")


@pytest.mark.parametrize(("count", "processes"), [(1, 1), (2, 2)])
def test_finetune_starts_as_many_processes_as_it_has_gpus(count, processes):
    done = subprocess.run(
        [sys.executable, "-m", "owlore.cli.devices", str(count), "finetune", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: owlore finetune") == processes


@pytest.mark.parametrize(
    ("count", "command", "visible", "processes"),
    [
        ("0", "finetune", "", None),
        ("1", "finetune", "GPU-a", None),
        ("2", "finetune", "GPU-a,GPU-b", "--nproc-per-node=2"),
        ("2", "evaluate", "GPU-a", None),  # it could not use two
    ],
)
def test_what_a_command_is_started_with(count, command, visible, processes, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf 'GPU-a\\nGPU-b\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "")
    monkeypatch.setattr(owlore.cli.devices, "lock_folder", lambda: tmp_path / "locks")
    started = []
    monkeypatch.setattr(os, "execv", lambda program, line: started.append(line))
    owlore.cli.devices.main([count, command, "--flag"])
    (line,) = started
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert line[-4:] == ["-m", "owlore", command, "--flag"]
    assert [each for each in line if each.startswith("--nproc")] == (
        [processes] if processes else []
    )
