"""How often the intervals and tests of `owlore.stats` are right, and how fast the bootstrap is.

Run as: `python benchmarks/coverage.py` (five minutes). The answers are made up, so that the truth
is known: two methods, five tasks, 10 % discordant answers. With one seed the interval is for the
models at hand; with more, for other questions and other seeds.
"""

import time
from dataclasses import dataclass

import numpy as np
from known_answers import answers
from measuring import Table
from scipy import stats

from owlore.stats.bootstrap import bootstrap
from owlore.stats.paired import equivalence_p, paired_difference
from owlore.stats.strata import Layout

REPEATS = 2000
SEEDS, SPREADS, QUESTIONS = (1, 3, 5), (0.0, 0.01, 0.02, 0.04), (500, 5000)
MARGIN = 0.01
MMLU, METHODS, DRAWS = 14042, 6, 10_000


@dataclass
class Found:
    """Shares of the repeats, and half widths over 1.96 true standard deviations."""

    covered: float
    covered_by_questions: float
    different: float
    equivalent: float
    width: float


def simulate(seeds: int, spread: float, questions: int, gap: float = 0.0) -> Found:
    random = np.random.default_rng([seeds, int(1000 * spread), questions, int(1000 * gap)])
    hits = np.zeros(4)
    errors, widths = [], []
    for _ in range(REPEATS):
        made = answers(random, questions, seeds, spread, gap)
        found = paired_difference(made.a, made.b, made.task, made.cluster)
        truth = made.conditional if seeds == 1 else gap
        alone = found
        if seeds > 1:
            means = (made.a.mean(axis=1), made.b.mean(axis=1))
            alone = paired_difference(*means, made.task, made.cluster)
        hits += (
            found.low <= truth <= found.high,
            alone.low <= truth <= alone.high,
            found.p_value < 0.05,
            equivalence_p(found, MARGIN) < 0.05,
        )
        errors.append(found.difference - truth)
        widths.append((found.high - found.low) / 2)
    return Found(*(hits / REPEATS), float(np.mean(widths)) / (1.96 * float(np.std(errors))))


def percent(*shares: float) -> str:
    return " / ".join(f"{100 * share:.1f} %" for share in shares)


def coverage(table: Table) -> None:
    """The stated grid; the differences found where there are none come with it."""
    wrong = []
    for seeds in SEEDS:
        for spread in SPREADS:
            cells = [simulate(seeds, spread, questions) for questions in QUESTIONS]
            table.add(
                f"coverage, {seeds} seed{'s' if seeds > 1 else ''}, seed sd {100 * spread:g} "
                "points, 500 / 5,000 questions",
                percent(*(cell.covered for cell in cells)),
                ""
                if seeds == 1
                else "questions alone " + percent(*(cell.covered_by_questions for cell in cells)),
                " / ".join(f"{cell.width:.2f}x" for cell in cells) + " the width of a known sd",
                ">= 93 %",
            )
            # One seed says nothing of other seeds: equal models are those without a seed effect.
            wrong += [cell.different for cell in cells if seeds > 1 or spread == 0]
    table.add(
        "differences found between exchangeable models: all of the above but 1 seed with a spread",
        f"{percent(np.mean(wrong))}, most {percent(max(wrong))}",
        "",
        "",
        "<= 5 %",
    )


def equivalence(table: Table) -> None:
    at_margin = [
        simulate(seeds, spread, 5000, gap=MARGIN).equivalent
        for seeds in SEEDS
        for spread in (SPREADS if seeds > 1 else SPREADS[:1])
    ]
    table.add(
        "equivalence claimed at a true difference of the margin (1 point), 5,000 questions, the "
        "same models",
        f"{percent(np.mean(at_margin))}, most {percent(max(at_margin))}",
        "",
        "",
        "<= 5 %",
    )
    for seeds in SEEDS:
        found = simulate(seeds, 0.0, MMLU)
        table.add(
            f"equivalence claimed at no difference, {MMLU:,} questions, {seeds} "
            f"seed{'s' if seeds > 1 else ''} without a spread",
            percent(found.equivalent),
            "",
            "",
            "",
        )


def satterthwaite(table: Table) -> None:
    """Why not one t for the sum of both parts: the lowest coverage over the shares of the seeds."""
    random = np.random.default_rng(0)
    error = np.abs(random.standard_normal(200_000))
    for seeds in (2, 3, 5):
        freedom = seeds - 1
        found = random.chisquare(freedom, error.size) / freedom
        one, both = [], []
        for share in np.arange(0.05, 1, 0.05):
            part, rest = share * found, 1 - share
            joint = (part + rest) ** 2 / (part**2 / freedom + rest**2 / 500)
            width = stats.t.ppf(0.975, joint) * np.sqrt(part + rest)
            quantiles = stats.t.ppf(0.975, [freedom, 500]) ** 2
            one.append((error <= width).mean())
            both.append((error**2 <= quantiles[0] * part + quantiles[1] * rest).mean())
        table.add(
            f"lowest coverage over all shares of the seeds in the variance, {seeds} seeds, normal "
            "errors",
            percent(min(both)),
            f"one t, Satterthwaite {percent(min(one))}",
            "",
            ">= 93 %",
        )


def speed(table: Table) -> None:
    """Averages over 57 subjects; the spread of a difference beside the formula."""
    random = np.random.default_rng(0)
    subject = random.integers(0, 57, MMLU)
    level = np.linspace(0.55, 0.65, METHODS)
    fate, own = random.random((MMLU, 1)), random.random((MMLU, METHODS))
    right = np.where(random.random((MMLU, METHODS)) < 0.1, own, fate) < level
    layout = Layout.of(subject, np.arange(MMLU))
    started = time.perf_counter()
    drawn = bootstrap(right, layout, DRAWS, seed=0)
    seconds = time.perf_counter() - started
    table.add(
        f"bootstrap, {DRAWS:,} draws of {MMLU:,} questions, {METHODS} methods",
        f"{seconds:.1f} s",
        "",
        "",
        "< 10 s",
    )
    formula = paired_difference(right[:, 0], right[:, 1], subject, np.arange(MMLU))
    table.add(
        "standard error of a difference",
        f"formula {100 * formula.standard_error:.4f} points",
        f"bootstrap {100 * (drawn[:, 0] - drawn[:, 1]).std():.4f} points",
        "",
        "",
    )


if __name__ == "__main__":
    table = Table(
        "coverage",
        f"Made-up models with a known difference, 10 % discordant answers, {REPEATS:,} repeats a "
        "cell, nominal 95 %.",
    )
    speed(table)
    satterthwaite(table)
    coverage(table)
    equivalence(table)
    table.write()
