"""`transformers serve` as a judge's endpoint on loopback: a real server, a real model."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTS_WITHIN = 120  # seconds


@contextmanager
def served(model: Path, log: Path) -> Iterator[int]:
    """Serve the checkpoint `model` on 127.0.0.1 while the block runs; yield the port.

    It answers to the folder's name, and to no other model.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HOME": str(log.parent / "hf")}
    with open(log, "w") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=env, cwd=model.parent
        )
        try:
            _wait(port, server, log)
            yield port
        finally:
            server.terminate()
            server.wait(30)


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"transformers serve did not start: {log.read_text()[-2000:]}")
