"""The paired tests: against textbook values, against scipy, and by their coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from owlore.stats.paired import holm, mcnemar_exact, paired_difference


def test_one_task_without_clusters_is_the_paired_t_test():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 50))
    got = paired_difference(a, b, ["t"] * 50, range(50))
    want = stats.ttest_rel(a, b)
    interval = want.confidence_interval(0.95)
    assert got.p_value == pytest.approx(want.pvalue)
    assert (got.low, got.high) == pytest.approx((interval.low, interval.high))
    assert got.degrees_of_freedom == pytest.approx(49)
    assert got.n == 50


def test_hand_computed_clusters():
    # d = 1, 1, 0, 0; clusters x (two), y (two): mean .5, cluster sums of residuals +1 and -1,
    # V = 2/1 * (1 + 1) / 16 = .25
    got = paired_difference([1, 1, 1, 0], [0, 0, 1, 0], ["t"] * 4, ["x", "x", "y", "y"])
    assert got.difference == 0.5
    assert got.standard_error == pytest.approx(0.5)
    assert got.degrees_of_freedom == 1


def test_repeating_every_question_inside_its_cluster_adds_no_information():
    random = np.random.default_rng(1)
    a, b = random.integers(0, 2, size=(2, 60))
    task = np.repeat(["s", "t"], 30)
    cluster = np.arange(60)
    once = paired_difference(a, b, task, cluster)
    thrice = paired_difference(*(np.repeat(x, 3) for x in (a, b, task, cluster)))
    assert thrice.standard_error == pytest.approx(once.standard_error)
    assert thrice.p_value == pytest.approx(once.p_value)
    as_if_new = paired_difference(*(np.repeat(x, 3) for x in (a, b, task)), np.arange(180))
    assert as_if_new.standard_error < 0.65 * once.standard_error


def test_tasks_weigh_the_same_whatever_their_size():
    a = [1] * 10 + [0] * 90
    b = [0] * 100
    task = ["small"] * 10 + ["large"] * 90
    assert paired_difference(a, b, task, range(100)).difference == 0.5


def test_equal_cluster_names_in_two_tasks_are_two_clusters():
    values = [1, 0, 1, 0], [0, 1, 1, 0]
    apart = paired_difference(*values, ["s", "s", "t", "t"], ["a", "b", "c", "d"])
    shared = paired_difference(*values, ["s", "s", "t", "t"], ["a", "b", "a", "b"])
    assert apart == shared


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=40), st.randoms())
@settings(max_examples=50, deadline=None)
def test_swapping_flips_the_sign_and_order_does_not_matter(pairs, random):
    task = ["s" if place % 2 else "t" for place in range(len(pairs))]
    cluster = [place // 3 for place in range(len(pairs))]
    rows = [(a, b, t, c) for (a, b), t, c in zip(pairs, task, cluster, strict=True)]
    a, b, t, c = zip(*rows, strict=True)
    forward, back = paired_difference(a, b, t, c), paired_difference(b, a, t, c)
    assert forward.difference == -back.difference
    assert np.isclose(forward.low, -back.high, equal_nan=True)
    assert forward.p_value == back.p_value
    random.shuffle(rows)
    shuffled = paired_difference(*zip(*rows, strict=True))
    assert np.isclose(shuffled.low, forward.low, equal_nan=True)
    assert np.isclose(shuffled.difference, forward.difference)


def test_identical_methods_do_not_differ():
    got = paired_difference([1, 0, 1], [1, 0, 1], ["t"] * 3, range(3))
    assert (got.difference, got.low, got.high, got.p_value) == (0, 0, 0, 1)


def test_one_cluster_shows_nothing():
    got = paired_difference([1, 1, 0], [0, 0, 0], ["t"] * 3, ["same"] * 3)
    assert got.difference == pytest.approx(2 / 3)
    assert np.isnan([got.low, got.high, got.standard_error]).all()
    assert got.p_value == 1


def test_no_spread_at_all_is_not_taken_for_certainty():
    got = paired_difference([1, 1, 1, 1], [0, 0, 0, 0], ["t"] * 4, range(4))
    assert got.p_value == pytest.approx(1 / 8)
    assert np.isnan([got.low, got.high]).all()


@pytest.mark.parametrize(
    "columns",
    [
        ([1], [1, 0], ["t"], ["c"]),
        ([], [], [], []),
        ([np.nan], [1], ["t"], ["c"]),
        ([[1]], [[1]], [["t"]], [["c"]]),
    ],
)
def test_bad_values_are_refused(columns):
    with pytest.raises(ValueError):
        paired_difference(*columns)


@pytest.mark.parametrize(("clusters", "size"), [(40, 1), (40, 3)])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_interval_covers_the_true_difference(clusters, size, shift):
    """Two tasks, discordance about 20 %, clusters whose questions mostly agree."""
    random = np.random.default_rng(2)
    repeats, count = 800, clusters * size
    task, cluster = np.repeat(["s", "t"], count), np.tile(np.repeat(range(clusters), size), 2)
    covered = naive = 0
    for _ in range(repeats):
        fate = np.repeat(random.random(2 * clusters), size)
        own = random.random(2 * count)
        fate = np.where(random.random(2 * count) < 0.8, fate, own)  # correlation inside clusters
        a = fate < 0.1 + shift / 2
        b = fate > 0.9 + shift / 2
        interval = paired_difference(a, b, task, cluster)
        covered += interval.low <= shift <= interval.high
        ignored = paired_difference(a, b, task, np.arange(2 * count))
        naive += ignored.low <= shift <= ignored.high
    assert 0.93 <= covered / repeats <= 0.97
    if size > 1:
        assert naive / repeats < 0.88  # why the clusters are needed


def test_false_findings_stay_at_five_percent():
    """Exchangeable methods with 10 % discordance, two tasks of 60 questions."""
    random = np.random.default_rng(3)
    task = np.repeat(["s", "t"], 60)
    hits = 0
    for _ in range(1000):
        same = random.random(120) < 0.6
        flip = random.random(120) < 0.1
        coin = random.random(120) < 0.5
        a, b = np.where(flip, coin, same), np.where(flip, ~coin, same)
        hits += paired_difference(a, b, task, np.arange(120)).p_value < 0.05
    assert 0.03 <= hits / 1000 <= 0.07


def test_mcnemar_known_values():
    # 2 * P(X <= 2 | 12, 1/2) = 2 * (1 + 12 + 66) / 4096
    a = [1] * 10 + [0] * 2 + [1] * 5 + [0] * 5
    b = [0] * 10 + [1] * 2 + [1] * 5 + [0] * 5
    only_a, only_b, p = mcnemar_exact(a, b)
    assert (only_a, only_b) == (10, 2)
    assert p == pytest.approx(2 * 79 / 4096)
    assert mcnemar_exact(b, a) == (2, 10, p)
    assert mcnemar_exact([1, 0], [1, 0]) == (0, 0, 1.0)


def test_mcnemar_refuses_means_over_seeds():
    with pytest.raises(ValueError, match="right-or-wrong"):
        mcnemar_exact([0.5, 1], [1, 0])


def test_holm_known_values():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.2, float("nan")])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_raw_value_and_bonferroni_and_keeps_the_order(values):
    adjusted = holm(values)
    for raw, new in zip(values, adjusted, strict=True):
        assert raw <= new <= min(1.0, raw * len(values)) + 1e-12
    by_raw = [new for _, new in sorted(zip(values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)
