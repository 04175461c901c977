"""Paired tests of two methods on the same questions: how big is the difference, and is it there?

Two methods that answer the same questions are compared question by question. That removes the
part of the noise that comes from the questions being hard or easy, and it needs no assumption on
how often the two agree. This file imports only numpy and scipy, so that anybody can lift it out.

    difference = paired_difference(a, b, task, cluster)   # size, interval, p value
    b, c, p = mcnemar_exact(a, b)                         # the discordant questions, counted
    adjusted = holm([0.01, 0.04, 0.03])                   # one family of tests

All of it is conditional on the trained models at hand: it says how the difference would vary with
other questions, not with other training seeds. A percentile bootstrap over two or three seeds would
not repair that (its coverage falls far below 95 % when the seeds differ).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two averages, a minus b, with its 95 % interval.

    `difference`, `low`, `high` and `standard_error` are in the unit of the values compared
    (accuracy: a fraction). Where a task has fewer than two clusters the spread cannot be known: the
    interval and the standard error are nan and `p_value` is 1.
    """

    difference: float
    low: float
    high: float
    n: int
    standard_error: float
    degrees_of_freedom: float
    p_value: float


def paired_difference(
    a: ArrayLike, b: ArrayLike, task: ArrayLike, cluster: ArrayLike
) -> PairedDifference:
    """Compare two methods on the same questions: macro average over tasks of paired differences.

    With d the differences a - b, task t of T has the mean difference m_t over its n_t questions and
    G_t clusters (questions that share a passage, a word, ...), and

        difference = (1/T) sum_t m_t
        variance   = (1/T^2) sum_t V_t
        V_t        = G_t/(G_t - 1) / n_t^2 * sum_c (sum_{i in c} (d_i - m_t))^2

    V_t is the squared clustered standard error of paired differences in Miller (2024), "Adding
    Error Bars to Evals" (arXiv 2411.00640), with the usual G/(G - 1) for few clusters; with
    clusters of one question it is the ordinary s^2/n. Interval and two-sided p value come from the
    t distribution with Satterthwaite's degrees of freedom, (sum V_t)^2 / sum(V_t^2 / (G_t - 1)).
    Where all clusters show one and the same difference there is no spread to estimate it from; the
    p value is then that of flipping each cluster's sign, 2^(1 - clusters).

    Args:
        a: one value a question for the first method: correct or not, or the mean over seeds.
        b: the same for the second method, in the same order.
        task: the task of each question; tasks are strata and weigh the same.
        cluster: the cluster of each question; equal names in two tasks are two clusters.

    Raises:
        ValueError: the four differ in length, are empty, or a value is not finite.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    tasks, clusters = np.asarray(task), np.asarray(cluster)
    if not (first.shape == second.shape == tasks.shape == clusters.shape) or first.ndim != 1:
        raise ValueError("a, b, task, cluster: expected four sequences of the same length")
    if first.size == 0:
        raise ValueError("a, b: no questions to compare")
    differences = first - second
    if not np.isfinite(differences).all():
        raise ValueError("a, b: every value must be a finite number")

    strata = [
        _clustered_mean(differences[tasks == name], clusters[tasks == name])
        for name in np.unique(tasks)
    ]
    means, variances, freedoms = (np.array(column) for column in zip(*strata, strict=True))
    difference = float(means.mean())
    error = float(np.sqrt(variances.sum()) / len(means))
    unknown = float("nan")
    if np.isnan(error):
        return PairedDifference(difference, unknown, unknown, first.size, unknown, unknown, 1.0)
    if error == 0.0:
        freedom = float(freedoms.sum())
        if difference == 0.0:
            return PairedDifference(0.0, 0.0, 0.0, first.size, 0.0, freedom, 1.0)
        flips = float((freedoms[means != 0] + 1).sum())
        return PairedDifference(
            difference, unknown, unknown, first.size, 0.0, freedom, 2.0 ** (1 - flips)
        )
    freedom = float(variances.sum() ** 2 / (variances**2 / freedoms).sum())
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return PairedDifference(
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        n=first.size,
        standard_error=error,
        degrees_of_freedom=freedom,
        p_value=float(2 * stats.t.sf(abs(difference) / error, freedom)),
    )


def _clustered_mean(values: NDArray[Any], clusters: NDArray[Any]) -> tuple[float, float, float]:
    """Mean of one task, its cluster-robust variance, and its degrees of freedom (clusters - 1)."""
    mean = float(values.mean())
    names, membership = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return mean, float("nan"), float("nan")
    sums = np.bincount(membership, weights=values - mean, minlength=len(names))
    sums[np.abs(sums) < 1e-12 * len(values)] = 0.0  # rounding of a mean is no spread
    freedom = len(names) - 1
    variance = len(names) / freedom * float((sums**2).sum()) / len(values) ** 2
    return mean, variance, float(freedom)


def mcnemar_exact(a: ArrayLike, b: ArrayLike) -> tuple[int, int, float]:
    """Count the discordant questions and test whether they lean to one side.

    The test is exact: under "no difference" each discordant question is a fair coin. It takes the
    questions as independent, so for one run each of two methods only. Never pool seeds here: the
    same questions would count again.

    Args:
        a: whether the first method answered each question right.
        b: the same for the second method.

    Returns:
        (right only by a, right only by b, two-sided p value; 1 where nothing is discordant).

    Raises:
        ValueError: the lengths differ or a value is neither true nor false.
    """
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError("a, b: expected two sequences of the same length")
    for values in (first, second):
        if not np.isin(values, (0, 1)).all():
            raise ValueError("a, b: McNemar's test needs one right-or-wrong value a question")
    only_a = int(((first == 1) & (second == 0)).sum())
    only_b = int(((first == 0) & (second == 1)).sum())
    if only_a + only_b == 0:
        return 0, 0, 1.0
    return only_a, only_b, float(stats.binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of one family of tests, in the order given (Holm 1979).

    Comparing each adjusted value with 0.05 keeps the chance of any false finding in the whole
    family below 5 %, whatever the dependence between the tests.

    Raises:
        ValueError: a value is not between 0 and 1.
    """
    values = np.asarray(p_values, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p_values: {list(p_values)}: every value must lie between 0 and 1")
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]
