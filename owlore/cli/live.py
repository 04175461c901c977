"""What is still running that would write into a study: processes here, and jobs in Slurm's queue.

What counts is who writes. A Snakemake that works in the same directory counts, whichever study it
runs, for it locks the whole directory. A command of ours counts if it writes results
(`owlore.cli.command_table`) and what it writes lies in `resources/` or in the study's folder below
`results/`; where its command line does not tell, it counts if it works in this directory.
"""

import argparse
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import psutil

from owlore.cli.command import Command, parse_quietly, study_name
from owlore.core.errors import BadInput

TORCHRUN = ("torch.distributed.run", "torch.distributed.launch", "torchrun")


def busy(directory: Path, study: str | None, commands: Sequence[Command]) -> list[str]:
    """Say what would write beside a run of the workflow: processes not our own, and Slurm jobs.

    Args:
        directory: that the run works in; resolved.
        study: its name; None, not known: any study's folder may be its.
        commands: the table of commands.
    """
    me = psutil.Process()
    ours = {me.pid, *(parent.pid for parent in me.parents())}
    seen = []
    for process in psutil.process_iter(["cmdline", "cwd"]):  # what we may not see is None
        words, folder = command_of(process.info["cmdline"] or []), process.info["cwd"]
        if process.pid in ours or not words or folder is None:
            continue
        if writes_here(words, Path(folder), directory, study, commands):
            seen.append(f"pid {process.pid} ({' '.join(words[:2])})")
    return seen + _slurm_jobs(directory)


def writes_here(
    words: list[str],
    folder: Path,
    directory: Path,
    study: str | None,
    commands: Sequence[Command],
) -> bool:
    """Whether a process writes what a run of `study` in `directory` does.

    Args:
        words: its command line, as `command_of` returns it.
        folder: that it works in.
        directory: of the run; resolved.
        study: of the run; None: not known.
        commands: the table of commands.
    """
    program, *arguments = words
    if program == "snakemake":
        return folder == directory
    if program != "owlore" or not arguments or arguments[0].startswith("-"):
        return False
    command = next((row for row in commands if row.name == arguments[0]), None)
    if command is not None and not command.writes:
        return False
    if command is not None and command.snakemake:
        return working_directory(arguments[1:], folder) == directory
    options = parse_quietly(commands, arguments)
    if command is None or options is None:  # of another version of ours, or half typed
        return folder == directory
    try:
        written = command.written(options, folder)
    except BadInput:
        return folder == directory
    results = directory / "results" if study is None else directory / "results" / study
    protected = [results.resolve(), (directory / "resources").resolve()]
    return any(path.resolve().is_relative_to(kept) for path in written for kept in protected)


def working_directory(arguments: list[str], folder: Path) -> Path:
    """Return the directory that Snakemake works in, resolved.

    Args:
        arguments: Snakemake's.
        folder: that it is started in.
    """
    given = settings(arguments)
    return (folder if given is None else folder / given.directory).resolve()


def study_of_run(arguments: list[str], directory: Path) -> str | None:
    """Return the name of the study that these arguments of Snakemake run; None: it cannot be told.

    Snakemake's order: --config study=NAME wins over the last file of --configfile that has a name
    (relative to where we are), and that over `config.yaml` in the directory.
    """
    given = settings(arguments)
    if given is None:
        return None
    for pair in reversed(given.config):
        key, _, value = pair.partition("=")
        if key == "study":
            return str(value)
    if given.profile and not given.configfile:  # it may name files that we do not look for
        return None
    try:
        for file in (*reversed(given.configfile), directory / "config.yaml"):
            if (name := study_name(file)) is not None:
                return name
    except BadInput:
        pass
    return None


def settings(arguments: list[str]) -> argparse.Namespace | None:
    """Those of Snakemake's arguments that say where it works and on which study.

    None where they are wrong, which Snakemake will say itself.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--directory", "-d", type=Path, default=Path())
    parser.add_argument("--configfile", "--configfiles", nargs="+", type=Path, default=[])
    parser.add_argument("--config", "-C", nargs="*", default=[])
    parser.add_argument("--profile", "--workflow-profile")
    # An ambiguous flag ends the program under Python 3.11, whatever exit_on_error says.
    with redirect_stderr(StringIO()), suppress(argparse.ArgumentError, SystemExit):
        return parser.parse_known_args(arguments)[0]
    return None


def command_of(words: list[str]) -> list[str]:
    """Return a command line without what only starts it.

    `/usr/bin/python3 -m owlore x` is ["owlore", "x"]; so is the same through torchrun, or through
    `owlore.cli.devices`, which waits for a GPU first.
    """
    if words and Path(words[0]).name.startswith("python"):
        words = words[1:]
        while words and words[0].startswith("-"):
            if words[0] == "-c":
                return []
            if words[0] == "-m":
                words = words[1:]
                break
            words = words[2 if words[0] in ("-X", "-W") else 1 :]
    if words and Path(words[0]).name in TORCHRUN:
        flag = next((word for word in words if word in ("-m", "--module")), None)
        words = [] if flag is None else words[words.index(flag) + 1 :]
    if words[:1] == ["owlore.cli.devices"]:
        words = ["owlore", *words[2:]]
    return [Path(words[0]).name, *words[1:]] if words else []


def _slurm_jobs(directory: Path) -> list[str]:
    """Our jobs in Slurm's queue that work here: they outlive a Snakemake that is killed."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i %Z"]  # id and working directory
    done = subprocess.run(command, capture_output=True, text=True)
    # A squeue that finds no cluster says nothing about this directory.
    jobs = [line.split(" ", 1) for line in done.stdout.splitlines() if done.returncode == 0]
    return [f"Slurm job {job}" for job, folder in jobs if Path(folder) == directory]
