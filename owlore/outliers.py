"""Outlier scores: the layerwise outlier distribution D_l that drives OwLore's layer draw.

Run as: `owlore outliers --model DIR --text FILE.jsonl --output OUT.json`

For a linear map with weight W and inputs X the score of an entry is A_ij = ‖X_j‖₂ · |W_ij|. With
the linear maps of one decoder layer taken together, D_l is the share of entries with
A > M · mean(A) (OWL, arXiv 2310.05175, section 3; OwLore, arXiv 2405.18380, section 3.2).

One forward pass collects ‖X_j‖² with hooks, only at distinct inputs; then each weight is read in
row blocks, for all thresholds M at once. Nothing of the size of a weight is ever allocated.
"""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore import models, provenance
from owlore.errors import BadInput, OwloreError
from owlore.files import canonical_json, read_jsonl, sha256_text, write_json
from owlore.progress import Progress, line
from owlore.spectra import heavy_tail_exponent

BLOCK = 1 << 20  # weight entries read at a time


def run(
    model_dir: Path,
    text: Path,
    output: Path,
    *,
    samples: int,
    seqlen: int,
    seed: int,
    threshold: float,
    thresholds: Sequence[float],
    name: str = "",
) -> None:
    """Score every decoder layer of a model and write the outlier file.

    Args:
        model_dir: checkpoint folder.
        text: JSONL with a `text` column, the calibration text.
        output: JSON file to write.
        samples: windows of calibration text.
        seqlen: tokens a window.
        seed: orders the text before it is cut.
        threshold: M of the study, whose ratios become `outlier_ratio`.
        thresholds: further values of M, reported in `by_threshold`.
        name: the model's name in the study.

    Raises:
        BadInput: the text is too short or malformed, or the model has no decoder layers.
    """
    started = time.perf_counter()
    model = models.load(model_dir)
    model.train(False)
    windows = calibration_windows(text, models.load_tokenizer(model_dir), samples, seqlen, seed)
    squares = input_square_sums(model, windows)
    every = sorted({float(threshold), *map(float, thresholds)})
    ratios, projections, alphas = [], [], []
    layers = models.decoder_layers(model)
    for layer, sums in zip(layers, squares, strict=True):
        linears = models.linear_modules(layer)
        counted = outlier_counts(linears, sums, every)
        total = sum(module.weight.numel() for module in linears.values())
        ratios.append([sum(c[k] for c in counted.values()) / total for k in range(len(every))])
        place = every.index(float(threshold))
        projections.append(
            {key: counted[key][place] / linears[key].weight.numel() for key in linears}
        )
        alphas.append(float(np.mean([heavy_tail_exponent(m.weight) for m in linears.values()])))
    chosen = [row[every.index(float(threshold))] for row in ratios]
    summed = sum(chosen)
    write_json(
        output,
        {
            "model": name,
            "weights_sha256": models.recorded_sha256(model_dir),
            "calibration": {
                "text_sha256": sha256_text(canonical_json(windows.tolist())),
                "samples": samples,
                "seqlen": seqlen,
                "seed": seed,
            },
            "threshold": threshold,
            "layers": [
                {
                    "index": index,
                    "outlier_ratio": ratio,
                    "outlier_percent": 100 * ratio,
                    # What a single draw gives this layer; all-zero scores say nothing.
                    "sampling_probability": ratio / summed if summed else 1 / len(chosen),
                    "projections": projections[index],
                    "alpha": alphas[index],
                }
                for index, ratio in enumerate(chosen)
            ],
            "by_threshold": {
                f"{value:g}": [row[k] for row in ratios] for k, value in enumerate(every)
            },
            # The paper's first version motivates D_l by heavy-tail theory: how well do they agree?
            "spearman_alpha": _rank_correlation(chosen, alphas),
            "seconds": round(time.perf_counter() - started, 3),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
        },
    )
    top = sorted(range(len(chosen)), key=lambda index: -chosen[index])[:3]
    line(f"outliers {name}: {len(chosen)} layers scored, highest {', '.join(map(str, top))}")


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


@torch.no_grad()
def input_square_sums(
    model: PreTrainedModel, windows: Tensor, batch_size: int = 4
) -> list[dict[str, Tensor]]:
    """Run the model once; return ‖X_j‖² of every linear map's input, per decoder layer.

    Args:
        model: a causal language model.
        windows: token ids, shape (samples, seqlen).
        batch_size: windows a forward pass; the result does not depend on it.

    Returns:
        One mapping a layer: name of the linear map → shape (in_features,), float64. Maps that
        read the same input (q, k, v; gate, up) share one tensor.

    Raises:
        OwloreError: an activation is not finite.
    """
    collectors = [_Collector(layer) for layer in models.decoder_layers(model)]
    try:
        with Progress(total=len(windows), desc="outliers", unit="window") as bar:
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size].to(model.device)
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


@torch.no_grad()
def outlier_counts(
    linears: dict[str, nn.Linear], squares: dict[str, Tensor], thresholds: Sequence[float]
) -> dict[str, list[int]]:
    """Count, per linear map and threshold M, the entries with A > M · mean over all the maps.

    Args:
        linears: the linear maps of one decoder layer.
        squares: ‖X_j‖² of each map's input.
        thresholds: values of M.

    Returns:
        Name of the map → count for each M.
    """
    norms = {name: squares[name].sqrt().float() for name in linears}
    total = sum(
        float(torch.mv(block.abs(), norms[name]).double().sum())
        for name, module in linears.items()
        for block in _row_blocks(module)
    )
    mean = total / sum(module.weight.numel() for module in linears.values())
    counts = {name: [0] * len(thresholds) for name in linears}
    for name, module in linears.items():
        for block in _row_blocks(module):
            scores = block.abs() * norms[name]
            for place, threshold in enumerate(thresholds):
                counts[name][place] += int((scores > threshold * mean).sum())
    return counts


class _Collector:
    """Hooks on one decoder layer that sum the squares of what its linear maps read."""

    def __init__(self, layer: nn.Module):
        self.sums: dict[str, Tensor] = {}
        self._last: tuple[Tensor, Tensor] | None = None
        self._handles = [
            module.register_forward_pre_hook(self._hook_for(name))
            for name, module in models.linear_modules(layer).items()
        ]

    def _hook_for(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen = inputs[0]
            if self._last is not None and self._last[0] is seen:
                self.sums[name] = self._last[1]  # the map before read the very same tensor
                return
            squares = seen.detach().flatten(0, -2).double().square().sum(0)
            if name in self.sums:
                self.sums[name] += squares  # in place: maps that share it see the sum
            else:
                self.sums[name] = squares
            self._last = (seen, self.sums[name])

        return hook

    def remove(self) -> None:
        """Take the hooks off and forget the activations."""
        self._last = None
        for handle in self._handles:
            handle.remove()


def _row_blocks(module: nn.Linear) -> Iterator[Tensor]:
    """Yield a linear map's weight as (rows, in_features) blocks in float32."""
    weight: Tensor = module.weight
    if type(module).__name__ == "Conv1D":  # GPT-2 stores (in, out)
        weight = weight.T
    rows = max(1, BLOCK // weight.shape[1])
    for start in range(0, weight.shape[0], rows):
        yield weight[start : start + rows].float()


def _rank_correlation(scores: list[float], alphas: list[float]) -> float | None:
    correlation = float(spearmanr(scores, alphas).statistic)
    return correlation if np.isfinite(correlation) else None
