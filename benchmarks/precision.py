"""How much of training the weights' precision costs: OwLore in each of the four, same batches.

Run as: `python benchmarks/precision.py` after `make reproduce` has made the inputs (two minutes).
"""

import argparse
import time
from pathlib import Path

import torch
from measuring import MODEL, Table
from training import Ours, method

from owlore.core.files import read_jsonl
from owlore.data import examples as data
from owlore.sources import models
from owlore.train.loss import answer_loss

PRECISIONS = ("float32", "bfloat16-master", "bfloat16-stochastic", "bfloat16")
LEARNING_RATE = 1.6e-3  # owlore's in config.yaml


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--data", type=Path, default=Path("results/embedded/data/mini/seed0.jsonl"))
    parser.add_argument("--steps", type=int, default=26)
    chosen = parser.parse_args()
    tokenizer = models.load_tokenizer(chosen.model)
    examples = data.tokenise(read_jsonl(chosen.data), tokenizer, 256)
    batches = [data.flat_batch(examples[k : k + 10]) for k in range(0, 10 * chosen.steps, 10)]
    held_out = data.flat_batch(examples[-40:])
    table = Table(
        "precision",
        f"SmolLM2-135M, OwLore, {chosen.steps} steps of 10 examples at a constant rate of "
        f"{LEARNING_RATE}, a draw every 5; loss on 40 other examples, before training and after.",
    )
    for precision in PRECISIONS:
        changes = {"learning_rate": LEARNING_RATE, "interval_steps": 5}
        arm = Ours(chosen.model, method("owlore", precision=precision, **changes))
        before = _loss(arm, held_out)
        started = time.perf_counter()
        for batch in batches:
            arm.step(batch)
        spent = (time.perf_counter() - started) / len(batches)
        state = arm.optimizer.state_bytes() / 2**20
        table.add(
            precision,
            f"loss {before:.3f} to {_loss(arm, held_out):.3f}",
            f"optimizer state {state:.0f} MiB",
            f"{spent:.2f} s a step",
            "",
        )
    table.write()


def _loss(arm: Ours, batch: dict[str, torch.Tensor]) -> float:
    with torch.no_grad():
        return answer_loss(arm.model, batch, None).item()


if __name__ == "__main__":
    main()
