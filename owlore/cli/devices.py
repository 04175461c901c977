"""Distinct GPUs for the jobs of one machine: a job locks its devices for as long as it lives.

    python -m owlore.cli.devices 1 evaluate …  # `owlore evaluate …` on a GPU that no other job has
    python -m owlore.cli.devices 2 finetune …  # the same under torchrun: two processes, a GPU each

The number is Snakemake's `gpu` resource; only `finetune` can use more than one. With 0 the command
sees no GPU. A CUDA_VISIBLE_DEVICES that names as many devices as are wanted, as Slurm sets it, is
left alone, without a lock; one that names more says which may be taken. Locks lie in a folder of
this user's in the temporary folder: jobs of several runs keep apart, those of several users do not.
"""

import fcntl
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from owlore.core.errors import BadInput


def main(arguments: Sequence[str]) -> None:
    """Become the command, with its devices in CUDA_VISIBLE_DEVICES."""
    count, command = int(arguments[0]), arguments[1:]
    if command[0] != "finetune":
        count = min(count, 1)
    try:
        chosen = choose(count, os.environ.get("CUDA_VISIBLE_DEVICES"), _uuids(), lock_folder())
    except BadInput as error:
        print(f"owlore {command[0]}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if chosen or count == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # numbers are nvidia-smi's
    launcher = [sys.executable]
    if count > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    os.execv(sys.executable, [*launcher, "-m", "owlore", *command])


def choose(count: int, visible: str | None, uuids: Sequence[str], folder: Path) -> list[str]:
    """Return the names of the devices that a job gets, locked; none where no lock is needed.

    Args:
        count: devices wanted.
        visible: CUDA_VISIBLE_DEVICES; None: not set.
        uuids: of this machine's devices, by their number.
        folder: of the locks.

    Raises:
        BadInput: there are devices, but fewer than are wanted.
    """
    names = list(uuids) if visible is None else [n.strip() for n in visible.split(",") if n.strip()]
    if count == 0 or not names or (visible is not None and len(names) == count):
        return []
    if len(names) < count:
        raise BadInput(f"gpu: {count}: there are {len(names)} to be seen: {', '.join(names)}")
    numbers = dict(zip(map(str, range(len(uuids))), uuids, strict=True))
    return take(count, {name: numbers.get(name, name) for name in names}, folder)


def take(count: int, devices: Mapping[str, str], folder: Path) -> list[str]:
    """Wait until `count` devices are free and lock them until this process has ended.

    The locks outlive `exec`, and the kernel gives them back however the process ends.

    Args:
        count: at most as many as there are devices.
        devices: what identifies each device on this machine, by the name it is chosen by.
        folder: of the locks.

    Returns:
        Names of devices, in the order given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        held: dict[str, int] = {}
        for name, identity in devices.items():
            lock = _lock(folder / identity.replace("/", "_")) if len(held) < count else None
            if lock is not None:
                held[name] = lock
        if len(held) == count:
            return list(held)
        for lock in held.values():  # two jobs that each hold one of two would wait for ever
            os.close(lock)
        if not waiting:
            waiting = True
            print(f"waiting for {count} of {len(devices)} GPUs", file=sys.stderr, flush=True)
        time.sleep(random.uniform(0.2, 1))


def lock_folder() -> Path:
    """Return where this user's locks lie on this machine."""
    return Path(tempfile.gettempdir()) / f"owlore-gpus-{os.getuid()}"


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the file's lock, None if another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.set_inheritable(descriptor, True)
    return descriptor


def _uuids() -> list[str]:
    """Return the UUIDs of this machine's NVIDIA devices; none without a working nvidia-smi."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    command = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"GPUs are not handed out: {error}", file=sys.stderr)
        return []
    return done.stdout.split()


if __name__ == "__main__":
    main(sys.argv[1:])
