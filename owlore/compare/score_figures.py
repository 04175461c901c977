"""Figures of the scores: accuracy against memory, tasks against the base model, MT-Bench."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from owlore.compare.comparisons import base_of, difference, judged, level
from owlore.compare.figure_style import INK, apart, grid, sentence, styles, titles
from owlore.compare.mtbench_blocks import (
    Block,
    benchmark_of,
    blocks_of,
    categories_of,
    several_judges,
    summaries,
)
from owlore.compare.pareto import front
from owlore.compare.results import Group, Results
from owlore.compare.score_tables import MOST_COLUMNS
from owlore.study.benchmarks import LM_EVAL


def tradeoff(results: Results) -> Figure:
    """Draw measured peak memory against average accuracy, with 95 % intervals.

    They cover questions, and seeds where there are several. Behind a name stands the probability of
    the method to be on the front: nothing trained with less memory scores as high. A method without
    training has no such memory: it is a line across, and counts as free. The first benchmark that
    the study has (commonsense, else MMLU, and so on) is drawn.
    """
    benchmark = next((name for name in LM_EVAL if results.scored(name)), None)
    if benchmark is None:
        return sentence("No accuracy was scored in this study.")
    groups = results.scored(benchmark)
    figure, panels = grid(len(groups), 2, 5.2, 3.6)
    for panel, group, title in zip(panels, groups, titles(groups), strict=True):
        tops: list[tuple[float, float, str]] = []
        chances = front(results, group, benchmark)
        for method in results.study.run:
            entries = results.of(group, method)
            average = level(results, group, benchmark, method)
            score = 100 * average.difference
            reach = 0.0 if math.isnan(average.high) else 100 * average.high - score
            peaks = [entry.finetune.peak_bytes for entry in entries]
            measured = [peak for peak in peaks if peak is not None]
            colour, marker = styles(results.study)[method]
            if len(measured) < len(peaks):
                _line_across(panel, score, f"{method} (not trained)", colour)
            else:
                peak = float(np.mean(measured)) / 2**30
                panel.errorbar(peak, score, reach, color=colour, marker=marker, ms=8, lw=1.2)
                tops.append((peak, score + reach, method))
        panel.margins(x=0.08)
        named = {method: f"{method} ({100 * chance:.0f} %)" for method, chance in chances.items()}
        _name_from_above(results, panel, sorted(tops), named)
        panel.set_xlabel(f"{title}: peak memory while training, GiB (measured)")
        panel.set_ylabel(f"{benchmark} average, %")
    return figure


def _line_across(panel: Axes, height: float, name: str, colour: str) -> None:
    panel.axhline(height, color=colour, linestyle="--", linewidth=1)
    place = panel.get_yaxis_transform()  # x as a share of the panel
    text = panel.text(0.995, height, name, transform=place, color=INK, fontsize=8)
    text.set(ha="right", va="bottom")


def _name_from_above(
    results: Results, panel: Axes, tops: list[tuple[float, float, str]], named: dict[str, str]
) -> None:
    """Name each interval over the panel, pushed apart, with a line down to its upper end."""
    left, right = panel.get_xlim()
    low, high = panel.get_ylim()
    roof = high + 0.12 * (high - low)
    places = apart([x for x, _, _ in tops], 0.045 * (right - left))
    for (x, top, method), place in zip(tops, places.tolist(), strict=True):
        colour = styles(results.study)[method][0]
        panel.plot([x, place], [top, roof], color=colour, lw=0.7, ls=":", clip_on=False)
        name = panel.text(place, roof, named[method], color=INK, fontsize=8)
        name.set(rotation=35, rotation_mode="anchor")
    panel.set_xlim(left, right)
    panel.set_ylim(low, high)


def differences(results: Results) -> Figure:
    """Draw each method minus the base model with its 95 % interval: a panel a task, and averages.

    All panels share their axes, so that the methods stand in the same row everywhere.
    """
    base = base_of(results.study)
    methods = [name for name in results.study.run if name != base]
    if base is None or not methods:
        return sentence("Differences to the base model need a base model and a method.")
    drawn = [
        (group, benchmark, task)
        for group in results.groups
        for benchmark in LM_EVAL
        if group in results.scored(benchmark)
        for task in _shown(results, group, benchmark, base)
    ]
    if not drawn:
        return sentence("No accuracy was scored in this study.")
    shared = {"sharex": True, "sharey": True}
    figure, panels = grid(len(drawn), 3, 3.0, 0.75 + 0.2 * len(methods), **shared)
    groups = [group for group, _, _ in drawn]
    for panel, place, (group, benchmark, task) in zip(panels, titles(groups), drawn, strict=True):
        panel.axvline(0, color="black", linewidth=0.8)
        intervals = {}
        for method in methods:
            paired = difference(results, group, benchmark, method, base, task and [task])
            intervals[method] = (100 * paired.low, 100 * paired.difference, 100 * paired.high)
        _forest(results, panel, intervals)
        name = task or f"{benchmark}: average"
        panel.set_title(name if len(set(groups)) == 1 else f"{place}: {name}")
    figure.supxlabel(f"points of accuracy above {base}, 95 % interval", fontsize=9)
    return figure


def _shown(results: Results, group: Group, benchmark: str, base: str) -> list[Any]:
    """The tasks and their average (None); the average alone where the tasks are too many."""
    tasks = list(results.of(group, base)[0].scores[benchmark].tasks)
    if len(tasks) == 1:
        return tasks
    return [*tasks, None] if len(tasks) <= MOST_COLUMNS else [None]


def mtbench(results: Results) -> Figure:
    """Draw a panel a category and one overall for each judge and group; methods in equal rows.

    A mark is the mean over seeds; a line spans the seeds, but for the overall score of a judge that
    can grade: there it is the 95 % interval over questions and seeds.
    """
    blocks = blocks_of(results)
    if not blocks:
        return sentence("MT-Bench was not asked in this study.")
    names = ["overall", *categories_of(results, blocks)]
    methods = results.study.run
    drawn = [(block, name) for block in blocks for name in names]
    figure, panels = grid(len(drawn), 3, 3.0, 0.75 + 0.2 * len(methods), sharex=True, sharey=True)
    places = titles([block.group for block, _ in drawn])
    alone = len({block.group for block in blocks}) == 1
    for panel, place, (block, name) in zip(panels, places, drawn, strict=True):
        intervals = {method: _mtbench_score(results, block, method, name) for method in methods}
        _forest(results, panel, intervals)
        judge = [block.judge or "headline"] if several_judges(blocks) else []
        panel.set_title(": ".join([*judge, *[place] * (not alone), name]))
    graded = all(judged(results, block.group, block.judge) for block in blocks)
    remark = "" if graded else " (a plumbing check: a judge too small to grade)"
    figure.supxlabel(f"MT-Bench score, 1 to 10{remark}", fontsize=9)
    return figure


def _mtbench_score(
    results: Results, block: Block, method: str, name: str
) -> tuple[float, float, float]:
    if name == "overall" and judged(results, block.group, block.judge):
        overall = level(results, block.group, benchmark_of(block.judge), method)
        return overall.low, overall.difference, overall.high
    of_seeds = [
        summary.overall if name == "overall" else summary.categories.get(name)
        for summary in summaries(results, block, method)
    ]
    scores = [math.nan if score is None else score for score in of_seeds]
    return min(scores), float(np.mean(scores)), max(scores)


def _forest(
    results: Results, panel: Axes, intervals: Mapping[str, tuple[float, float, float]]
) -> None:
    """Draw each method's (low, middle, high) in a row of its own, from above."""
    for row, (method, (low, middle, high)) in enumerate(intervals.items()):
        colour, marker = styles(results.study)[method]
        panel.plot(middle, row, marker, color=colour, markersize=6)
        panel.plot([low, high], [row, row], color=colour, lw=1.4)
    panel.set_ylim(len(intervals) - 0.4, -0.6)
    panel.set_yticks(range(len(intervals)), list(intervals))
    panel.grid(axis="x", linewidth=0.4, color="#cccccc")
    panel.set_axisbelow(True)
