"""The bootstrap: against the formula, against scipy, and by hand for Pareto fronts."""

import numpy as np
import pytest
from known_answers import answers
from scipy import stats

from owlore.stats.bootstrap import bootstrap, on_front
from owlore.stats.paired import paired_difference
from owlore.stats.strata import Layout


def test_the_spread_is_that_of_the_formula():
    made = answers(np.random.default_rng(0), 1000, 1, 0.0)
    layout = Layout.of(made.task, made.cluster)
    both = np.column_stack([made.a, made.b])
    drawn = bootstrap(both, layout, 4000, seed=0)
    assert drawn.shape == (4000, 2)
    formula = paired_difference(made.a, made.b, made.task, made.cluster)
    assert drawn.mean(axis=0) == pytest.approx(layout.weight @ both, abs=0.002)
    assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(formula.standard_error, rel=0.06)
    ignored = bootstrap(both, Layout.of(made.task, np.arange(1000)), 4000, seed=0)
    assert ignored[:, 0].std() < 0.95 * drawn[:, 0].std()  # twins count once


def test_strata_are_kept():
    values = np.repeat([0.0, 1.0], [6, 4])[:, None]
    names = np.repeat(["x", "y"], [6, 4])
    within = bootstrap(values, Layout.of(["t"] * 10, range(10), names), 50, seed=1)
    assert within == pytest.approx(0.4)
    across = bootstrap(values, Layout.of(["t"] * 10, range(10)), 50, seed=1)
    assert across.std() > 0.1


def test_one_task_is_scipys_bootstrap():
    random = np.random.default_rng(2)
    values = random.random(40)
    ours = bootstrap(values[:, None], Layout.of(["t"] * 40, range(40)), 20_000, seed=3)[:, 0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=random)
    assert stats.ks_2samp(ours, theirs.bootstrap_distribution).pvalue > 0.001


def test_seeds_give_a_t_distribution_with_the_methods_correlated():
    """Questions that do not vary: what is left is the seeds' t, the same for twins."""
    by_seed = np.array([0.1, 0.2, 0.6])
    values = np.broadcast_to(by_seed, (20, 3, 3)).copy()
    values[:, 1] += 0.3  # a twin, shifted
    values[:, 2] = 0.5  # no seed effect
    drawn = bootstrap(values, Layout.of(["t"] * 20, range(20)), 20_000, seed=4)
    scaled = (drawn[:, 0] - 0.3) / (by_seed.std(ddof=1) / np.sqrt(3))
    assert stats.kstest(scaled, stats.t(2).cdf).pvalue > 0.001
    assert drawn[:, 1] - drawn[:, 0] == pytest.approx(0.3)
    assert drawn[:, 2] == pytest.approx(0.5)


def test_blocks_do_not_matter(monkeypatch):
    values = np.random.default_rng(5).random((30, 2))
    layout = Layout.of(["t"] * 30, range(30))
    whole = bootstrap(values, layout, 100, seed=6)
    monkeypatch.setattr("owlore.stats.bootstrap.BLOCK", 90)
    assert bootstrap(values, layout, 100, seed=6) == pytest.approx(whole)


def test_front_by_hand():
    averages = [[0.5, 0.6, 0.7], [0.5, 0.4, 0.7], [0.5, 0.5, 0.5]]
    # cheap is always on it; middle where it beats cheap; dear where it beats both
    assert on_front([1, 2, 3], averages).tolist() == pytest.approx([1, 1 / 3, 2 / 3])
    assert on_front([1, 1, 1], averages).tolist() == pytest.approx([1 / 3, 1 / 3, 1])  # ties share


def test_every_draw_has_a_front():
    random = np.random.default_rng(7)
    costs, averages = random.integers(0, 3, 5), random.integers(0, 4, (200, 5))
    by_hand = [
        np.mean(
            [
                not any(
                    costs[o] <= costs[m]
                    and row[o] >= row[m]
                    and (costs[o] < costs[m] or row[o] > row[m])
                    for o in range(5)
                )
                for row in averages
            ]
        )
        for m in range(5)
    ]
    assert on_front(costs, averages) == pytest.approx(by_hand)


@pytest.mark.parametrize("values", [np.zeros(4), np.zeros((3, 2)), np.full((4, 2), np.nan)])
def test_bad_values_are_refused(values):
    with pytest.raises(ValueError, match="values"):
        bootstrap(values, Layout.of(["t"] * 4, range(4)), 10, seed=0)
    with pytest.raises(ValueError, match="costs"):
        on_front([1, 2], np.zeros((3, 3)))
