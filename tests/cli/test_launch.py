"""`owlore run`: a stale lock never stops it, a live run always does. Real Snakemake processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.results_studies import made_up_study

from owlore.cli import launch
from owlore.core.files import write_json

PACKAGE = Path(launch.__file__).parents[2]
RUN = """
import sys
from owlore.core.errors import OwloreError
from owlore.cli.command_table import COMMANDS
from owlore.cli.launch import run
try:
    sys.exit(run(sys.argv[1:], COMMANDS))
except OwloreError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
WRAPPER = [sys.executable, "-P", "-c", RUN]
PLAIN = [sys.executable, "-m", "snakemake"]
SNAKEFILE = """
rule done:
    output: "done.txt"
    shell:
        "echo no > {output}; touch started; "
        "while [ ! -e go ]; do sleep 0.1; done; "
        "echo yes > {output}"

rule fails:
    output: "never.txt"
    shell: "exit 3"

rule orphan:
    output: "orphan.txt"
    shell: "PYTHON -m owlore finetune && touch {output}"
"""
FAKE_JOB = """
import pathlib, time
pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command in a new process group in the workflow's folder; the group dies with us."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("PYTHON", sys.executable))
    (tmp_path / "owlore").mkdir()
    (tmp_path / "owlore" / "__init__.py").touch()  # a package, or ours would be found before it
    (tmp_path / "owlore" / "__main__.py").write_text(FAKE_JOB)
    started = []

    def launched(*command: str, cwd: Path = tmp_path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(PACKAGE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield launched
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


def locks(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / ".snakemake" / "locks").iterdir()}


def test_after_kill_9_the_same_command_works(tmp_path: Path, start: Start) -> None:
    command = (*WRAPPER, "--cores", "1", "done")
    first = start(*command)
    wait_for(tmp_path / "started")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert locks(tmp_path)
    (tmp_path / "go").touch()

    code, _, errors = finish(start(*PLAIN, "--cores", "1", "--rerun-incomplete", "done"))
    assert code != 0
    assert "LockException" in errors  # what we are here for

    code, output, errors = finish(start(*command))
    assert code == 0, errors
    assert "removed 1 lock file" in output
    assert (tmp_path / "done.txt").read_text() == "yes\n"
    code, output, errors = finish(start(*command))
    assert code == 0, errors
    assert "removed" not in output


def test_a_live_plain_run_is_respected(tmp_path: Path, start: Start) -> None:
    live = start(*PLAIN, "--cores", "1", "done")
    wait_for(tmp_path / "started")
    before = locks(tmp_path)
    code, _, errors = finish(start(*WRAPPER, "--cores", "1", "done"))
    assert code == 2
    assert f"pid {live.pid} (snakemake" in errors
    assert len(errors.strip().splitlines()) == 1
    assert before and locks(tmp_path) == before
    (tmp_path / "go").touch()
    assert finish(live)[0] == 0


def test_a_second_wrapper_is_refused(tmp_path: Path, start: Start) -> None:
    first = start(*WRAPPER, "--cores", "1", "done")
    wait_for(tmp_path / "started")
    before = locks(tmp_path)
    # From elsewhere, too: what counts is the folder that Snakemake works in.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    second = start(*WRAPPER, "--directory", str(tmp_path), "--cores", "1", cwd=elsewhere)
    code, _, errors = finish(second)
    assert code == 2
    assert "a run is still going on here" in errors
    assert before and locks(tmp_path) == before
    assert not list(elsewhere.iterdir())
    (tmp_path / "go").touch()
    assert finish(first)[0] == 0
    assert (tmp_path / "done.txt").exists()


def test_a_job_that_outlived_snakemake_is_respected(tmp_path: Path, start: Start) -> None:
    killed = start(*PLAIN, "--cores", "1", "orphan")
    wait_for(tmp_path / "started")
    killed.kill()  # Snakemake alone: its job goes on writing
    killed.wait()
    command = (*WRAPPER, "--cores", "1", "orphan")
    code, _, errors = finish(start(*command))
    assert code == 2
    assert "(owlore finetune)" in errors
    assert locks(tmp_path)
    (tmp_path / "go").touch()
    wait_for(tmp_path / "orphan.txt")
    end = time.monotonic() + 20
    while (result := finish(start(*command)))[0] == 2:
        assert time.monotonic() < end
    assert result[0] == 0, result[2]


def test_exit_codes_are_passed_on(tmp_path: Path, start: Start) -> None:
    (tmp_path / "go").touch()
    assert finish(start(*WRAPPER, "--cores", "1", "done"))[0] == 0
    code, _, errors = finish(start(*WRAPPER, "--cores", "1", "fails"))
    assert code == 1
    assert "exit 3" in errors
    code, _, errors = finish(start(*WRAPPER, "--no-such-flag"))
    assert code == 2
    assert "--no-such-flag" in errors


@pytest.mark.parametrize("whole_group", [True, False], ids=["ctrl-c", "sigterm"])
def test_signals_stop_the_run_and_leave_no_lock(
    tmp_path: Path, start: Start, whole_group: bool
) -> None:
    process = start(*WRAPPER, "--cores", "1", "done")
    wait_for(tmp_path / "started")
    if whole_group:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
        time.sleep(0.5)
        assert process.poll() is None  # Snakemake lets the running job finish
        (tmp_path / "go").touch()
    code, _, errors = finish(process)
    assert code == 1, errors  # Snakemake's own code for a run that was stopped
    assert "Traceback" not in errors
    assert not (tmp_path / ".snakemake" / "locks").exists()
    assert ((tmp_path / "done.txt").read_text() == "yes\n") != whole_group


@pytest.mark.parametrize(
    ("job", "refused"),
    [
        ("contamination --study s.yaml --track x --data x --output results/s/c.json", True),
        ("memory --model x --output results/s/memory/x.json", True),
        ("memory --model x --output elsewhere/x.json", False),
        ("evaluate --tasks x --output results/another/x.json --samples x", False),
    ],
)
def test_a_live_job_is_respected_if_it_writes_into_this_study(
    tmp_path: Path, start: Start, job: str, refused: bool
) -> None:
    (tmp_path / "s.yaml").write_text("study: s\n")
    live = start(sys.executable, "-m", "owlore", *job.split())
    wait_for(tmp_path / "started")
    code, _, errors = finish(
        start(*WRAPPER, "--configfile", "s.yaml", "--cores", "1", "-n", "done")
    )
    assert live.poll() is None
    assert code == (2 if refused else 0), errors
    assert (f"pid {live.pid} (owlore {job.split()[0]})" in errors) == refused


def test_farewell_names_what_is_there(tmp_path: Path) -> None:
    receipt = {"experiment_id": "7", "tracking": "sqlite"}
    write_json(tmp_path / "receipts" / "init.json", receipt)
    text = launch.farewell(made_up_study(), tmp_path)
    for part in ("tables", "report/index.html", "mlflow/mlflow.db --port 5000"):
        assert f"{tmp_path}/{part}" in text
    assert f"sqlite:///{tmp_path}" in text
    assert "/experiments/7/runs?" in text
    write_json(tmp_path / "receipts" / "init.json", receipt | {"tracking": "server"})
    assert "sqlite" not in launch.farewell(made_up_study(), tmp_path)
