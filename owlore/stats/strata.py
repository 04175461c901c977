"""Where each question lies: in a task, in a stratum of it, in a cluster. For `stats`, `bootstrap`.

Tasks weigh the same in an average. A stratum (a subject of MMLU) is fixed: other questions would
come from the same strata in the same shares. A cluster (the questions on one passage) is drawn as a
whole. Imports only numpy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Layout:
    """The place of n questions; strata (H) and clusters (C) are numbered from 0 over all tasks.

    `weight` (n) is a question's share in the macro average over tasks; `task`, `stratum` and
    `cluster` (n) say where it lies; `stratum_of` (C) and `task_of` (H) where those lie; `clusters`
    (H) counts the clusters of each stratum.
    """

    weight: Floats
    task: Integers
    stratum: Integers
    cluster: Integers
    stratum_of: Integers
    task_of: Integers
    clusters: Integers

    @classmethod
    def of(cls, task: ArrayLike, cluster: ArrayLike, stratum: ArrayLike | None = None) -> "Layout":
        """Build it from names, one a question: equal names in two tasks are two strata, clusters.

        Strata of one cluster are pooled within their task, as their spread cannot be known; that
        can only widen an interval (Cochran, "Sampling Techniques", section 5A.12).

        Raises:
            ValueError: the names differ in number, or there are none.
        """
        places = [
            np.asarray(names) for names in (task, cluster, task if stratum is None else stratum)
        ]
        if any(names.shape != places[0].shape or names.ndim != 1 for names in places):
            raise ValueError("task, cluster, stratum: expected one name a question")
        if places[0].size == 0:
            raise ValueError("task: there are no questions")
        tasks, clusters, strata = (np.unique(names, return_inverse=True)[1] for names in places)
        strata = _with_company(tasks, _inside(tasks, strata), clusters)
        clusters = _inside(strata, clusters)
        stratum_of = _outer_of(strata, clusters)
        sizes = np.bincount(tasks)
        return cls(
            weight=1.0 / (len(sizes) * sizes[tasks]),
            task=tasks,
            stratum=strata,
            cluster=clusters,
            stratum_of=stratum_of,
            task_of=_outer_of(tasks, strata),
            clusters=np.bincount(stratum_of),
        )

    def variances(self, values: Floats) -> Floats:
        """Variance of the macro average that each stratum contributes, (H).

        Args:
            values: (n, columns); the variances of the columns are added up.

        Returns:
            G/(G - 1) * the sum over the stratum's G clusters of (weighted sum of their deviations
            from the stratum's mean)^2; nan for a stratum of one cluster.
        """
        sizes, total = np.bincount(self.stratum), np.zeros(len(self.clusters))
        for column in values.T:
            means = np.bincount(self.stratum, weights=column) / sizes
            rest = self.weight * (column - means[self.stratum])
            sums = np.bincount(self.cluster, weights=rest)
            sums[np.abs(sums) < 1e-14 * np.abs(column).max()] = 0.0  # rounding is no spread
            total += np.bincount(self.stratum_of, weights=sums**2)
        alone = self.clusters < 2
        found: Floats = total * self.clusters / np.where(alone, 1, self.clusters - 1)
        found[alone] = np.nan
        return found


def _inside(outer: Integers, inner: Integers) -> Integers:
    """Number the pairs of outer and inner from 0: equal names in two places are two."""
    ids: Integers = np.unique(outer * (inner.max() + 1) + inner, return_inverse=True)[1]
    return ids


def _outer_of(outer: Integers, inner: Integers) -> Integers:
    """Return in which outer each inner lies."""
    places = np.empty(inner.max() + 1, dtype=np.intp)
    places[inner] = outer
    return places


def _with_company(tasks: Integers, strata: Integers, clusters: Integers) -> Integers:
    """Pool the strata of a task that have one cluster; a last one alone joins a neighbour."""
    lonely = np.bincount(_outer_of(strata, _inside(strata, clusters))) == 1
    if not lonely.any():
        return strata
    joined = strata.copy()
    for task in np.unique(tasks[lonely[strata]]):
        own = np.unique(strata[tasks == task])
        alone = own[lonely[own]]
        if len(alone) == 1 and len(own) > 1:
            alone = np.append(alone, own[~lonely[own]][0])
        joined[np.isin(strata, alone)] = alone[0]
    ids: Integers = np.unique(joined, return_inverse=True)[1]
    return ids
