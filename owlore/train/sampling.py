"""Which decoder layers train now: the layer draw of LISA and OwLore.

Imports nothing of this package, so that it can be lifted out.

OwLore (arXiv 2405.18380, Eq. 2) states inclusion probabilities gamma * D_l / sum(D). Its published
code draws gamma layers one after another without replacement with weights D_l, which includes the
heaviest layers less often. Both are here: `marginal` is the equation, `successive` the code.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def layer_weights(
    sampling: str, layers: int, outlier_ratios: Sequence[float] | None = None
) -> Array:
    """Return the normalised weight of each decoder layer.

    Args:
        sampling: uniform (LISA), outlier (OwLore), outlier-reversed, decrease (shallow layers
            first: L, L-1, …, 1), increase.
        layers: number of decoder layers L.
        outlier_ratios: D_l of each layer, for the two outlier samplings.

    Returns:
        Weights, shape (L,), non-negative, summing to 1. All-zero scores give uniform weights:
        they say nothing about the layers.

    Raises:
        ValueError: the scores are missing, of the wrong number, negative or not finite.
    """
    if sampling == "uniform":
        weights = np.ones(layers)
    elif sampling == "decrease":
        weights = np.arange(layers, 0, -1, dtype=np.float64)
    elif sampling == "increase":
        weights = np.arange(1, layers + 1, dtype=np.float64)
    elif sampling in ("outlier", "outlier-reversed"):
        weights = _checked_scores(outlier_ratios, layers)
        if sampling == "outlier-reversed":
            # Mirror the scores between their extremes: the lightest layer becomes the heaviest.
            # (The published code takes max - D, which never trains the top layer.)
            weights = weights.max() + weights.min() - weights
            if weights.min() <= 0:
                weights = weights + weights.sum() / (100 * layers)
    else:
        raise ValueError(f"sampling: {sampling!r} is not known")
    if weights.sum() == 0:
        weights = np.ones(layers)
    normalised: Array = weights / weights.sum()
    return normalised


class LayerSampler:
    """Draws gamma distinct layers from its own generator; its state can be saved and restored."""

    def __init__(self, weights: Array, gamma: int, law: str = "successive", seed: int = 0):
        """Prepare the draw.

        Args:
            weights: shape (L,), as `layer_weights` gives them.
            gamma: layers a draw, 1 to L.
            law: successive or marginal.
            seed: of this sampler's own generator.

        Raises:
            ValueError: gamma is not in 1..L or the law is not known.
        """
        if not 1 <= gamma <= len(weights):
            raise ValueError(f"gamma: {gamma}: allowed 1 to {len(weights)}")
        if law not in ("successive", "marginal"):
            raise ValueError(f"law: {law!r}: allowed successive, marginal")
        self.weights = np.asarray(weights, dtype=np.float64)
        self.gamma = gamma
        self.law = law
        self._generator = np.random.default_rng(seed)

    def draw(self) -> list[int]:
        """Return the next gamma layers, ascending.

        With fewer than gamma positive weights all of those are taken and the rest is drawn
        uniformly among the others.
        """
        positive = np.flatnonzero(self.weights > 0)
        if len(positive) <= self.gamma:
            others = np.setdiff1d(np.arange(len(self.weights)), positive)
            filled = self._generator.choice(others, self.gamma - len(positive), replace=False)
            return sorted(int(layer) for layer in (*positive, *filled))
        if self.law == "successive":
            drawn = self._generator.choice(
                len(self.weights), self.gamma, replace=False, p=self.weights
            )
        else:
            drawn = self._systematic(inclusion_probabilities(self.weights, self.gamma))
        return sorted(int(layer) for layer in drawn)

    def state_dict(self) -> dict[str, Any]:
        """Return the generator's state as plain numbers and strings."""
        state: dict[str, Any] = self._generator.bit_generator.state  # type: ignore[assignment]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self._generator.bit_generator.state = state

    def _systematic(self, inclusion: Array) -> NDArray[np.int64]:
        """Draw with exactly these inclusion probabilities (Madow 1949, in random order)."""
        order = self._generator.permutation(len(inclusion))
        edges = np.cumsum(inclusion[order])
        edges[-1] = self.gamma  # the sum, free of rounding
        points = self._generator.random() + np.arange(self.gamma)
        return order[np.searchsorted(edges, points, side="right")]


def inclusion_probabilities(weights: Array, gamma: int) -> Array:
    """Return pi_l = min(1, c * w_l) with sum(pi) = gamma: the paper's Eq. 2, capped at 1.

    Args:
        weights: shape (L,), non-negative, at least gamma of them positive.
        gamma: layers a draw.
    """
    inclusion = np.zeros(len(weights))
    capped = np.zeros(len(weights), dtype=bool)
    while True:
        free = ~capped
        share = (gamma - capped.sum()) / weights[free].sum()
        inclusion[free] = share * weights[free]
        inclusion[capped] = 1.0
        over = free & (inclusion > 1)
        if not over.any():
            return inclusion
        capped |= over


def _checked_scores(outlier_ratios: Sequence[float] | None, layers: int) -> Array:
    if outlier_ratios is None:
        raise ValueError("outlier scores are needed for this sampling")
    scores = np.asarray(outlier_ratios, dtype=np.float64)
    if len(scores) != layers:
        raise ValueError(f"{len(scores)} outlier scores for {layers} decoder layers")
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise ValueError("outlier scores must be finite and not negative")
    return scores
