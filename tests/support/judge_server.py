"""`transformers serve` as a judge's endpoint on loopback: a real server, a real model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.loopback import serving


@contextmanager
def served(model: Path, log: Path) -> Iterator[int]:
    """Serve the checkpoint `model` on 127.0.0.1 while the block runs; yield the port.

    It answers to the folder's name, and to no other model.
    """
    script = str(Path(sys.executable).with_name("transformers"))

    def command(port: int) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port)]
        return [script, "serve", model.name, *address, "--device", "cpu"]

    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with serving(command, log, model.parent, HF_HOME=str(log.parent / "hf"), **offline) as port:
        yield port
