"""Where questions lie, and the variance that follows: by numpy, by loops, by shuffling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owlore.stats.strata import Layout

# Task, cluster, stratum; a cluster lies in one stratum.
NAMES = st.lists(
    st.tuples(st.sampled_from("st"), st.integers(0, 9), st.sampled_from("xyz")).map(
        lambda names: (names[0], f"{names[2]}{names[1]}", names[2])
    ),
    min_size=1,
    max_size=30,
)


def test_one_task_without_clusters_is_the_variance_of_a_mean():
    values = np.random.default_rng(0).normal(size=(30, 1))
    layout = Layout.of(["t"] * 30, range(30))
    assert layout.variances(values) == pytest.approx([values.var(ddof=1) / 30])
    both = np.column_stack([values, 3 * values])
    assert layout.variances(both) == pytest.approx([10 * values.var(ddof=1) / 30])


def test_strata_give_the_variance_of_a_stratified_mean():
    """Two strata of fixed shares: the sum of share^2 * variance / n (Cochran, section 5.4)."""
    random = np.random.default_rng(1)
    values = np.concatenate([random.normal(size=12), 5 + random.normal(size=8)])
    layout = Layout.of(["t"] * 20, range(20), ["x"] * 12 + ["y"] * 8)
    expected = [(12 / 20) ** 2 * values[:12].var(ddof=1) / 12]
    expected.append((8 / 20) ** 2 * values[12:].var(ddof=1) / 8)
    assert layout.variances(values[:, None]) == pytest.approx(expected)


@given(rows=NAMES)
@settings(max_examples=40, deadline=None)
def test_the_variance_is_that_of_the_formula_written_out(rows):
    task, cluster, stratum = zip(*rows, strict=True)
    values = np.random.default_rng(len(rows)).normal(size=len(rows))
    layout = Layout.of(task, cluster, stratum)
    found = layout.variances(values[:, None])
    for h in range(len(layout.clusters)):
        inside = np.flatnonzero(layout.stratum == h)
        groups = {layout.cluster[i] for i in inside}
        rest = {i: layout.weight[i] * (values[i] - values[inside].mean()) for i in inside}
        sums = [sum(rest[i] for i in inside if layout.cluster[i] == g) for g in groups]
        if len(groups) < 2:
            assert np.isnan(found[h])
        else:
            expected = len(groups) / (len(groups) - 1) * sum(s**2 for s in sums)
            assert found[h] == pytest.approx(expected, abs=1e-15)


@given(rows=NAMES)
@settings(max_examples=40, deadline=None)
def test_tasks_weigh_the_same_and_nothing_lies_in_two(rows):
    task, cluster, stratum = (np.array(names) for names in zip(*rows, strict=True))
    layout = Layout.of(task, cluster, stratum)
    assert layout.weight.sum() == pytest.approx(1)
    for name in set(task):
        assert layout.weight[task == name].sum() == pytest.approx(1 / len(set(task)))
    assert (layout.stratum_of[layout.cluster] == layout.stratum).all()
    assert (layout.task_of[layout.stratum] == layout.task).all()
    assert layout.clusters.sum() == len(layout.stratum_of)
    # A stratum of one cluster is left only where its whole task has no other.
    for h in np.flatnonzero(layout.clusters == 1):
        assert (layout.task_of == layout.task_of[h]).sum() == 1


@given(rows=NAMES, random=st.randoms())
@settings(max_examples=40, deadline=None)
def test_names_and_order_do_not_matter(rows, random):
    values = np.arange(len(rows)) % 5.0
    layout = Layout.of(*zip(*rows, strict=True))
    shuffled = list(enumerate(rows))
    random.shuffle(shuffled)
    order = [place for place, _ in shuffled]
    again = Layout.of(*zip(*(row for _, row in shuffled), strict=True))
    assert layout.weight @ values == pytest.approx(again.weight @ values[order])
    mine, theirs = (
        np.sort(one.variances(v[:, None])) for one, v in ((layout, values), (again, values[order]))
    )
    assert mine == pytest.approx(theirs, abs=1e-14, nan_ok=True)


def test_equal_names_in_two_tasks_are_two_clusters():
    layout = Layout.of(["s", "s", "t", "t"], ["a", "b", "a", "b"])
    assert len(layout.stratum_of) == 4 and layout.clusters.tolist() == [2, 2]


def test_lonely_strata_are_pooled_and_a_last_one_joins_a_neighbour():
    names = ["x", "y", "z", "z", "z"]
    layout = Layout.of(["t"] * 5, range(5), names)
    assert layout.stratum[0] == layout.stratum[1] != layout.stratum[2]
    layout = Layout.of(["t"] * 4, range(4), ["x", "z", "z", "z"])
    assert len(set(layout.stratum)) == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([], []), "there are no questions"),
        ((["t"], [1, 2]), "expected one name a question"),
        ((["t", "t"], [1, 2], ["x"]), "expected one name a question"),
        (([["t"]], [[1]]), "expected one name a question"),
    ],
)
def test_names_that_do_not_fit_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Layout.of(*columns)
