"""Several seeds, strata, equivalence: against other formulas, scipy, and by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_answers import answers
from scipy import stats

from owlore.stats.paired import equivalence_p, paired_difference


def crossed(random, questions: int, seeds: int, q=1.0, u=1.0, w=1.0) -> np.ndarray:
    """Differences (questions, seeds) of two-way random effects with these spreads."""
    return (
        q * random.normal(size=(questions, 1))
        + u * random.normal(size=(1, seeds))
        + w * random.normal(size=(questions, seeds))
    )


def one_task(differences: np.ndarray):
    n = len(differences)
    return paired_difference(differences, np.zeros((n, 1)), ["t"] * n, range(n))


def test_the_parts_are_those_of_a_two_way_analysis_of_variance():
    random = np.random.default_rng(0)
    n, s = 30, 4
    d = crossed(random, n, s)
    by_question, by_seed, mean = d.mean(axis=1), d.mean(axis=0), d.mean()
    residual = d - by_question[:, None] - by_seed[None, :] + mean
    ms_question = s * ((by_question - mean) ** 2).sum() / (n - 1)
    ms_seed = n * ((by_seed - mean) ** 2).sum() / (s - 1)
    ms_residual = (residual**2).sum() / ((n - 1) * (s - 1))
    got = one_task(d)
    (_, ((alone, freedom), (seed, seeds_freedom))) = got.spreads
    assert alone == pytest.approx((ms_question - ms_residual) / (n * s))
    assert seed == pytest.approx(ms_seed / (n * s))
    assert got.seed_error == pytest.approx(np.sqrt(ms_seed / (n * s)))
    assert got.standard_error**2 == pytest.approx(
        (ms_question + ms_seed - ms_residual) / (n * s)  # Searle et al.: nothing counted twice
    )
    assert (freedom, seeds_freedom, got.seeds) == (pytest.approx(n - 1), s - 1, s)


def test_the_parts_add_up_to_the_true_variance():
    """Over many draws: the mean of the estimate is the variance of what it estimates."""
    random = np.random.default_rng(1)
    found = [one_task(crossed(random, 40, 3, q=1.0, u=0.2, w=2.0)) for _ in range(2000)]
    estimate = np.mean([sum(v for v, _ in one.spreads[1]) for one in found])
    truth = 1 / 40 + 0.2**2 / 3 + 2**2 / (3 * 40)
    assert estimate == pytest.approx(truth, rel=0.06)
    assert np.var([one.difference for one in found]) == pytest.approx(truth, rel=0.08)


def test_where_questions_do_not_matter_it_is_the_t_test_over_seeds():
    by_seed = np.array([0.3, 0.1, 0.4, 0.15])
    got = one_task(np.repeat(by_seed[None, :], 20, axis=0))
    want = stats.ttest_1samp(by_seed, 0)
    interval = want.confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((interval.low, interval.high))
    assert got.p_value == pytest.approx(want.pvalue)


def test_where_seeds_do_not_matter_they_add_nothing():
    random = np.random.default_rng(2)
    a, b = random.integers(0, 2, size=(2, 200))
    place = (np.repeat(["s", "t"], 100), range(200))
    once = paired_difference(a, b, *place)
    thrice = paired_difference(np.repeat(a[:, None], 3, axis=1), b[:, None], *place)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.p_value == pytest.approx(once.p_value)
    assert (once.seed_error, thrice.seed_error) == (None, pytest.approx(0))


def test_one_column_is_one_seed_and_stands_beside_every_seed():
    random = np.random.default_rng(3)
    a, b = random.integers(0, 2, size=(60, 3)), random.integers(0, 2, size=60)
    place = (["t"] * 60, range(60))
    assert paired_difference(a[:, 0], b, *place) == paired_difference(a[:, :1], b, *place)
    beside = paired_difference(a, b, *place)
    assert beside == paired_difference(a, np.repeat(b[:, None], 3, axis=1), *place)
    assert beside.seeds == 3
    back = paired_difference(b, a, *place)
    assert (back.low, back.high) == pytest.approx((-beside.high, -beside.low))


def test_seeds_are_paired():
    """A seed effect that both methods share is no seed effect of their difference."""
    random = np.random.default_rng(4)
    shared, own = crossed(random, 80, 3, u=5), random.normal(size=(80, 3))
    place = (["t"] * 80, range(80))
    paired = paired_difference(shared + own, shared, *place)
    crosswise = paired_difference(shared + own, shared[:, [1, 2, 0]], *place)
    assert paired.seed_error < 0.1 * crosswise.seed_error


@pytest.mark.parametrize("shape", [(10, 2), (10, 4)])
def test_other_numbers_of_seeds_are_refused(shape):
    with pytest.raises(ValueError, match="same seeds"):
        paired_difference(np.zeros((10, 3)), np.zeros(shape), ["t"] * 10, range(10))


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0, 0.2))
@settings(max_examples=60, deadline=None)
def test_the_interval_is_the_test_turned_round_and_never_narrower_than_one_seeds(seed, seeds, sd):
    made = answers(np.random.default_rng(seed), 100, seeds, sd, gap=0.1, discordance=0.2)
    found = paired_difference(made.a, made.b, made.task, made.cluster)
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
    means = (made.a.mean(axis=1), made.b.mean(axis=1))
    alone = paired_difference(*means, made.task, made.cluster)
    assert found.low <= alone.low + 1e-12
    assert found.high >= alone.high - 1e-12
    assert found.p_value >= alone.p_value - 1e-9


def test_strata_have_their_own_means():
    random = np.random.default_rng(5)
    stratum = np.repeat(["x", "y"], [30, 10])
    d = random.normal(size=40) + 3 * (stratum == "y")
    got = paired_difference(d, np.zeros(40), ["t"] * 40, range(40), stratum)
    parts = [d[stratum == name] for name in ("x", "y")]
    want = sum((len(part) / 40) ** 2 * part.var(ddof=1) / len(part) for part in parts)
    assert got.difference == pytest.approx(d.mean())  # strata keep the share they have
    assert got.standard_error**2 == pytest.approx(want)
    assert got.standard_error < 0.75 * one_task(d[:, None]).standard_error


def test_strata_of_one_question_are_pooled():
    random = np.random.default_rng(6)
    d = random.normal(size=12)
    place = (["t"] * 12, range(12))
    together = paired_difference(d, np.zeros(12), *place)
    assert paired_difference(d, np.zeros(12), *place, range(12)) == together
    # "z" alone joins "x": two strata of 6 remain
    names = np.array([*"xxxxx", *"yyyyyy", "z"])
    joined = np.array([*"xxxxx", *"yyyyyy", "x"])
    assert paired_difference(d, np.zeros(12), *place, names) == paired_difference(
        d, np.zeros(12), *place, joined
    )


@pytest.mark.parametrize("margin", [0.05, 0.3, 1.0])
def test_equivalence_is_two_one_sided_t_tests(margin: float):
    random = np.random.default_rng(7)
    a, b = random.normal(size=(2, 50))
    paired = paired_difference(a, b, ["t"] * 50, range(50))
    below = stats.ttest_1samp(a - b, margin, alternative="less").pvalue
    above = stats.ttest_1samp(a - b, -margin, alternative="greater").pvalue
    assert equivalence_p(paired, margin) == pytest.approx(max(below, above))


def test_equivalence_is_the_90_percent_interval_inside_the_margin():
    random = np.random.default_rng(8)
    for _ in range(200):
        found = one_task(crossed(random, 60, 3, u=random.uniform(0, 0.4)))
        margin = random.uniform(0.2, 1.5)
        pairs = [[(v, f) for v, f in parts] for parts in found.spreads]
        reach = max(np.sqrt(sum(stats.t.isf(0.05, f) ** 2 * v for v, f in p)) for p in pairs)
        inside = abs(found.difference) + reach < margin
        assert (equivalence_p(found, margin) < 0.05) == inside


def test_nothing_is_equivalent_where_nothing_varies_or_is_known():
    same = paired_difference([1, 0, 1], [1, 0, 1], ["t"] * 3, range(3))
    unknown = paired_difference([1, 1, 0], [0, 0, 0], ["t"] * 3, ["same"] * 3)
    assert equivalence_p(same, 0.5) == equivalence_p(unknown, 0.5) == 1
    with pytest.raises(ValueError, match="positive"):
        equivalence_p(replace(same, standard_error=1.0), 0)


def share(random, repeats: int, questions: int, seeds: int, sd: float, gap: float = 0.0):
    """Shares of the repeats: truth covered, a difference found, equivalence within .01 claimed."""
    hits = np.zeros(3)
    for _ in range(repeats):
        made = answers(random, questions, seeds, sd, gap)
        found = paired_difference(made.a, made.b, made.task, made.cluster)
        truth = made.conditional if seeds == 1 else gap
        hits += (
            found.low <= truth <= found.high,
            found.p_value < 0.05,
            equivalence_p(found, 0.01) < 0.05,
        )
    return hits / repeats


@pytest.mark.parametrize("questions", [500, 5000])
@pytest.mark.parametrize("sd", [0.0, 0.01, 0.02, 0.04])
@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_intervals_cover_questions_and_seeds(seeds: int, sd: float, questions: int):
    """The whole grid in short; `benchmarks/coverage.py` has 2,000 repeats of each.

    Fails where so few hits have a chance below 1 in 100 at the coverage of 93 % that is asked for.
    """
    repeats = 250 if questions == 500 else 80
    random = np.random.default_rng([seeds, int(1000 * sd), questions])
    covered, different, _ = share(random, repeats, questions, seeds, sd)
    assert covered >= stats.binom.ppf(0.01, repeats, 0.93) / repeats
    if seeds > 1 or sd == 0:  # one seed sees the luck of training as a difference
        most = stats.binom.isf(0.001, repeats, 0.05) / repeats
        assert different <= most


def test_two_seeds_are_enough_for_an_honest_interval():
    random = np.random.default_rng(12)
    covered, different, _ = share(random, 250, 500, 2, 0.04)
    assert covered >= stats.binom.ppf(0.01, 250, 0.93) / 250
    assert different <= stats.binom.isf(0.001, 250, 0.05) / 250


def test_few_seeds_without_their_spread_would_mislead():
    """What the interval over questions alone covers, so that the test above can fail."""
    random = np.random.default_rng(9)
    covered = 0
    for _ in range(200):
        made = answers(random, 500, 3, 0.04)
        means = (made.a.mean(axis=1), made.b.mean(axis=1))
        found = paired_difference(*means, made.task, made.cluster)
        covered += found.low <= 0 <= found.high
    assert covered / 200 < 0.75


@pytest.mark.parametrize(("seeds", "sd"), [(1, 0.0), (3, 0.0), (3, 0.01), (5, 0.01)])
def test_equivalence_is_claimed_at_the_margin_five_times_in_a_hundred(seeds: int, sd: float):
    repeats = 300
    random = np.random.default_rng([10, seeds, int(1000 * sd)])
    _, _, claimed = share(random, repeats, 2000, seeds, sd, gap=0.01)
    assert claimed <= stats.binom.isf(0.001, repeats, 0.05) / repeats


def test_equivalence_is_found_where_it_is_and_the_questions_suffice():
    random = np.random.default_rng(11)
    assert share(random, 40, 40000, 1, 0.0)[2] > 0.9
    assert share(random, 40, 500, 1, 0.0)[2] < 0.1
