"""What the benchmarks share: interleaved timing, and a table on disk."""

import csv
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from owlore.core.files import write_text
from owlore.core.provenance import versions

RESULTS = Path(__file__).parent / "results"
MODEL = Path("resources/models/smollm2-135m")  # made by `snakemake` on the way to anything


def seconds(arms: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each arm's total time; the arms take turns, so that noise of the machine hits all."""
    total = dict.fromkeys(arms, 0.0)
    for _ in range(rounds):
        for name, arm in arms.items():
            started = time.perf_counter()
            arm()
            total[name] += time.perf_counter() - started
    return total


class Table:
    """Rows of measure, ours, theirs, ratio and target, printed as they come and then written."""

    def __init__(self, name: str, settings: str):
        self._name, self._settings = name, settings
        self._rows: list[dict[str, str]] = []
        print(f"{name}: {settings}", flush=True)

    def add(self, measure: str, ours: str, against: str, ratio: str, target: str) -> None:
        """Add a row."""
        row = {"measure": measure, "ours": ours, "against": against}
        self._rows.append({**row, "ratio": ratio, "target": target})
        print("  " + " · ".join(self._rows[-1].values()), flush=True)

    def write(self) -> None:
        """Write results/NAME.md and .csv."""
        header = list(self._rows[0])
        lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += ["| " + " | ".join(row.values()) + " |" for row in self._rows]
        here = versions()
        machine = (
            f"{torch.get_num_threads()} threads, {platform.machine()}, torch {here['torch']}, "
            f"transformers {here['transformers']}"
        )
        text = (
            f"Command: `python benchmarks/{self._name}.py`. {self._settings} Machine: {machine}.\n"
            + "\n".join(["", *lines, ""])
        )
        RESULTS.mkdir(exist_ok=True)
        write_text(RESULTS / f"{self._name}.md", text)
        with (RESULTS / f"{self._name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, header, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
