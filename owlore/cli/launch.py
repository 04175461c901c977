"""Start Snakemake so that the same command can simply be given again, whatever happened before.

    owlore run --cores 2          # what `make reproduce` calls; all arguments are Snakemake's

After `kill -9` or a power cut Snakemake refuses to start: its lock files are still there. Here they
are removed, but only if nothing is running in this directory any more; a live run, also one started
by plain `snakemake` or its jobs that outlived it, is left in peace and the new one is refused.
Seen are the processes of this machine and, where there is Slurm, our jobs in its queue.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import psutil
from filelock import FileLock, Timeout

from owlore.core.errors import BadInput
from owlore.core.files import read_json
from owlore.study.config import Study

VIEW = "viewStateShareKey=comparison"  # see owlore.tracking.stage
JOBS = {
    "assets",
    "model",
    "questions",
    "data",
    "outliers",
    "finetune",
    "evaluate",
    "answer",
    "judge",
    "memory",
}
JOBS |= {"tables", "report", "track", "run"}  # commands of ours that write results


def run(arguments: list[str]) -> int:
    """Run `snakemake --rerun-incomplete` with `arguments` and return its exit code.

    Ctrl-C reaches Snakemake and its jobs from the terminal, once, and they get the time to stop.
    After a SIGTERM, or a SIGINT meant for this process alone, the running jobs finish and no more
    are started.

    Raises:
        BadInput: a run is still going on in this directory.
    """
    directory = _directory(arguments)
    state = directory / ".snakemake"
    state.mkdir(parents=True, exist_ok=True)
    try:
        # The kernel gives the lock back when we die, however we die.
        with FileLock(state / "owlore.lock", timeout=0):
            # First the list, then the look at the processes: a lock written later is never removed.
            locks = sorted((state / "locks").glob("*.lock"))
            if busy := _busy(directory):
                raise BadInput(_still_running(busy))
            for lock in locks:
                lock.unlink(missing_ok=True)
            if locks:
                print(f"removed {len(locks)} lock files of a run that was killed", flush=True)
            return _snakemake(arguments)
    except Timeout:
        raise BadInput(_still_running(_busy(directory))) from None


def farewell(study: Study, root: Path) -> str:
    """Say where the tables, the report and the MLflow runs of a finished study are.

    Args:
        study: the study.
        root: its results folder.
    """
    receipt = root / "receipts" / "init.json"
    init = read_json(receipt) if receipt.exists() else {"experiment_id": "1", "tracking": "sqlite"}
    page = f"#/experiments/{init['experiment_id']}/runs?workflowType=machine_learning&{VIEW}"
    if init["tracking"] == "server":
        mlflow = [f"  MLflow   your server, {page}"]
    else:
        uri = shlex.quote(f"sqlite:///{root / 'mlflow' / 'mlflow.db'}")
        mlflow = [
            f"  MLflow   make ui, or: mlflow ui --backend-store-uri {uri} --port 5000 --workers 1",
            f"           then http://127.0.0.1:5000/{page}",
        ]
    return "\n".join(
        (
            f"Study {study.study} is done.",
            f"  tables   {root / 'tables'}/",
            f"  report   {root / 'report' / 'index.html'}",
            *mlflow,
        )
    )


def _directory(arguments: list[str]) -> Path:
    """The directory that Snakemake will work in."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    return Path(parser.parse_known_args(arguments)[0].directory).resolve()


def _busy(directory: Path) -> list[str]:
    """What runs the workflow here, in words: processes that are not our own, and Slurm jobs."""
    return _processes(directory) + _slurm_jobs(directory)


def _processes(directory: Path) -> list[str]:
    """Processes other than this one and its ancestors that run the workflow here."""
    me = psutil.Process()
    ours = {me.pid, *(parent.pid for parent in me.parents())}
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):  # what we may not see is None
        command = _command(process.info["cmdline"] or [])
        works = command[:1] == ["snakemake"] or (
            command[:1] == ["owlore"] and JOBS & {*command[1:2]}
        )
        here = process.info["cwd"] is not None and Path(process.info["cwd"]) == directory
        if works and here and process.pid not in ours:
            found.append(f"pid {process.pid} ({' '.join(command[:2])})")
    return found


def _slurm_jobs(directory: Path) -> list[str]:
    """Our jobs in Slurm's queue that work here: they outlive a Snakemake that is killed."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i %Z"]  # id and working directory
    done = subprocess.run(command, capture_output=True, text=True)
    # A squeue that finds no cluster says nothing about this directory.
    jobs = [line.split(" ", 1) for line in done.stdout.splitlines() if done.returncode == 0]
    return [f"Slurm job {job}" for job, folder in jobs if Path(folder) == directory]


def _command(words: list[str]) -> list[str]:
    """A command line without its interpreter: `/usr/bin/python3 -m owlore x` is ["owlore", "x"]."""
    if words and Path(words[0]).name.startswith("python"):
        words = words[1:]
        while words and words[0].startswith("-"):
            if words[0] == "-c":
                return []
            if words[0] == "-m":
                words = words[1:]
                break
            words = words[2 if words[0] in ("-X", "-W") else 1 :]
    if words[:1] == ["owlore.cli.devices"]:  # waits for a GPU
        words = ["owlore", *words[2:]]
    return [Path(words[0]).name, *words[1:]] if words else []


def _still_running(busy: list[str]) -> str:
    found = ", ".join(busy) or "it holds our lock"
    return f"a run is still going on here: {found}; wait for it or stop it"


def _snakemake(arguments: list[str]) -> int:
    child: subprocess.Popen[bytes] | None = None

    def finish(number: int, _: FrameType | None) -> None:
        if child is None:
            raise SystemExit(128 + number)
        if number != signal.SIGINT or not _at_keyboard():
            # Never SIGINT: Snakemake may have had it already, and stops badly at a second one.
            child.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, finish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        command = [sys.executable, "-m", "snakemake", "--rerun-incomplete", *arguments]
        child = subprocess.Popen(command)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _at_keyboard() -> bool:
    """Whether the terminal's Ctrl-C goes to our process group, and so to Snakemake as well."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
