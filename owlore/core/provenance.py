"""What made a result: versions, git commit, machine. Written into every result file."""

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "envs" / "requirements.lock"
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "lm-eval",
    "fschat",
    "mlflow",
    "snakemake",
    "numpy",
    "pandas",
)


def now() -> str:
    """Return the time now in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Stamp(TypedDict):
    """When something was made and with what: the fields of `owlore.records.base.Made`."""

    started: str
    ended: str
    seconds: float
    versions: dict[str, str]
    git: Any


def stamp(started: str, clock: float) -> Stamp:
    """Return when something was made and with what.

    Args:
        started: `now()` at the beginning.
        clock: `time.monotonic()` at the beginning.
    """
    return {
        "started": started,
        "ended": now(),
        "seconds": round(time.monotonic() - clock, 3),
        "versions": versions(),
        "git": git_state(),
    }


@cache
def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the packages that make results."""
    found = {"owlore": _version("owlore"), "python": platform.python_version()}
    return found | {name: _version(name) for name in PACKAGES}


@cache
def git_state() -> dict[str, Any]:
    """Return the commit of the code and whether tracked files differ from it.

    `commit` is None outside a git checkout.
    """
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def machine() -> dict[str, Any]:
    """Return what matters of the hardware: processor, cores, memory, GPUs. No host name."""
    import torch  # here, so that `owlore check` stays quick

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str | None:
    """Run git on this package's checkout; None if there is no git or no checkout of ours."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """Return the processor's model name, which `platform.processor()` leaves out on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
