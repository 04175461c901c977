"""What a study needs of one GPU: peak memory and hours of every cell, and a version that fits.

Run as: `owlore check STUDY.yaml --gpu-memory 24 [--tflops 50] [--write FITS.yaml]`
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from transformers import PretrainedConfig

from owlore.core.errors import BadInput
from owlore.core.files import write_text
from owlore.core.parsing import load_yaml
from owlore.core.progress import Progress
from owlore.memory import plan as memory_plan
from owlore.memory.plan import Asked
from owlore.sources import shapes
from owlore.study.config import Study, check_study
from owlore.study.method import Trained


@dataclass(frozen=True)
class Need:
    """What a method's cells of one model and one track need."""

    model: str
    track: str
    asked: Asked
    peak_gib: float
    micro_batch: int | None  # the largest that fits; None: none does
    flops: float  # of a whole run

    @property
    def fits(self) -> bool:
        """Whether it fits as the study has it."""
        return self.micro_batch == self.asked.micro_batch


def make(study: Study, resources: Path, card: float, cache: Path) -> list[Need]:
    """Simulate every trained method of a study, as long as its max_length allows.

    Args:
        study: a checked study.
        resources: folder with `models/<name>`, where they are built already.
        card: GiB of the GPU.
        cache: folder of earlier simulations.

    Raises:
        BadInput: a model's shape is not known yet, or a method does not fit it.
    """
    wanted = list(_wanted(study, resources))
    return [
        Need(
            model,
            track,
            asked,
            memory_plan.simulated(config, asked, cache)["peak_gib"],
            memory_plan.largest_micro_batch(config, asked, cache, card),
            memory_plan.flops_of_a_sequence(config, asked, cache)
            * asked.method.examples_per_step
            * asked.method.max_steps,
        )
        for model, track, config, asked in Progress(wanted, desc="memory", unit="cell")
    ]


def text(plan: list[Need], study: Study, tflops: float, card: float) -> str:
    """Return the plan as readable text: a row a method of each model and track."""
    rows = [_row(need, len(study.seeds), tflops) for need in plan]
    possible = [need for need in plan if need.micro_batch is not None]
    hours = sum(_hours(need, tflops) for need in possible) * len(study.seeds)
    smaller = [need for need in possible if not need.fits]
    lines = [
        "",
        f"On one GPU of {card:g} GiB, sequences as long as max_length allows:",
        pd.DataFrame(rows).to_string(index=False),
        memory_plan.MARGIN,
        f"GPU hours: forward and backward passes of training at an assumed {tflops:g} TFLOP/s "
        "sustained (--tflops), every sequence full; evaluation comes on top. "
        f"What fits: {hours:,.1f} h in all.",
        "Scoring and answering hold the weights (bfloat16: 2 bytes a parameter) and are not "
        "simulated.",
    ]
    if smaller:
        lines.append(
            "A smaller micro-batch with as much more accumulation leaves a step what it is."
        )
    return "\n".join(lines)


def refuse(plan: list[Need], card: float) -> None:
    """Raise where a cell does not fit as the study has it, and name what would.

    Raises:
        BadInput: some cell needs more than the card has.
    """
    refused = [need for need in plan if not need.fits]
    if not refused:
        return
    names = dict.fromkeys(
        f"{need.model}/{need.asked.name} "
        f"(needs {memory_plan.needed_gib(need.peak_gib):.1f} GiB at micro-batch "
        f"{need.asked.micro_batch})"
        for need in refused
    )
    fitting = dict.fromkeys(
        f"{need.model}/{need.asked.name} (micro-batch {need.micro_batch})"
        for need in plan
        if need.micro_batch is not None
    )
    raise BadInput(
        f"--gpu-memory: {card:g} GiB do not hold {', '.join(names)}; these would fit: "
        f"{', '.join(fitting) or 'none'}; `--write FILE.yaml` writes a study of them"
    )


def write(source: Path, plan: list[Need], card: float, output: Path) -> None:
    """Write a copy of a study that fits: methods that cannot are left out, micro-batches shrunk.

    Raises:
        BadInput: nothing that trains would be left.
    """
    block: dict[str, Any] = load_yaml(source)
    lost = {need.asked.name for need in plan if need.micro_batch is None}
    trained = {need.asked.name for need in plan}
    if not trained - lost:
        raise BadInput(f"--gpu-memory: no method of the study fits {card:g} GiB")
    block["study"] = f"{block['study']}-{card:g}gib"
    block["run"] = [name for name in block["run"] if name not in lost]
    for need in plan:
        if need.micro_batch is None or need.fits or need.asked.name in lost:
            continue
        changed = memory_plan.with_micro_batch(need.asked, need.micro_batch).method
        values = {
            "per_device_train_batch_size": changed.per_device_train_batch_size,
            "gradient_accumulation_steps": changed.gradient_accumulation_steps,
        }
        method = block["methods"][need.asked.name] = dict(block["methods"][need.asked.name])
        override = {"track": need.track, "model": need.model, "values": values}
        shared = block.get("training", {}).get("overrides")
        method["overrides"] = [*(method.get("overrides") or shared or []), override]
    check_study(block, str(output))
    head = f"# What fits {card:g} GiB of {source}, by `owlore check`.\n"
    write_text(output, head + yaml.dump(block, Dumper=_Plain, sort_keys=False))


class _Plain(yaml.SafeDumper):
    """YAML without anchors: a study that is read and edited by people."""

    def ignore_aliases(self, data: Any) -> bool:
        """Spell everything out."""
        return True


def _wanted(study: Study, resources: Path) -> Iterator[tuple[str, str, PretrainedConfig, Asked]]:
    for model in study.models:
        config = shapes.of_study(study, model, resources)
        if config is None:
            raise BadInput(
                f"models.{model}: its shape is not known before it is there: "
                f"run `owlore run --cores all resources/models/{model}/model.json` first"
            )
        for track in study.tracks:
            for name in study.run:
                method = study.method(name, track, model)
                if isinstance(method, Trained):
                    size = method.per_device_train_batch_size
                    yield model, track, config, Asked(name, method, size, method.max_length)


def _hours(need: Need, tflops: float) -> float:
    return need.flops / (tflops * 1e12) / 3600


def _row(need: Need, seeds: int, tflops: float) -> dict[str, str]:
    asked = need.asked
    return {
        "model": need.model,
        "track": need.track,
        "method": asked.name,
        "micro-batch": f"{asked.micro_batch}x{asked.seqlen}",
        "peak GiB": f"{need.peak_gib:.1f}",
        "needed": f"{memory_plan.needed_gib(need.peak_gib):.1f}",
        "fits": "yes" if need.fits else "no",
        "fits with": "nothing" if need.micro_batch is None else f"micro-batch {need.micro_batch}",
        "hours a run": f"{_hours(need, tflops):.2f}",
        "runs": str(seeds),
    }
