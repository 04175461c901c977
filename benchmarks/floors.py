"""The floor of a training step: its FLOPs at the machine's matmul rate, its bytes at copy rate."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from owlore import models
from owlore.loss import answer_loss
from owlore.lowrank import LowRankAdamW


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
    model: PreTrainedModel, optimizer: LowRankAdamW, batch: dict[str, torch.Tensor], found: Rates
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
