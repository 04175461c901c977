"""A real Slurm of one node on loopback, in a folder of its own: munged, slurmctld, slurmd.

Run as: `python tests/workflow/slurm_node.py COMMAND ...`: COMMAND with such a cluster around it.

It has no cgroups and no accounting, so that it runs in a container: memory is looked at once a
second and squeue says how jobs ended. Its two GPUs are /dev/null and /dev/zero: they are counted
and given to jobs, nothing can be computed on them.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIGURATION = """\
ClusterName=owlore
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
KillWait=1
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2
PartitionName=main Nodes={host} Default=YES
"""


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "Slurm's daemons want root"
    absent = [name for name in DAEMONS if find(name) is None]
    return f"{', '.join(absent)}: not installed (Debian: slurm-wlm, munge)" if absent else None


def find(daemon: str) -> str | None:
    return shutil.which(daemon, path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Run the daemons; yield the environment in which sbatch and squeue find them."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as stack:
        folder = Path(name)
        environment["SLURM_CONF"] = str(configure(folder))
        environment["PATH"] = f"{save_srun(folder)}:{environment['PATH']}"
        munge = ("key-file=munge.key", "socket=munge.socket", "pid-file=munge.pid")
        munge += ("seed-file=munge.seed",)
        options = [f"--{key}={folder / file}" for key, file in (o.split("=") for o in munge)]
        for command in (
            ["munged", "-F", "--force", *options],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            log = stack.enter_context(open(folder / f"{command[0]}.log", "wb"))
            line = [str(find(command[0])), *command[1:]]
            process = subprocess.Popen(line, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        stack.callback(cancel_all, environment)
        wait_for("idle", ["sinfo", "--noheader", "--format=%T"], environment, folder)
        yield environment


def configure(folder: Path) -> Path:
    """Write key and configuration; return slurm.conf."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").touch(mode=0o400)
    (folder / "munge.key").write_bytes(os.urandom(128))
    host = socket.gethostname().split(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (first, second)]
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            folder=folder, host=host, ports=ports, memory=memory, cpus=os.cpu_count()
        )
    )
    return folder / "slurm.conf"


def save_srun(folder: Path) -> Path:
    """Return a folder with an srun that knows its slurm.conf.

    The executor plugin's job takes SLURM_CONF out of its srun's environment, and /etc is not ours.
    """
    script = folder / "bin" / "srun"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
    )
    script.chmod(0o755)
    return script.parent


def wait_for(wanted: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == wanted:
            return
        if time.monotonic() > deadline:
            logs = "".join(file.read_text() for file in folder.glob("*.log"))
            raise RuntimeError(f"Slurm does not start: {done.stdout}{done.stderr}{logs}")
        time.sleep(0.2)


def cancel_all(environment: dict[str, str]) -> None:
    """End what still runs: slurmd leaves jobs alone when it stops."""
    subprocess.run(["scancel", "--me"], env=environment)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        command = ["squeue", "--noheader"]
        if not subprocess.run(command, env=environment, capture_output=True).stdout.strip():
            return
        time.sleep(0.2)


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    signal.signal(
        signal.SIGTERM, lambda number, _: sys.exit(128 + number)
    )  # nothing is left behind
    with cluster() as environment:
        sys.exit(subprocess.run(sys.argv[1:], env=environment).returncode)
