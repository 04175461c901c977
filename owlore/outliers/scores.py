"""Outlier scores: the layerwise outlier distribution D_l that drives OwLore's layer draw.

Imports only torch, so that it can be lifted out. For a linear map with weight W and inputs X the
score of an entry is A_ij = ‖X_j‖₂ · |W_ij|. With the linear maps of one decoder layer taken
together, D_l is the share of entries with A > M · mean(A) (OWL, arXiv 2310.05175, section 3;
OwLore, arXiv 2405.18380, section 3.2).

Weights are read in row blocks, twice: for the mean, then for the counts at all M at once. Nothing
of the size of a weight is ever allocated.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 1 << 18  # weight entries read at a time
RESAMPLES = 200


class LayerScore(NamedTuple):
    """Outliers of one decoder layer, as shares of its entries."""

    ratios: list[float]  # D_l at each of the thresholds
    projections: dict[str, float]  # share within each linear map, at the study's M
    interval: tuple[float, float]  # 95 % bootstrap interval of D_l at the study's M


@torch.no_grad()
def score_layer(
    weights: Mapping[str, Tensor],
    squares: Mapping[str, Tensor],
    thresholds: Sequence[float],
    chosen: float,
    seed: int = 0,
) -> LayerScore:
    """Score one decoder layer.

    Args:
        weights: each linear map's weight, shape (out_features, in_features).
        squares: ‖X_j‖² of each map's input per group of calibration samples, shape
            (groups, in_features). Maps that read the same input may share a tensor.
        thresholds: values of M.
        chosen: the M of `projections` and of the interval, one of them.
        seed: of the bootstrap, which draws the groups anew with replacement.
    """
    entries = sum(weight.numel() for weight in weights.values())
    norms = {name: squares[name].sum(0).sqrt().float() for name in weights}
    columns = {name: _column_sums(weight) for name, weight in weights.items()}
    mean = sum(float(columns[name] @ norms[name].double()) for name in weights) / entries
    resampled = _resampled_norms(squares, seed)
    summed = torch.stack([resampled[name].double() @ columns[name] for name in weights]).sum(0)
    limits = (chosen * summed / entries).float()  # of A, in each resample

    cuts = [threshold * mean for threshold in thresholds]
    counts = {name: torch.zeros(len(thresholds), dtype=torch.int64) for name in weights}
    totals = torch.zeros(RESAMPLES, dtype=torch.int64)
    for name, weight in weights.items():
        # An entry below this is no outlier in any resample; few are above.
        lowest = (limits[:, None] / resampled[name]).amin(0)
        for block in _row_blocks(weight):
            counts[name] += _counts(block * norms[name], cuts)
            row, column = (block > lowest).nonzero(as_tuple=True)
            totals += _counts_by_resample(block[row, column], resampled[name], column, limits)
    place = list(thresholds).index(chosen)
    low, high = (totals / entries).double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return LayerScore(
        ratios=[int(sum(c[k] for c in counts.values())) / entries for k in range(len(thresholds))],
        projections={name: int(counts[name][place]) / weights[name].numel() for name in weights},
        interval=(low, high),
    )


def _counts(scores: Tensor, limits: list[float]) -> Tensor:
    """Return how many scores exceed each limit; only what passes the lowest is looked at again."""
    passed = scores[scores > min(limits)]
    return torch.stack([(passed > limit).sum().cpu() for limit in limits])


def _counts_by_resample(sizes: Tensor, norms: Tensor, column: Tensor, limits: Tensor) -> Tensor:
    """Return, for each resample, how many of these entries |W_ij| are outliers in it."""
    total = torch.zeros(len(limits), dtype=torch.int64)
    step = max(1, BLOCK // len(limits))
    for start in range(0, len(sizes), step):
        part = slice(start, start + step)
        scores = sizes[part] * norms[:, column[part]]
        total += (scores > limits[:, None]).sum(1).cpu()
    return total


def _resampled_norms(squares: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Return ‖X_j‖ over groups drawn with replacement, shape (resamples, in_features) a map."""
    groups = len(next(iter(squares.values())))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(groups, (RESAMPLES, groups), generator=generator)
    times = torch.zeros(RESAMPLES, groups, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))
    made: dict[int, Tensor] = {}  # of each distinct input
    for tensor in squares.values():
        if id(tensor) not in made:
            made[id(tensor)] = (times.to(tensor.device) @ tensor.double()).sqrt().float()
    return {name: made[id(tensor)] for name, tensor in squares.items()}


def _column_sums(weight: Tensor) -> Tensor:
    """Return Σ_i |W_ij|, shape (in_features,), float64."""
    total = torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
    for block in _row_blocks(weight):
        total += block.sum(0)
    return total


def _row_blocks(weight: Tensor) -> Iterator[Tensor]:
    """Yield |W| as (rows, in_features) blocks in float32."""
    rows = max(1, BLOCK // weight.shape[1])
    for start in range(0, weight.shape[0], rows):
        yield weight[start : start + rows].float().abs()
