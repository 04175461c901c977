"""What all figures share: one colour and marker a method, panels, and labels that keep apart."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from owlore.compare.comparisons import differing
from owlore.compare.results import Group
from owlore.study.config import Study

Item = TypeVar("Item")

# Okabe and Ito's palette, which colour-blind readers can tell apart; grey for the base model and
# olive in place of its yellow, which white paper swallows. Markers carry the same meaning in print.
STYLES = {
    "base": ("#6e6e6e", "s"),
    "full": ("#000000", "o"),
    "lora": ("#e69f00", "^"),
    "galore": ("#56b4e9", "v"),
    "lisa": ("#009e73", "D"),
    "owlore": ("#d55e00", "*"),
    "owlore-full-rank": ("#cc79a7", "P"),
    "lisa-lowrank": ("#0072b2", "X"),
    "lisa-decrease": ("#8f8a1c", "p"),
}
SPARE = (
    *(("#882255", "<"), ("#44aa99", ">"), ("#332288", "h"), ("#997700", "d")),
    *(("#661100", "H"), ("#117733", "8"), ("#aa4499", "o"), ("#004488", "s")),
)
# Several of these colours are too light for letters on white: names are dark, marks are coloured.
INK = "#222222"
RC: dict[Any, Any] = {
    "svg.hashsalt": "owlore",  # equal figures, equal bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.facecolor": "white",  # also on a dark page
    "savefig.facecolor": "white",
}


def styles(study: Study) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method; those outside the design's nine take the spare ones."""
    others = [name for name in study.methods if name not in STYLES]
    spare = {name: SPARE[place % len(SPARE)] for place, name in enumerate(others)}
    return {name: STYLES.get(name) or spare[name] for name in study.methods}


def grid(
    count: int, most_columns: int, width: float, height: float, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels of the given inches, row by row, and the panels."""
    columns = min(most_columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **shared).ravel().tolist()
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[max(count - columns, 0) : count]:  # nothing below: it names its own ticks
        panel.tick_params(labelbottom=True)
    return figure, panels[:count]


def sentence(text: str) -> Figure:
    """Return the figure of a study that has nothing to draw: the reason."""
    figure = Figure(figsize=(6, 1), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", color=INK)
    return figure


def titles(groups: Sequence[Group]) -> Iterator[str]:
    """Yield a panel title a group: the track and the model, each only where it differs."""
    differ = differing(groups)
    for group in groups:
        yield ": ".join(getattr(group, name) for name in differ) or group.model


def apart(wanted: Iterable[float], gap: float) -> NDArray[np.float64]:
    """Move ascending positions as little as needed (least squares) to be `gap` apart.

    Less the gaps that precede it, no position may fall below the one before: an isotonic fit.
    """
    values = np.fromiter(wanted, dtype=float)
    offsets = gap * np.arange(len(values))
    blocks: list[list[float]] = []
    for value in (values - offsets).tolist():
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    fitted = [float(np.mean(block)) for block in blocks for _ in block]
    return np.asarray(fitted + offsets, dtype=float)
