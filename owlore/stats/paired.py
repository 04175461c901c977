"""Paired tests of two methods on the same questions: how big is the difference, and is it there?

Two methods that answer the same questions are compared question by question. That removes the
part of the noise that comes from the questions being hard or easy, and it needs no assumption on
how often the two agree. This file and `strata.py` import
only numpy and scipy, so that anybody can lift them out.

    difference = paired_difference(a, b, task, cluster)   # size, interval, p value
    b, c, p = mcnemar_exact(a, b)                         # the discordant questions, counted
    p = equivalence_p(difference, 0.01)                   # shown to be less than a point apart?
    adjusted = holm([0.01, 0.04, 0.03])                   # one family of tests

With one training seed all of it is conditional on the trained models at hand: it says how the
difference would vary with other questions, not with other training seeds. With two or more it
covers both. `benchmarks/coverage.py` measures how often the intervals are right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from owlore.stats.strata import Floats, Layout

CONFIDENCE = 0.95
# Independent parts of a variance: (variance, degrees of freedom of its estimate).
Parts = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two averages, a minus b, with its 95 % interval.

    `difference`, `low`, `high` and the errors are in the unit of the values compared (accuracy: a
    fraction). `standard_error` is that of the interval: over questions for one seed, over questions
    and seeds for more. `seed_error` is the part that the seeds show, None for one seed.
    `degrees_of_freedom` are those of the questions; the seeds' are `seeds` - 1. Where a task has
    fewer than two clusters the spread cannot be known: the interval and the standard error are nan
    and `p_value` is 1.
    """

    difference: float
    low: float
    high: float
    n: int
    standard_error: float
    degrees_of_freedom: float
    p_value: float
    seeds: int = 1
    seed_error: float | None = None
    spreads: tuple[Parts, ...] = field(default=(), repr=False)  # see `_reach`


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    task: ArrayLike,
    cluster: ArrayLike,
    stratum: ArrayLike | None = None,
) -> PairedDifference:
    """Compare two methods on the same questions: macro average over tasks of paired differences.

    One seed. With d the differences a - b, task t of T has the mean difference m_t over its n_t
    questions and G_t clusters (questions that share a passage, a word, ...), and

        difference = (1/T) sum_t m_t
        Q          = (1/T^2) sum_t V_t
        V_t        = G_t/(G_t - 1) / n_t^2 * sum_c (sum_{i in c} (d_i - m_t))^2

    V_t is the squared clustered standard error of paired differences in Miller (2024), "Adding
    Error Bars to Evals" (arXiv 2411.00640), with the usual G/(G - 1) for few clusters; with
    clusters of one question it is the ordinary s^2/n. Interval and two-sided p value come from the
    t distribution with Satterthwaite's degrees of freedom, Q^2 / sum((V_t/T^2)^2 / (G_t - 1)).
    Strata inside a task (the subjects of MMLU) have a V each, around their own mean; those with
    one cluster are pooled, which can only widen the interval (Cochran, "Sampling Techniques",
    section 5A.12, collapsed strata).

    S seeds, two or more. Questions and seeds are crossed: every seed answers all questions, and
    seed s of a is paired with seed s of b, which drew the same training rows. With d_si = m + q_i +
    u_s + w_si (two-way random effects: Searle, Casella and McCulloch 1992, "Variance Components",
    chapter 4) the mean over n questions and S seeds has the variance

        var(q)/n + var(u)/S + var(w)/(S n)

    Q, taken of the seeds' mean at each question, estimates the first and last term. U, the variance
    of the S averages over S, estimates the last two. Adding them would count the last twice; W,
    from the residuals of both ways (clustered as Q is), estimates it alone. So the parts are Q - W
    with many degrees of freedom and U with S - 1, and

        half width = sqrt(t(Q's)^2 * (Q - W) + t(S - 1)^2 * U)

    each t being the quantile of the degrees of freedom of its part (Banerjee 1960, Sankhya 22,
    357). Its coverage is at least nominal whatever the shares: P(Z^2 <= y) is concave in y, so that
    by Jensen's inequality a weighted sum of parts is covered at least as often as the parts alone.
    One t with Satterthwaite's degrees of freedom for the sum is narrower but too short here: its
    coverage falls to 92 % at 3 seeds and 87 % at 2 (`benchmarks/coverage.py`). The interval is
    never narrower than the one for the seeds at hand, t(Q's) * sqrt(Q).

    Where all clusters show one and the same difference there is no spread to estimate it from; the
    p value is then that of flipping each cluster's sign, 2^(1 - clusters).

    Args:
        a: outcomes of the first method: (questions,), or (questions, seeds).
        b: the same for the second method, questions and seeds in the same order. One column beside
            several is a model without seeds (the base model); it adds no seed variance.
        task: the task of each question; tasks are strata and weigh the same.
        cluster: the cluster of each question; equal names in two tasks are two clusters.
        stratum: the stratum of each question inside its task; equal names in two tasks are two.

    Raises:
        ValueError: lengths or numbers of seeds differ, nothing is there, or a value is not finite.
    """
    differences = _differences(a, b)
    layout = Layout.of(task, cluster, stratum)
    seeds, averages = differences.shape[1], layout.weight @ differences
    difference = float(averages.mean())
    over_seeds = differences.mean(axis=1)
    question_variances = layout.variances(over_seeds[:, None])
    question = float(question_variances.sum())
    unknown = float("nan")
    if np.isnan(question):
        return PairedDifference(
            difference, unknown, unknown, len(differences), unknown, unknown, 1.0, seeds
        )

    freedoms = layout.clusters - 1.0
    squares = float((question_variances**2 / freedoms).sum())
    freedom = question**2 / squares if squares > 0 else float(freedoms.sum())
    spreads: tuple[Parts, ...] = (((question, freedom),),)
    seed_error = None
    if seeds > 1:
        interaction = differences - over_seeds[:, None]
        both = layout.variances(interaction).sum() / (seeds * (seeds - 1))
        seed = float(averages.var(ddof=1)) / seeds
        seed_error = float(np.sqrt(seed))
        alone = max(question - float(both), 0.0)
        spreads += (((alone, freedom), (seed, seeds - 1.0)),)
    error = max(float(np.sqrt(sum(variance for variance, _ in parts))) for parts in spreads)
    if error == 0.0:
        reach, p_value = _without_spread(layout, over_seeds, difference)
    else:
        reach = _reach(spreads, (1 - CONFIDENCE) / 2)
        p_value = 2 * _tail(spreads, abs(difference))
    return PairedDifference(
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        n=len(differences),
        standard_error=error,
        degrees_of_freedom=freedom,
        p_value=p_value,
        seeds=seeds,
        seed_error=seed_error,
        spreads=spreads,
    )


def _differences(a: ArrayLike, b: ArrayLike) -> Floats:
    """(questions, seeds); a side with one column is laid beside every seed of the other."""
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.ndim not in (1, 2) or second.ndim not in (1, 2):
        raise ValueError("a, b: expected (questions,) or (questions, seeds)")
    first, second = first.reshape(len(first), -1), second.reshape(len(second), -1)
    if len(first) != len(second):
        raise ValueError("a, b: expected the same questions in both")
    if first.size == 0 or second.size == 0:
        raise ValueError("a, b: no questions to compare")
    if first.shape[1] != second.shape[1] and 1 not in (first.shape[1], second.shape[1]):
        raise ValueError("a, b: expected the same seeds in both, or a single column in one")
    differences: Floats = first - second
    if not np.isfinite(differences).all():
        raise ValueError("a, b: every value must be a finite number")
    return differences


def _without_spread(layout: Layout, over_seeds: Floats, difference: float) -> tuple[float, float]:
    """Half width and p value where every cluster of a stratum shows the same difference."""
    if difference == 0.0:
        return 0.0, 1.0
    means = np.bincount(layout.stratum, weights=over_seeds)
    return float("nan"), float(2.0 ** (1 - layout.clusters[means != 0].sum()))


def _reach(spreads: tuple[Parts, ...], tail: float) -> float:
    """How far the interval reaches with `tail` on either side; of several, the widest."""
    return max(
        math.sqrt(sum(special.stdtrit(freedom, tail) ** 2 * part for part, freedom in parts))
        for parts in spreads
    )


def _tail(spreads: tuple[Parts, ...], distance: float) -> float:
    """The tail at which the interval reaches just as far as `distance` (not negative)."""
    if distance == 0.0:
        return 0.5
    if len(spreads) == 1:
        ((variance, freedom),) = spreads[0]
        return float(special.stdtr(freedom, -distance / math.sqrt(variance)))
    lowest = -100.0  # exponent of the smallest p value told apart

    def beyond(exponent: float) -> float:
        return _reach(spreads, 0.5 * 10**exponent) - distance

    if beyond(lowest) <= 0:
        return 0.5 * 10**lowest
    return float(0.5 * 10 ** optimize.brentq(beyond, lowest, 0.0, xtol=1e-10))


def equivalence_p(paired: PairedDifference, margin: float) -> float:
    """Test whether two methods are less than `margin` apart (two one-sided tests, TOST).

    The p value is the larger of the two one-sided ones, against a difference of `margin` or more
    and of minus `margin` or less (Schuirmann 1987); both use the spread of the interval. Below
    0.05, "less than `margin` apart" is shown, and wrongly so in at most 5 % of the cases in which
    it is not true. Where nothing varies or the spread is unknown nothing is shown: the value is 1.

    Args:
        paired: what was found.
        margin: the smallest difference that matters, in the unit of the values compared.

    Raises:
        ValueError: `margin` is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin: {margin}: expected a positive number")
    if not paired.standard_error > 0:
        return 1.0
    room = margin - abs(paired.difference)
    tail = _tail(paired.spreads, abs(room))
    return tail if room >= 0 else 1 - tail


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
