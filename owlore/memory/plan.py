"""Which methods fit my card? The simulated peaks of many methods, remembered, and what fits.

Run as: `owlore memory --model llama2-7b --study STUDY.yaml --gpu-memory 24 --output memory.json`
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PretrainedConfig

from owlore.core import code
from owlore.core.files import (
    canonical_json,
    read_json,
    sha256_text,
    write_json,
    write_text,
)
from owlore.core.provenance import versions
from owlore.memory import flops
from owlore.memory import simulate as simulation
from owlore.study.method import Trained

# What a GPU needs beyond what its allocator hands out; the upper ends of what is usual.
CONTEXT_GIB = 0.6  # CUDA's context and the libraries' work space
FRAGMENTATION = 0.10  # of the peak
MARGIN = (
    f"A card must hold the simulated peak, {FRAGMENTATION:.0%} of it for fragmentation, and "
    f"{CONTEXT_GIB} GiB for CUDA's context."
)
PARTS = ("weights", "gradients", "optimizer", "activations", "temporaries")
# What neither memory nor operations depend on.
IRRELEVANT = {
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "max_steps", "max_grad_norm"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "scale", "checkpoint_steps"),
    *("sampling", "law", "interval_steps", "update_proj_gap", "lora_alpha", "use_rslora"),
    *("max_length", "too_long", "per_device_train_batch_size", "overrides"),
}


@dataclass(frozen=True)
class Asked:
    """One method to simulate: its name in tables, and the sizes of a micro-batch."""

    name: str
    method: Trained
    micro_batch: int
    seqlen: int


def needed_gib(peak_gib: float) -> float:
    """Return what a card must have for a simulated peak, margin included."""
    return peak_gib * (1 + FRAGMENTATION) + CONTEXT_GIB


def simulated(config: PretrainedConfig, asked: Asked, cache: Path | None) -> dict[str, float]:
    """Return the keys of `simulation.simulate`, from the cache where the same was asked before.

    The key is a hash of the configuration, of what in the method matters to memory, of the sizes,
    of the modules that compute it and of the versions of torch, transformers and peft.

    Raises:
        BadInput: see `simulation.simulate`.
    """
    return _remembered(
        "peak",
        (config, asked),
        cache,
        lambda: simulation.simulate(config, asked.method, asked.micro_batch, asked.seqlen),
    )


def flops_of_a_sequence(config: PretrainedConfig, asked: Asked, cache: Path | None) -> float:
    """Return `flops.of_a_sequence`, from the cache where the same was asked before."""
    counted = _remembered(
        "flops",
        (config, Asked(asked.name, asked.method, 1, asked.seqlen)),
        cache,
        lambda: {"flops": flops.of_a_sequence(config, asked.method, asked.seqlen)},
    )
    return counted["flops"]


def rows(
    config: PretrainedConfig, wanted: Iterable[Asked], cache: Path | None, card: float | None
) -> Iterator[dict[str, Any]]:
    """Yield a row a method: sizes, peak and parts in GiB, and with a card whether it fits."""
    for asked in wanted:
        row: dict[str, Any] = {"method": asked.name, "micro_batch": asked.micro_batch}
        row |= {"seqlen": asked.seqlen, "precision": asked.method.precision}
        row |= simulated(config, asked, cache)
        if card is not None:
            row |= {"needed_gib": needed_gib(row["peak_gib"])}
            row["fits"] = row["needed_gib"] <= card
        yield row


def largest_micro_batch(
    config: PretrainedConfig, asked: Asked, cache: Path | None, card: float
) -> int | None:
    """Return the largest micro-batch that fits, of the one asked for and its halves; or None.

    Where it is smaller, gradients are accumulated, so that a step stays what it was.
    """
    sizes = [asked.micro_batch]
    while sizes[-1] % 2 == 0:
        sizes.append(sizes[-1] // 2)

    def fits(size: int) -> bool:
        smaller = with_micro_batch(asked, size)
        return needed_gib(simulated(config, smaller, cache)["peak_gib"]) <= card

    if not fits(sizes[0]) and not fits(sizes[-1]):  # a simulation takes a while: not all of them
        return None
    return next(size for size in sizes if fits(size))


def with_micro_batch(asked: Asked, size: int) -> Asked:
    """Return the same step with a smaller micro-batch and more accumulation."""
    steps = asked.method.gradient_accumulation_steps * asked.micro_batch // size
    changed = {"gradient_accumulation_steps": steps, "per_device_train_batch_size": size}
    return Asked(asked.name, asked.method.model_copy(update=changed), size, asked.seqlen)


def table(peaks: list[dict[str, Any]], card: float | None) -> str:
    """Return the rows as readable text."""
    shown = [
        {
            "method": row["method"],
            "micro-batch": f"{row['micro_batch']}x{row['seqlen']}",
            "peak GiB": f"{row['peak_gib']:.2f}",
            **{part: f"{row[f'{part}_gib']:.2f}" for part in PARTS},
            **(
                {"needed": f"{row['needed_gib']:.1f}", "fits": "yes" if row["fits"] else "no"}
                if card is not None
                else {}
            ),
        }
        for row in peaks
    ]
    return pd.DataFrame(shown).to_string(index=False)


def answer(peaks: list[dict[str, Any]], card: float) -> str:
    """Return which methods fit the card, and the margin."""
    fit = [row["method"] for row in peaks if row["fits"]]
    return f"These fit {card:g} GiB: {', '.join(fit) or 'none'}. {MARGIN}"


def write(name: str, peaks: list[dict[str, Any]], output: Path, card: float | None) -> None:
    """Write FILE.json, the table as FILE.csv and the figure as FILE.svg.

    The JSON has model, rows and versions; of a single method its row's keys are at the top, too.
    """
    from owlore.memory.figure import save

    write_text(output.with_suffix(".csv"), pd.DataFrame(peaks).to_csv(index=False))
    save(name, peaks, output.with_suffix(".svg"), card)
    margin = {} if card is None else {"gpu_memory_gib": card, "margin": MARGIN}
    alone = peaks[0] if len(peaks) == 1 else {}
    write_json(output, {"model": name, **alone, "rows": peaks, **margin, "versions": versions()})


def _remembered(
    kind: str, of: tuple[PretrainedConfig, Asked], cache: Path | None, compute: Any
) -> dict[str, float]:
    config, asked = of
    shape = {k: v for k, v in config.to_dict().items() if k != "transformers_version"}
    method = asked.method.model_dump(mode="json", exclude=IRRELEVANT)
    # From the second micro-batch on nothing is added.
    method["gradient_accumulation_steps"] = min(2, asked.method.gradient_accumulation_steps)
    here = {name: versions()[name] for name in ("torch", "transformers", "peft")}
    files = code.of({"peak": simulation.__name__, "flops": flops.__name__}[kind])
    sizes = [asked.micro_batch, asked.seqlen]
    key = sha256_text(canonical_json([kind, shape, method, sizes, here, files]))[:32]
    file = cache / f"{kind}-{key}.json" if cache is not None else None
    if file is not None and file.is_file():
        kept: dict[str, float] = read_json(file)
        return kept
    computed: dict[str, float] = compute()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, computed)
    return computed
