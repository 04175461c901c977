"""Bootstrap of the averages of several methods at once, on the same questions.

Questions are drawn anew within their stratum, whole clusters together, the same draw for every
method, so that whatever depends on several averages (their order, who is on a Pareto front) can be
read off the draws. Imports only numpy.

    averages = bootstrap(values, Layout.of(task, cluster), 10_000, seed=0)   # (draws, methods)
    on_front(peak_bytes, averages)                                           # (methods,)

For the interval of one difference use `stats.paired_difference`, which is honest with few clusters
and few seeds; its spread over questions is what this one converges to.
"""

import numpy as np
from numpy.typing import ArrayLike

from owlore.stats.strata import Floats, Layout

BLOCK = 2**16  # numbers drawn at a time: they stay in the processor's cache


def bootstrap(values: ArrayLike, layout: Layout, draws: int, seed: int) -> Floats:
    """Draw the macro averages over tasks anew.

    Several seeds of training are fixed in number and few: drawing them with replacement gives too
    narrow a spread. Instead each draw adds the deviation that a normal
    seed effect with the covariance found between the methods would cause, scaled by a chi-square of
    seeds - 1 degrees of freedom: a multivariate t, as in a Bayesian analysis with a flat prior. The
    part of the seeds' spread that comes from the questions is in both, so that the draws are a
    little too wide.

    Args:
        values: (questions, methods), or (questions, methods, seeds) with seeds paired.
        layout: where each question lies.
        draws: how many.
        seed: of the generator.

    Returns:
        (draws, methods).

    Raises:
        ValueError: the values are not one row a question of the layout, or not finite.
    """
    outcomes = np.asarray(values, dtype=float)
    if outcomes.ndim not in (2, 3) or len(outcomes) != len(layout.task):
        raise ValueError("values: expected (questions, methods) or (questions, methods, seeds)")
    if not np.isfinite(outcomes).all():
        raise ValueError("values: every value must be a finite number")
    outcomes = outcomes.reshape(*outcomes.shape[:2], -1)
    random = np.random.default_rng(seed)
    averages = _over_questions(outcomes.mean(axis=2), layout, draws, random)
    seeds = outcomes.shape[2]
    if seeds > 1:
        by_seed = np.einsum("q,qms->ms", layout.weight, outcomes)
        rest = by_seed - by_seed.mean(axis=1, keepdims=True)
        effect = random.standard_normal((draws, seeds)) @ rest.T / np.sqrt(seeds * (seeds - 1))
        averages += effect / np.sqrt(random.chisquare(seeds - 1, draws) / (seeds - 1))[:, None]
    return averages


def _over_questions(
    values: Floats, layout: Layout, draws: int, random: np.random.Generator
) -> Floats:
    """Draw clusters with replacement in each stratum; a task's mean is over what was drawn."""
    clusters, methods = len(layout.stratum_of), values.shape[1]
    # Sums over each cluster: one column a method, and the number of its questions.
    columns = np.column_stack([values, np.ones(len(values))])
    sums = np.column_stack(
        [np.bincount(layout.cluster, weights=column, minlength=clusters) for column in columns.T]
    )
    tasks = int(layout.task_of.max()) + 1
    totals = np.zeros((tasks, draws, methods + 1))
    for stratum, size in enumerate(layout.clusters.tolist()):
        own = sums[layout.stratum_of == stratum]
        kind = np.uint16 if size < 2**16 else np.int64
        for start in range(0, draws, step := max(1, BLOCK // size)):
            count = min(step, draws - start)
            drawn = random.integers(0, size, (count, size), dtype=kind)
            places = drawn + size * np.arange(count)[:, None]
            times = np.bincount(places.ravel(), minlength=count * size).reshape(count, size)
            totals[layout.task_of[stratum], start : start + count] += times.astype(float) @ own
    means: Floats = (totals[:, :, :methods] / totals[:, :, methods:]).mean(axis=0)
    return means


def on_front(costs: ArrayLike, averages: ArrayLike) -> Floats:
    """Probability that a method is on the Pareto front of low cost and high average.

    A method is on the front of a draw if no other costs no more and scores no less, one of the two
    strictly.

    Args:
        costs: (methods,), taken as known.
        averages: (draws, methods), from `bootstrap`.

    Returns:
        (methods,), the share of the draws.

    Raises:
        ValueError: the numbers of methods differ.
    """
    cost, score = np.asarray(costs, dtype=float), np.asarray(averages, dtype=float)
    if score.ndim != 2 or cost.shape != score.shape[1:]:
        raise ValueError("costs, averages: expected one cost a method, and (draws, methods)")
    front = np.empty(len(cost))
    for method, own in enumerate(cost):
        as_cheap = score[:, cost <= own].max(axis=1)
        cheaper = score[:, cost < own].max(axis=1, initial=-np.inf)
        front[method] = ((score[:, method] >= as_cheap) & (score[:, method] > cheaper)).mean()
    return front
