"""Each method's step against its floor: its FLOPs at the machine's matmul rate, bytes at copy rate.

The rates are measured just before and just after a method's steps, because machines change pace.

Run as: `python benchmarks/floors.py` after `make reproduce` has made the model (five minutes).
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import MODEL, Table
from torch.utils.flop_counter import FlopCounterMode
from training import METHODS, Ours, full_batch, method
from transformers import PreTrainedModel

from owlore.optim.protocol import OwloreOptimizer
from owlore.sources import models
from owlore.train.loss import answer_loss


class Rates(NamedTuple):
    """What the machine reaches."""

    flops: float  # a second, in this model's own matmul shapes
    bytes: float  # a second, read and written, in a copy


def rates(model: PreTrainedModel, tokens: int) -> Rates:
    """Measure both: each linear map of a layer and the head, as often as the model has them."""
    shapes = [
        tuple(module.weight.shape)
        for module in models.linear_modules(models.decoder_layers(model)[0]).values()
    ]
    times = [len(models.decoder_layers(model))] * len(shapes)
    head = models.head(model)
    assert head is not None
    shapes.append(tuple(head.weight.shape))
    times.append(1)
    spent = done = 0.0
    for (rows, columns), count in zip(shapes, times, strict=True):
        inputs, weight = torch.randn(tokens, columns), torch.randn(rows, columns)
        spent += count * _seconds(lambda x=inputs, w=weight: x @ w.T)
        done += count * 2 * tokens * rows * columns
    source, target = torch.randn(1 << 26), torch.empty(1 << 26)
    copied = 2 * source.nbytes / _seconds(lambda: target.copy_(source))
    return Rates(done / spent, copied)


def floor_seconds(
    model: PreTrainedModel, optimizer: OwloreOptimizer, batch: dict[str, torch.Tensor], found: Rates
) -> float:
    """Return the least time for a step: no step of this method can do with fewer operations."""
    with FlopCounterMode(display=False) as counter:
        answer_loss(model, batch, None).backward()
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
    moved = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                continue
            # The weight is read and written, the moments too; the gradient is read.
            moved += 3 * parameter.nbytes + 2 * optimizer.state_bytes([parameter])
    model.zero_grad()
    return counter.get_total_flops() / found.flops + moved / found.bytes


def _seconds(work: Callable[[], object], rounds: int = 5) -> float:
    work()
    started = time.perf_counter()
    for _ in range(rounds):
        work()
    return (time.perf_counter() - started) / rounds


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--steps", type=int, default=3)
    chosen = parser.parse_args()
    batch = full_batch(4, 256)
    table = Table(
        "floors",
        "SmolLM2-135M in float32, steps of 4x256 tokens, all labelled, no checkpointing; the "
        "floor: counted FLOPs at the rate of this model's matmul shapes plus optimizer bytes at "
        "copy rate.",
    )
    plain = models.load(chosen.model)
    for name in METHODS:
        arm = Ours(chosen.model, method(name))
        arm.step(batch)
        before = rates(plain, batch["input_ids"].numel())
        started = time.perf_counter()
        for _ in range(chosen.steps):
            arm.step(batch)
        spent = (time.perf_counter() - started) / chosen.steps
        after = rates(plain, batch["input_ids"].numel())
        floors = [
            floor_seconds(arm.model, arm.optimizer, batch, found) for found in (before, after)
        ]
        floor = sum(floors) / 2
        table.add(name, f"{spent:.2f} s", f"{floor:.2f} s", f"{spent / floor:.2f}x", "<= 1.5x")
    table.write()


if __name__ == "__main__":
    main()
