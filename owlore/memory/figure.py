"""The figure of simulated memory: a bar a method, split by kind, and the card's size as a line."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from owlore.compare.figure_style import RC
from owlore.core.files import replacing

COLOURS = {
    "weights": "#6e6e6e",
    "gradients": "#e69f00",
    "optimizer": "#0072b2",
    "activations": "#009e73",
    "temporaries": "#cc79a7",
}


def save(name: str, rows: list[dict[str, Any]], output: Path, card: float | None) -> None:
    """Draw the rows of `owlore.memory.plan.rows`, the first on top; equal rows, equal bytes."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(6.5, 1.3 + 0.28 * len(rows)), layout="constrained")
        panel = figure.subplots()
        labels = [f"{row['method']} ({row['micro_batch']}×{row['seqlen']})" for row in rows]
        places = range(len(rows), 0, -1)
        lefts = [0.0] * len(rows)
        for part, colour in COLOURS.items():
            widths = [row[f"{part}_gib"] for row in rows]
            panel.barh(places, widths, left=lefts, color=colour, label=part, height=0.7)
            lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
        for place, peak in zip(places, lefts, strict=True):
            panel.text(peak, place, f" {peak:.1f}", va="center", fontsize=8)
        panel.set_yticks(places, labels)
        panel.set_xlabel("GiB at the simulated peak")
        panel.set_title(name)
        panel.margins(x=0.08)
        if card is not None:
            panel.axvline(card, color="black", linewidth=0.8, linestyle=":", label=f"{card:g} GiB")
        figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=8)
        with replacing(output) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})
