"""Simulated peak memory against a real step's, as torch's profiler sees the allocator.

Run as: `python benchmarks/simulation.py` (minutes; weights are random, so it needs no download).
"""

import torch
from measuring import Table
from transformers import AutoModelForCausalLM

from owlore.memory import simulate as simulation
from owlore.sources import models, shapes
from owlore.study.method import Trained, parse_method
from owlore.train.memory import allocated_peak
from owlore.train.methods import trainable_model
from owlore.train.precision import dtype_of

MODEL = "smollm2-135m"
LAYERS = {"trainable": "layers", "sampling": "uniform", "gamma": 5, "interval_steps": 5}
LOW_RANK = {"projection": "low-rank", "rank": 64}
METHODS = {
    "full": {"trainable": "all"},
    "lora": {"trainable": "lora", "r": 8, "lora_alpha": 16},
    "galore": {"trainable": "all", **LOW_RANK},
    "lisa": LAYERS,
    "owlore": {**LAYERS, **LOW_RANK, "sampling": "outlier"},
    "owlore-full-rank": {**LAYERS, "sampling": "outlier"},
    "lisa-lowrank": {**LAYERS, **LOW_RANK},
    "lisa-decrease": {**LAYERS, "sampling": "decrease"},
}
# micro-batch, tokens, checkpointing, micro-batches in a step
SIZES = [(1, 64, False, 1), (4, 128, False, 1), (2, 256, True, 2)]


def real_peak(method: Trained, micro_batch: int, seqlen: int) -> int:
    """Return the peak bytes of real steps with random weights."""

    def prepare():  # type: ignore[no-untyped-def]
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            shapes.published(MODEL),
            dtype=models.DTYPES[dtype_of(method.precision)],
            attn_implementation="sdpa",
        )
        model = trainable_model(model, method)
        optimizer = simulation.optimizer_in_mid_training(model, method)
        batch = simulation.full_batch(method, micro_batch, seqlen)
        return lambda: simulation.train(model, optimizer, batch, method)

    return allocated_peak(prepare)


def main() -> None:
    """Measure and write the table."""
    table = Table(
        "simulation",
        "SmolLM2-135M's shape in float32, random weights, rank 64, gamma 5; every step that "
        "`owlore.memory.simulate.train` takes, simulated and real.",
    )
    for micro_batch, seqlen, checkpointing, accumulation in SIZES:
        for name, block in METHODS.items():
            changes = {
                "gradient_checkpointing": checkpointing,
                "gradient_accumulation_steps": accumulation,
            }
            method = parse_method({"learning_rate": 1e-3, **block, **changes})
            split = simulation.simulate(shapes.published(MODEL), method, micro_batch, seqlen)
            real = real_peak(method, micro_batch, seqlen) / 2**30
            off = split["peak_gib"] / real - 1
            how = ", checkpointing" if checkpointing else ""
            how += f", {accumulation} micro-batches" if accumulation > 1 else ""
            table.add(
                f"{name}, {micro_batch}x{seqlen}{how}",
                f"{split['peak_gib']:.3f} GiB", f"{real:.3f} GiB", f"{100 * off:+.2f} %",
                "within 5 %",
            )  # fmt: skip
    table.write()


if __name__ == "__main__":
    main()
