"""Start Snakemake so that the same command can simply be given again, whatever happened before.

    owlore run --cores 2          # what `make reproduce` calls; all arguments are Snakemake's

After `kill -9` or a power cut Snakemake refuses to start: its lock files are still there. Here they
are removed, but only if nothing is running in this directory any more; a live run, also one started
by plain `snakemake` or its jobs that outlived it, is left in peace and the new one is refused
(`owlore.cli.live` says what counts).
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from owlore.cli import live, reruns
from owlore.cli.command import Command
from owlore.core.errors import BadInput
from owlore.core.files import read_json
from owlore.study.config import Study

VIEW = "viewStateShareKey=comparison"  # see owlore.tracking.stage


def run(arguments: list[str], commands: Sequence[Command]) -> int:
    """Run `snakemake --rerun-incomplete` with `arguments` and return its exit code.

    Ctrl-C reaches Snakemake and its jobs from the terminal, once, and they get the time to stop.
    After a SIGTERM, or a SIGINT meant for this process alone, the running jobs finish and no more
    are started.

    Args:
        arguments: Snakemake's.
        commands: the table of commands: it tells which processes write results.

    Raises:
        BadInput: a run is still going on in this directory, or a job writes into this study.
    """
    directory = live.working_directory(arguments, Path.cwd())
    study = live.study_of_run(arguments, directory)
    state = directory / ".snakemake"
    state.mkdir(parents=True, exist_ok=True)
    try:
        # The kernel gives the lock back when we die, however we die.
        with FileLock(state / "owlore.lock", timeout=0):
            # First the list, then the look at the processes: a lock written later is never removed.
            locks = sorted((state / "locks").glob("*.lock"))
            if busy := live.busy(directory, study, commands):
                raise BadInput(_still_running(busy))
            for lock in locks:
                lock.unlink(missing_ok=True)
            if locks:
                print(f"removed {len(locks)} lock files of a run that was killed", flush=True)
            return _snakemake([*arguments, *reruns.prepare(arguments, directory)])
    except Timeout:
        raise BadInput(_still_running(live.busy(directory, study, commands))) from None


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
