"""The figures of a study, each as SVG and PNG.

    outliers      outlier ratio, sampling probability and heavy tail of every decoder layer
    layers        which decoder layers were trained at which step
    loss          training loss
    tradeoff      peak memory against accuracy
    differences   every task against the base model, with 95 % intervals
    mtbench       MT-Bench overall and by category

Run as: `owlore tables --study STUDY.yaml`. Equal results give equal bytes of SVG. A figure with
nothing to show is still written and says why.
"""

import math
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from owlore.compare.figure_style import INK, RC, STYLES, apart, grid, sentence, styles, titles
from owlore.compare.results import Results
from owlore.compare.score_figures import differences, mtbench, tradeoff
from owlore.core.files import replacing

SAVING: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 150}}
CAPTIONS = {
    "differences": "Each method minus the base model on the same questions, with 95 % intervals "
    "(paired, clustered; over questions and seeds, or conditional on a single seed). An interval "
    "that crosses the line at zero shows no difference.",
    "tradeoff": "Measured peak memory against average accuracy, with 95 % intervals over "
    "questions, and seeds where there are several. Behind each name: the probability that no "
    "method with less memory scores as high (bootstrap over questions and seeds). Overlapping "
    "intervals do not show a tie: the paired tests in the table of differences are sharper.",
    "mtbench": "MT-Bench scores from 1 to 10, a panel a category: the mean over seeds and, where "
    "there are several, the seeds' range. Overall: the 95 % interval, where the judge can grade.",
    "loss": "Training loss; with several seeds the mean, and their range as a band.",
    "layers": "The decoder layers that were trained at each step, first seed.",
    "outliers": "Share of outlier weights of each decoder layer, and the probability with which "
    "outlier-weighted sampling draws it next. Dotted: uniform sampling, as in LISA. Below: the "
    "mean exponent of its matrices' eigenvalues; smaller is heavier.",
}


def write_figures(results: Results) -> None:
    """Write figures/{name}.{svg,png} of a study, six figures."""
    for name, draw in DRAWINGS.items():
        with matplotlib.rc_context(RC):
            figure = draw(results)
            for ending, options in SAVING.items():
                with replacing(results.root / "figures" / f"{name}.{ending}") as partial:
                    figure.savefig(partial, format=ending, **options)


def outliers(results: Results) -> Figure:
    """Draw three panels a model, one above the other: a second axis would be misread."""
    if not results.outliers:
        return sentence("The outlier scores of this study's models were not computed.")
    models = list(results.outliers)
    figure, panels = grid(3 * len(models), len(models), 3.6, 2.0, sharex=True)
    for place, model in enumerate(models):
        ratio, chance, tail = panels[place :: len(models)]
        scored = results.outliers[model]
        index = [layer.index for layer in scored.layers]
        ratio.bar(index, [100 * value for value in scored.ratios], color="#6e6e6e")
        ratio.set_title(f"{model}: outlier ratio, % (M = {scored.threshold:g})")
        chances = [100 * layer.sampling_probability for layer in scored.layers]
        chance.bar(index, chances, color=STYLES["owlore"][0])
        chance.axhline(100 / len(index), color="black", linewidth=0.8, linestyle=":")
        chance.set_title("probability of being drawn next, %")
        alphas = [math.nan if layer.alpha is None else layer.alpha for layer in scored.layers]
        tail.plot(index, alphas, color="#0072b2", marker=".", linewidth=1)
        tail.set_title("heavy-tail exponent alpha")
        tail.set_xlabel("decoder layer")
        tail.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def layers(results: Results) -> Figure:
    """Draw a layer × step map for each method that draws layers, first seed."""
    drawn = [
        (group, method, entries[0])
        for group in results.groups
        for method in results.study.run
        if (entries := results.of(group, method))
        and any(row.active_layers is not None for row in entries[0].history)
    ]
    if not drawn:
        return sentence("No method of this study draws layers.")
    count = max(len(entry.finetune.layer_activations or []) for _, _, entry in drawn)
    figure, panels = grid(len(drawn), 3, 3.6, 0.9 + 0.055 * count)
    groups = [group for group, _, _ in drawn]
    for panel, place, (_, method, entry) in zip(panels, titles(groups), drawn, strict=True):
        last = 0
        colour = styles(results.study)[method][0]
        for active, rows in groupby(entry.history, key=lambda row: row.active_layers or []):
            end = list(rows)[-1].step  # a row stands for the steps since the row before it
            panel.barh(active, end - last, 1, [last + 0.5] * len(active), color=colour)
            last = end
        panel.set_xlim(0.5, last + 0.5)
        panel.set_ylim(-0.5, count - 0.5)
        panel.set_title(method if len(set(groups)) == 1 else f"{place}: {method}")
        panel.set_xlabel("step")
        panel.set_ylabel("decoder layer")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    return figure


def loss(results: Results) -> Figure:
    """Draw a panel a group; the line is the mean over seeds, the band their range."""
    trained = {(e.cell.track, e.cell.model) for e in results.cells if e.history}
    groups = [group for group in results.groups if group in trained]
    if not groups:
        return sentence("Nothing was trained in this study.")
    figure, panels = grid(len(groups), 2, 5.2, 3.2)
    for panel, group, title in zip(panels, groups, titles(groups), strict=True):
        ends = []
        for method in results.study.run:
            runs = [entry.history for entry in results.of(group, method) if entry.history]
            if not runs:
                continue
            length = min(map(len, runs))
            steps = [row.step for row in runs[0][:length]]
            losses = np.array([[row.loss for row in run[:length]] for run in runs])
            colour, mean = styles(results.study)[method][0], losses.mean(axis=0)
            panel.plot(steps, mean, color=colour, linewidth=1.3)
            if len(runs) > 1:
                band = (losses.min(axis=0), losses.max(axis=0))
                panel.fill_between(steps, *band, color=colour, alpha=0.15, linewidth=0)
            ends.append((float(mean[-1]), steps[-1], method))
        panel.set_title(title)
        panel.set_xlabel("step")
        panel.set_ylabel("training loss")
        _name_at_the_end(results, panel, sorted(ends))
    return figure


def _name_at_the_end(results: Results, panel: Axes, ends: list[tuple[float, int, str]]) -> None:
    """Name each line right of its end, pushed apart so that no two names overlap."""
    low, high = panel.get_ylim()
    left, right = panel.get_xlim()[0], max(step for _, step, _ in ends)
    reach = 0.05 * (right - left)
    places = apart([value for value, _, _ in ends], 0.062 * (high - low))
    for (value, step, method), place in zip(ends, places.tolist(), strict=True):
        colour = styles(results.study)[method][0]
        line = panel.plot([step, right + reach], [value, place], color=colour, lw=0.8, ls=":")
        line[0].set_clip_on(False)
        panel.text(right + 1.2 * reach, place, method, color=INK, va="center", fontsize=8)
    panel.set_xlim(left, right)
    panel.set_ylim(low, high)


DRAWINGS = {
    "differences": differences,
    "tradeoff": tradeoff,
    "mtbench": mtbench,
    "loss": loss,
    "layers": layers,
    "outliers": outliers,
}
