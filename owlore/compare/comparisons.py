"""Which methods are compared, question by question, inside one group (a track and a model).

    group = Group("mini", "smollm2-135m")
    difference(results, group, "commonsense", "owlore", "base")
    standing(results, group, "commonsense")    # who is best, who ties

With several seeds an interval covers questions and seeds, with one it is conditional on it; see
`owlore.stats`. Tasks are strata and so are MMLU's subjects; questions on one text are a cluster.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from owlore.compare.results import CellResults, Group, Results
from owlore.compare.table_formats import Mark
from owlore.core.errors import OwloreError
from owlore.evaluate.metrics import CORRECT
from owlore.mtbench.ratings import by_turn
from owlore.stats.paired import (
    PairedDifference,
    equivalence_p,
    holm,
    mcnemar_exact,
    paired_difference,
)
from owlore.study.benchmarks import LM_EVAL
from owlore.study.config import Study
from owlore.study.method import Full, Layers, Method

Verdict = Literal["better", "worse", "equivalent", "undecided"]
LEVEL = 0.05


def differing(groups: Sequence[Group]) -> list[str]:
    """Which of "track" and "model" the groups do not share."""
    return [name for name in Group._fields if len({getattr(group, name) for group in groups}) > 1]


class Outcomes(NamedTuple):
    """What one cell made of a benchmark, an array a column, a row a question."""

    task: NDArray[Any]
    cluster: NDArray[Any]
    stratum: NDArray[Any]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Outcomes of one method on one benchmark; `values` has a row a question, a column a seed."""

    task: NDArray[Any]
    cluster: NDArray[Any]
    stratum: NDArray[Any]
    values: NDArray[np.float64]
    seeds: tuple[int, ...]


@cache
def answers(results: Results, group: Group, method: str, benchmark: str) -> Answers:
    """Gather what a method answered: right or wrong, or on MT-Bench the judge's score.

    MT-Bench has one row a question and turn; nan where the judge gave no score. `mtbench` is its
    headline judge, `mtbench/<name>` a further one. The rows of any two methods of a group are the
    same and in the same order.
    """
    cells = results.of(group, method)
    read = _correct if benchmark in LM_EVAL else _scores
    by_seed = [read(entry, benchmark) for entry in cells]
    first = by_seed[0]
    if any(not np.array_equal(first.cluster, other.cluster) for other in by_seed):
        raise OwloreError(f"{cells[0].cell.path}: {benchmark}: the seeds answered other questions")
    values = np.stack([outcomes.value for outcomes in by_seed], axis=1)
    seeds = tuple(entry.seed for entry in cells)
    return Answers(first.task, first.cluster, first.stratum, values, seeds)


def _correct(entry: CellResults, benchmark: str) -> Outcomes:
    """Each question's task, cluster, subject, and outcome by the metric its task is scored with."""
    samples, tasks = entry.samples[benchmark], entry.scores[benchmark].tasks
    names = samples["task"].to_numpy(dtype=object)
    values = np.empty(len(samples))
    for task, score in tasks.items():
        rows = names == task
        values[rows] = samples.loc[rows, CORRECT[score.metric]].to_numpy(dtype=float)
    subjects = samples.get("subject", pd.Series("", index=samples.index)).fillna("")
    return Outcomes(
        task=names.astype(str),
        cluster=pd.factorize(samples["cluster"])[0],
        stratum=pd.factorize(subjects)[0],
        value=values,
    )


def _scores(entry: CellResults, benchmark: str) -> Outcomes:
    """One task, as MT-Bench's overall score is a plain mean; a question's two turns cluster.

    A turn that was judged several times has the median of its ratings.
    """
    judgments = entry.judged[benchmark.partition("/")[2]].judgments
    keys = [(row["question_id"], row["turn"], row.get("judging", 0)) for row in judgments]
    if len(set(keys)) != len(keys):
        raise OwloreError(f"{entry.cell.path}: judgments.jsonl: a turn is judged twice")
    turns = by_turn(judgments)
    scores = [np.nan if score is None else score for score in turns.values()]
    return Outcomes(
        task=np.full(len(turns), "mtbench"),
        cluster=np.array([question for question, _ in turns]),
        stratum=np.zeros(len(turns), dtype=int),
        value=np.array(scores, dtype=float),
    )


def difference(
    results: Results,
    group: Group,
    benchmark: str,
    method: str,
    reference: str,
    tasks: Collection[str] | None = None,
    seed: int | None = None,
) -> PairedDifference:
    """Compare `method` minus `reference` on the average of some tasks, or of all.

    Accuracies are fractions; MT-Bench is in points of its 1 to 10 scale, over the turns that were
    scored for both. `seed` picks one seed, and the interval is conditional on it; else all seeds
    count and the interval covers them too. The base model's single run stands beside each seed.
    """
    return _paired(
        answers(results, group, method, benchmark),
        answers(results, group, reference, benchmark),
        tasks,
        seed,
    )


def _paired(
    first: Answers,
    second: Answers,
    tasks: Collection[str] | None = None,
    seed: int | None = None,
) -> PairedDifference:
    if not np.array_equal(first.cluster, second.cluster):
        raise OwloreError("two methods of a group answered different questions")
    a, b = _of_seed(first, seed), _of_seed(second, seed)
    use = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1) & _of_tasks(first, tasks)
    if not use.any():
        nan = float("nan")
        return PairedDifference(nan, nan, nan, 0, nan, nan, 1.0, max(a.shape[1], b.shape[1]))
    places = (names[use] for names in (first.task, first.cluster, first.stratum))
    return paired_difference(a[use], b[use], *places)


def level(
    results: Results, group: Group, benchmark: str, method: str, task: str | None = None
) -> PairedDifference:
    """Average of one method itself with its interval, as a difference to nothing.

    One task, or the average over all; the unit is that of `difference`.
    """
    scored = answers(results, group, method, benchmark)
    nothing = replace(scored, values=np.zeros((len(scored.task), 1)))
    return _paired(scored, nothing, None if task is None else [task])


def verdicts(
    compared: Sequence[PairedDifference], margin: float
) -> list[tuple[float, float, Verdict]]:
    """Return Holm's p of a difference, Holm's p of equivalence, and the verdict: one family.

    The two kinds of test are two Holm families of the same size. Equivalent: shown to lie within
    `margin`, be there a small difference or not. Better, worse: a difference is shown, and it may
    reach the margin. Undecided: neither is shown.
    """
    different = holm([paired.p_value for paired in compared])
    equal = holm([equivalence_p(paired, margin) for paired in compared])
    tested = []
    for paired, p, p_equal in zip(compared, different, equal, strict=True):
        verdict: Verdict = "undecided"
        if p_equal < LEVEL:
            verdict = "equivalent"
        elif p < LEVEL:
            verdict = "better" if paired.difference > 0 else "worse"
        tested.append((p, p_equal, verdict))
    return tested


def _of_tasks(answered: Answers, tasks: Collection[str] | None) -> NDArray[np.bool_]:
    """Which rows belong to the tasks; all if none are named."""
    if tasks is None:
        return np.ones(len(answered.task), dtype=bool)
    return np.isin(answered.task, list(tasks))


def _of_seed(answered: Answers, seed: int | None) -> NDArray[np.float64]:
    """All seeds' columns, or one; the base model has a single run that serves for all."""
    if seed is None or len(answered.seeds) == 1:
        return answered.values
    return answered.values[:, [answered.seeds.index(seed)]]


class Discordance(NamedTuple):
    """How many questions only one of two methods got right, and McNemar's exact p."""

    only_method: int
    only_reference: int
    p_value: float


def discordance(
    results: Results,
    group: Group,
    benchmark: str,
    method: str,
    reference: str,
    seed: int,
    tasks: Collection[str] | None = None,
) -> Discordance:
    """Count, for one seed, what only `method` and only `reference` got right."""
    pair = [answers(results, group, name, benchmark) for name in (method, reference)]
    use = _of_tasks(pair[0], tasks)
    right = [_of_seed(answered, seed)[use, 0] for answered in pair]
    return Discordance(*mcnemar_exact(*right))


def trained_tasks(study: Study, track: str, benchmark: str) -> tuple[list[str], list[str]]:
    """Split a benchmark's tasks into those whose questions the track trains on, and the controls.

    A task counts as trained when the mixture has a pool of its name (other questions of the same
    kind).
    """
    asked, mixture = study.tracks[track].lm_eval_benchmarks, study.tracks[track].train
    tasks = asked[benchmark].tasks if benchmark in asked else {}
    return [t for t in tasks if t in mixture], [t for t in tasks if t not in mixture]


@cache
def standing(
    results: Results, group: Group, benchmark: str, task: str | None = None
) -> dict[str, Mark]:
    """Mark the best method: "best" only if it beats every other, else "tie" for all it does not.

    Which method looks best is itself a product of the data, so the p values are adjusted (Holm)
    over all pairs of methods, not over the pairs with the best one alone.
    """
    methods = results.study.run
    every = {method: answers(results, group, method, benchmark) for method in methods}
    pairs = list(combinations(methods, 2))
    wanted = None if task is None else [task]
    compared = [_paired(every[a], every[b], wanted) for a, b in pairs]
    adjusted = dict(
        zip(map(frozenset, pairs), holm([pair.p_value for pair in compared]), strict=True)
    )
    means = {method: _mean(answered, task) for method, answered in every.items()}
    best = max(methods, key=lambda method: means[method])
    tied = [
        method
        for method in methods
        if method == best or adjusted[frozenset((method, best))] >= LEVEL
    ]
    marks: dict[str, Mark] = dict.fromkeys(methods, "")
    if len(methods) > 1:
        marks |= dict.fromkeys(tied, "best" if tied == [best] else "tie")
    return marks


def _mean(answered: Answers, task: str | None) -> float:
    """Mean over the questions, tasks weighing the same; unscored answers are left out."""
    values = answered.values.mean(axis=1)
    scored = np.isfinite(values)
    names = np.unique(answered.task) if task is None else [task]
    parts = [values[scored & (answered.task == name)] for name in names]
    return float(np.mean([part.mean() for part in parts])) if all(map(len, parts)) else -np.inf


def judged(results: Results, group: Group, judge: str = "") -> bool:
    """Whether a real judge graded MT-Bench, not a model too small for it (a plumbing check)."""
    return all(
        entry.judged[judge].scores.comparable for entry in results.cells if entry.group == group
    )


def base_of(study: Study) -> str | None:
    """The method without training, the floor of every table."""
    return _first(study, lambda method: not method.trains)


def full_of(study: Study) -> str | None:
    """Plain full fine-tuning, the usual yardstick."""
    return _first(study, lambda method: isinstance(method, Full) and not method.projected)


def owlore_of(study: Study) -> str | None:
    """The paper's method: layers drawn by outlier scores, low-rank gradients."""
    return _first(
        study,
        lambda method: (
            isinstance(method, Layers) and method.sampling == "outlier" and method.projected
        ),
    )


def references_of(study: Study) -> list[str]:
    """What every method is held against: the base model, full fine-tuning, the paper's method."""
    found = (base_of(study), full_of(study), owlore_of(study))
    return [name for name in found if name is not None]


def baselines_of(study: Study) -> list[str]:
    """Trained methods that do not look at outlier scores."""
    return [
        name
        for name in study.run
        if (method := study.method(name)).trains and not method.needs_outliers
    ]


def _first(study: Study, wanted: Callable[[Method], bool]) -> str | None:
    return next((name for name in study.run if wanted(study.method(name))), None)
