"""Calibration: windows of running text, and how large the inputs of the linear maps are on them."""

import random
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_submodules
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import read_jsonl
from owlore.core.progress import Progress
from owlore.sources import models

GROUPS = 16  # of samples whose sums are kept apart, for the bootstrap
TOKENS = 2048  # in a forward pass


def calibration_windows(
    text: Path, tokenizer: PreTrainedTokenizerBase, samples: int, seqlen: int, seed: int
) -> Tensor:
    """Cut shuffled running text into windows of token ids, shape (samples, seqlen).

    Raises:
        BadInput: a row has no text, or there are fewer than samples × seqlen tokens.
    """
    rows = read_jsonl(text)
    if not all(isinstance(row.get("text"), str) for row in rows):
        raise BadInput(f"{text}: every row needs a text column")
    random.Random(seed).shuffle(rows)
    ids: list[int] = []
    for row in rows:
        if len(ids) >= samples * seqlen:
            break
        ids += tokenizer(row["text"] + "\n\n", add_special_tokens=False)["input_ids"]
    if len(ids) < samples * seqlen:
        raise BadInput(
            f"calibration.samples: {samples} windows of {seqlen} tokens need "
            f"{samples * seqlen} tokens, {text} has {len(ids)}"
        )
    return torch.tensor(ids[: samples * seqlen]).view(samples, seqlen)


@contextmanager
def offloaded(model: PreTrainedModel, device: str) -> Iterator[None]:
    """Let a model in main memory compute on a device that need not hold it.

    Every module's own weights are there while it computes, so that a float32 copy of a model whose
    bfloat16 weights alone would fill the card can be scored.
    """
    cpu_offload(model, torch.device(device))
    try:
        yield
    finally:
        remove_hook_from_submodules(model)


@torch.no_grad()
def input_square_sums(
    model: PreTrainedModel, windows: Tensor, batch_size: int | None = None, device: str = "cpu"
) -> list[dict[str, Tensor]]:
    """Run the model once, without its head; return ‖X_j‖² of every linear map's input.

    Args:
        model: a causal language model.
        windows: token ids, shape (samples, seqlen).
        batch_size: windows a forward pass, None: as many as have TOKENS tokens; the result does
            not depend on it.
        device: that the model computes on.

    Returns:
        One mapping a decoder layer: name of the linear map → shape (groups, in_features), float32;
        neighbouring samples are summed so that there are at most GROUPS groups. Maps that read the
        same input (q, k, v; gate, up) share one tensor.

    Raises:
        OwloreError: an activation is not finite.
    """
    groups = min(GROUPS, len(windows))
    group_of = [index * groups // len(windows) for index in range(len(windows))]
    batch_size = batch_size or max(1, TOKENS // windows.shape[1])
    collectors = [_Collector(layer, groups) for layer in models.decoder_layers(model)]
    try:
        with Progress(total=len(windows), desc="outliers", unit="window") as bar:
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size].to(device)
                for collector in collectors:
                    collector.groups_of_batch = group_of[start : start + batch_size]
                models.decoder(model)(input_ids=batch, use_cache=False)
                bar.update(len(batch))
    finally:
        for collector in collectors:
            collector.remove()
    found = [collector.sums for collector in collectors]
    for index, sums in enumerate(found):
        for name, value in sums.items():
            if not torch.isfinite(value).all():
                raise OwloreError(f"layer {index}, {name}: an activation is not finite")
    return found


class _Collector:
    """Hooks on one decoder layer that sum the squares of what its linear maps read."""

    def __init__(self, layer: nn.Module, groups: int):
        self.sums: dict[str, Tensor] = {}
        self.groups_of_batch: list[int] = []
        self._groups = groups
        self._last: tuple[weakref.ref[Tensor], Tensor] | None = None
        self._handles = [
            module.register_forward_pre_hook(self._hook_for(name))
            for name, module in models.linear_modules(layer).items()
        ]

    def _hook_for(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen = inputs[0]
            if self._last is not None and self._last[0]() is seen:
                self.sums[name] = self._last[1]  # the map before read the very same tensor
                return
            if name not in self.sums:
                self.sums[name] = seen.new_zeros(self._groups, seen.shape[-1], dtype=torch.float32)
            # A window at a time: the squares take little room. In place: sharers see the sum.
            windows = seen.view(len(self.groups_of_batch), -1, seen.shape[-1])
            for group, rows in zip(self.groups_of_batch, windows, strict=True):
                self.sums[name][group] += rows.float().square().sum(0)
            self._last = (weakref.ref(seen), self.sums[name])

        return hook

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
