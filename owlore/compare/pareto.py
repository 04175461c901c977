"""Who is on the front of little memory and high accuracy, as a probability.

front(results, Group("mini", "smollm2-135m"), "commonsense")    # {"base": 1.0, "lora": 0.97, ...}
"""

import numpy as np

from owlore.compare.comparisons import answers
from owlore.compare.results import Group, Results
from owlore.stats.bootstrap import bootstrap, on_front
from owlore.stats.strata import Layout

DRAWS = 10_000


def front(results: Results, group: Group, benchmark: str) -> dict[str, float]:
    """Return for each method the probability that none with less memory scores as high.

    Over other questions and other seeds, by a seeded bootstrap of the benchmark's average; the
    measured peaks are taken as known. A method without training needs no memory for it. One whose
    peak was not measured is left out.
    """
    costs = _costs(results, group)
    every = [answers(results, group, method, benchmark) for method in costs]
    seeds = max(one.values.shape[1] for one in every)
    shape = (len(every[0].task), seeds)
    values = np.stack([np.broadcast_to(one.values, shape) for one in every], axis=1)
    layout = Layout.of(every[0].task, every[0].cluster, every[0].stratum)
    drawn = bootstrap(values, layout, DRAWS, seed=0)
    return dict(zip(costs, on_front(list(costs.values()), drawn).tolist(), strict=True))


def _costs(results: Results, group: Group) -> dict[str, float]:
    """Mean measured peak over the seeds, in bytes."""
    costs = {}
    for method in results.study.run:
        peaks = [entry.finetune.peak_bytes for entry in results.of(group, method)]
        measured = [peak for peak in peaks if peak is not None]
        if not results.study.method(method).trains:
            costs[method] = 0.0
        elif len(measured) == len(peaks):
            costs[method] = float(np.mean(measured))
    return costs
