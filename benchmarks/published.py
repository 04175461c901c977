"""The published recipe, as the arm to compare with: what OwLore's and OWL's own code does.

galore-torch comes from envs/peers.txt, without its requirement bitsandbytes: only a part of it
that is not used here has need of that.
"""

import functools
import importlib
import importlib.util
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from owlore.sources import models


@functools.cache
def galore_adamw() -> Any:
    """Return galore-torch's GaLoreAdamW, without running its package's imports of bitsandbytes.

    Raises:
        ModuleNotFoundError: galore-torch is not installed.
    """
    found = importlib.util.find_spec("galore_torch")
    if found is None:
        raise ModuleNotFoundError("galore-torch: pip install --no-deps -r envs/peers.txt")
    sys.modules["galore_torch"] = importlib.util.module_from_spec(found)
    return importlib.import_module("galore_torch.adamw").AdamW


def published_optimizer(
    model: PreTrainedModel, *, rank: int | None, update_proj_gap: int, lr: float
) -> torch.optim.Optimizer:
    """Return the optimizer over all parameters, as OwLore's code builds it (rank None: LISA's)."""
    if rank is None:
        return torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    matrices = [
        module.weight
        for layer in models.decoder_layers(model)
        for module in models.linear_modules(layer).values()
    ]
    projected = {id(matrix) for matrix in matrices}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in projected]},
        {
            "params": matrices,
            "rank": rank,
            "update_proj_gap": update_proj_gap,
            "scale": 1.0,
            "proj_type": "std",
        },
    ]
    optimizer: torch.optim.Optimizer = galore_adamw()(groups, lr=lr, no_deprecation_warning=True)
    return optimizer


class PublishedSwitch:
    """Freeze all decoder layers but gamma, drawn uniformly; optimizer state stays for ever."""

    def __init__(self, layers: nn.ModuleList, gamma: int, seed: int):
        self.layers, self.gamma = layers, gamma
        self._generator = np.random.default_rng(seed)

    def switch(self) -> None:
        """Draw the next layers."""
        drawn = self._generator.choice(len(self.layers), self.gamma, replace=False)
        for index, layer in enumerate(self.layers):
            layer.requires_grad_(index in drawn)


def full_logits_loss(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return transformers' own loss: logits of every token, in float32."""
    loss: Tensor = model(**batch, use_cache=False).loss
    return loss


@torch.no_grad()
def two_pass_scores(model: PreTrainedModel, windows: Tensor, threshold: float) -> list[float]:
    """Score layers as OWL's `prune_wanda_outlier_structure_special` does; return percentages.

    Layer by layer, a window at a time: once with hooks on all linear maps, then the metric of the
    whole layer in one vector, then the layer once more to get the inputs of the next.
    """
    layers = models.decoder_layers(model)
    states, keywords = _inputs_of_first_layer(model, layers[0], windows)
    percentages = []
    for layer in layers:
        linears = models.linear_modules(layer)
        sums = {name: torch.zeros(module.weight.shape[1]) for name, module in linears.items()}
        handles = [
            module.register_forward_hook(_running_sum(sums[name], len(windows)))
            for name, module in linears.items()
        ]
        for state in states:
            layer(state, **keywords)
        for handle in handles:
            handle.remove()
        metric = torch.cat(
            [(m.weight.abs() * sums[n].sqrt()).float().flatten().cpu() for n, m in linears.items()]
        )
        outliers = (metric > metric.mean() * threshold).sum()
        percentages.append(100 * float(outliers) / metric.numel())
        states = [_hidden(layer(state, **keywords)) for state in states]
    return percentages


class _Caught(Exception):
    pass


def _inputs_of_first_layer(
    model: PreTrainedModel, first: nn.Module, windows: Tensor
) -> tuple[list[Tensor], dict[str, Any]]:
    states: list[Tensor] = []
    keywords: dict[str, Any] = {}

    def catch(module: nn.Module, arguments: Any, kwargs: dict[str, Any]) -> None:
        states.append(arguments[0] if arguments else kwargs["hidden_states"])
        keywords.update({k: v for k, v in kwargs.items() if k != "hidden_states"})
        raise _Caught

    handle = first.register_forward_pre_hook(catch, with_kwargs=True)
    for window in windows:
        try:
            model(input_ids=window[None], use_cache=False)
        except _Caught:
            continue
    handle.remove()
    return states, keywords


def _running_sum(total: Tensor, samples: int) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen = inputs[0].flatten(0, -2).T.float()
        total.add_(seen.norm(p=2, dim=1) ** 2 / samples)

    return hook


def _hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
