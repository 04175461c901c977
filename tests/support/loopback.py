"""A real server on loopback, as long as a test needs it."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STARTS_WITHIN = 120  # seconds


@contextmanager
def serving(command: Callable[[int], list[str]], log: Path, cwd: Path, **env: str) -> Iterator[int]:
    """Run `command(port)` while the block runs, once its /health answers; yield the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **env}
    with open(log, "w") as stream:
        server = subprocess.Popen(
            command(port),
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,  # its workers end with it
        )
        try:
            _wait(port, server, log)
            yield port
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and server.poll() is None:
        try:
            opener.open(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{server.args} did not start: {log.read_text()[-2000:]}")
