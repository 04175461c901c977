"""What several processes save and cost: the same cell on one process and on two (FSDP2, gloo).

Run as: `python benchmarks/sharded.py` after `make reproduce` has made the inputs (nine minutes).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import MODEL, Table
from training import method

from owlore.core.files import canonical_json, read_json

TRAINED = ("full", "lora", "galore", "lisa", "owlore")
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--data", type=Path, default=Path("results/embedded/data/mini/seed0.jsonl"))
    parser.add_argument("--steps", type=int, default=12)
    chosen = parser.parse_args()
    table = Table(
        "sharded",
        f"SmolLM2-135M in float32, {chosen.steps} steps of 10 examples; ours: of either of two "
        "processes with a thread each; against: one process with two threads.",
    )
    for name in TRAINED:
        many, one = (train(name, chosen, launcher) for launcher in (TORCHRUN, []))
        compare(table, f"{name}: optimizer state", many, one, "optimizer_bytes", "<= 0.6x")
        compare(table, f"{name}: peak memory", many, one, "peak_bytes", "")
        a_step = [found["seconds"] / chosen.steps for found in (many, one)]
        ratio = f"{a_step[0] / a_step[1]:.2f}x"
        table.add(f"{name}: a step", f"{a_step[0]:.2f} s", f"{a_step[1]:.2f} s", ratio, "")
    table.write()


def train(name: str, chosen: argparse.Namespace, launcher: list[str]) -> dict[str, Any]:
    """Train a cell by the command line; return its finetune.json."""
    steps = {"max_steps": chosen.steps, "checkpoint_steps": 10 * chosen.steps}
    settings = method(name, **steps, per_device_train_batch_size=10, max_length=256)
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, *launcher, "-m", "owlore", "finetune", "--threads", "2"]
        line += ["--model", str(chosen.model), "--data", str(chosen.data), "--output", folder]
        line += ["--method", canonical_json(settings.model_dump(exclude_unset=True))]
        quiet = {**os.environ, "OMP_NUM_THREADS": "1"}  # torchrun's default, which it remarks on
        subprocess.run(line, check=True, env=quiet, stderr=subprocess.DEVNULL)
        found: dict[str, Any] = read_json(Path(folder) / "finetune.json")
    return found


def compare(
    table: Table, measure: str, many: dict[str, Any], one: dict[str, Any], key: str, target: str
) -> None:
    """Add a row of bytes."""
    mib = [f"{found[key] / 2**20:,.0f} MiB" for found in (many, one)]
    table.add(measure, *mib, f"{many[key] / one[key]:.2f}x", target)


if __name__ == "__main__":
    main()
