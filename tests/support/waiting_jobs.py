"""Stand-ins that wait instead of computing: their command lines are those of real jobs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT = "import time\ntime.sleep(600)\n"
MODULES = ("owlore/__main__.py", "owlore/cli/devices.py", "torch/distributed/run.py")


def put_stand_ins(folder: Path) -> None:
    """Let `python -m owlore …` wait when it is started in `folder`, with or without a launcher."""
    for module in map(Path, MODULES):
        for package in (*module.parents[:-1],):
            (folder / package).mkdir(parents=True, exist_ok=True)
            (folder / package / "__init__.py").touch()
        (folder / module).write_text(WAIT)


@contextmanager
def running(folder: Path, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `python WORDS` in `folder` until the block ends."""
    process = subprocess.Popen([sys.executable, *words], cwd=folder, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
