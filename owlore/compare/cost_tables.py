"""The tables of cost: what training took (measured), and what memory it would take (simulated)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from owlore.compare.paper import other_models, simulated_peak
from owlore.compare.results import CellResults, Group, Results
from owlore.compare.table_formats import Column, Table, Value, number
from owlore.compare.table_parts import METHOD, accepted_notes, lead_columns, shared
from owlore.records.finetune import FinetuneRecord, Shown, shown
from owlore.records.memory import MemoryRow


@dataclass(frozen=True)
class Cost:
    """One row: what training a method took, cell by cell."""

    group: Group
    method: str
    entries: list[CellResults]  # one a seed
    simulated_peak: float | None  # GiB

    def records(self) -> list[dict[str, Any]]:
        """One flat row a cell, in bytes and seconds."""
        return [
            {
                **self.group._asdict(),
                "method": self.method,
                "seed": entry.seed,
                "device": entry.finetune.device,
                **{measure.key: measure.of(entry.finetune) for measure in MEASURED},
                "tokens": entry.finetune.tokens,
                "steps": entry.finetune.steps,
                "simulated_peak_gib": self.simulated_peak,
            }
            for entry in self.entries
        ]


class Measure(NamedTuple):
    """A number of finetune.json, and how it is printed."""

    key: str
    how: Shown

    def of(self, cell: FinetuneRecord) -> float | None:
        """The number of one cell; None where it was not measured."""
        value: float | None = getattr(cell, self.key)
        return value

    def mean(self, cost: Cost) -> Value:
        """The mean over seeds; a dash where nothing was trained or measured."""
        values = [self.of(entry.finetune) for entry in cost.entries if entry.finetune.steps]
        measured = [value for value in values if value is not None]
        if not measured or len(measured) < len(values):
            return number(None)
        return number(float(np.mean(measured)) / self.how.unit, self.how.digits)


MEASURED = [Measure(key, how) for key, how in shown().items()]


def efficiency_table(results: Results) -> Table:
    """Return what each method's training took; one record a cell, in bytes and seconds."""
    groups = results.groups
    costs = [
        Cost(group, method, results.of(group, method), simulated_peak(results, group, method))
        for group in groups
        for method in results.study.run
    ]
    columns: list[Column[Cost]] = [
        *lead_columns(groups),
        METHOD,
        *(Column(measure.how.label, measure.mean) for measure in MEASURED),
    ]
    if results.memory:
        columns.append(Column("peak GiB (simulated)", lambda cost: number(cost.simulated_peak, 2)))
    return Table.of(
        "efficiency",
        "Cost of training" + shared(groups),
        columns,
        costs,
        _efficiency_notes(results),
        [record for cost in costs for record in cost.records()],
    )


def _efficiency_notes(results: Results) -> list[str]:
    trained = [entry for entry in results.cells if entry.finetune.steps]
    devices = sorted({entry.finetune.device for entry in trained})
    threads = sorted({str(entry.finetune.threads) for entry in trained})
    notes = (
        [f"Measured on {', '.join(devices)}, {', '.join(threads)} thread(s)."] if trained else []
    )
    if any(device == "cpu" for device in devices):
        notes.append(
            "Peak: bytes that torch's allocator has handed out at one time while training. On a "
            "CPU it is recorded at one step of every draw of layers (without layers: of the "
            "training), the one with the largest micro-batch; of more than 64 at the largest. The "
            "process needs more: Python and its libraries."
        )
    notes.append(
        "Optimizer: most bytes held at one time. Embedding and head train in some methods, so the "
        "decoder layers' part is shown apart. Trainable: most parameters at one time."
    )
    if len(results.study.seeds) > 1:
        notes.append(f"Means over {len(results.study.seeds)} seeds; each cell is in the CSV.")
    return notes + _paper_notes(results) + accepted_notes(results)


def _paper_notes(results: Results) -> list[str]:
    reasons = other_models(results.study, results.study.models)
    return [f"Not comparable with the paper's memory: {'; '.join(reasons)}."] if reasons else []


@dataclass(frozen=True)
class Simulated:
    """One row: what the simulation says of a method, a row of memory/<model>.json."""

    group: Group
    row: MemoryRow

    @property
    def method(self) -> str:
        """The method that was simulated."""
        return self.row.method


def memory_table(results: Results) -> Table:
    """Return the simulated peak of each method and its split by kind, in GiB."""
    title = "Simulated peak memory"
    study = results.study
    rows = [
        Simulated(Group(track, model), row)
        for model, simulation in results.memory.items()
        for track in study.tracks  # the study's order: a Job's text has none
        for method in study.run
        for row in simulation.rows
        if (row.track, row.method) == (track, method)
    ]
    if not rows:
        note = "No memory was simulated; `snakemake --cores all memory` does it."
        return Table("memory", title, notes=[note])
    groups = [simulated.group for simulated in rows]
    columns: list[Column[Simulated]] = [
        *lead_columns(groups),
        METHOD,
        Column("micro batch", lambda simulated: number(simulated.row.micro_batch, 0)),
        Column("tokens", lambda simulated: number(simulated.row.seqlen, 0)),
        Column("peak GiB", lambda simulated: number(simulated.row.peak_gib, 2)),
        Column("weights", lambda simulated: number(simulated.row.weights_gib, 2)),
        Column("gradients", lambda simulated: number(simulated.row.gradients_gib, 2)),
        Column("optimizer", lambda simulated: number(simulated.row.optimizer_gib, 2)),
        Column("activations", lambda simulated: number(simulated.row.activations_gib, 2)),
        Column("temporaries", lambda simulated: number(simulated.row.temporaries_gib, 2)),
    ]
    notes = ["GiB at the simulated peak; computed from shapes, not measured."]
    notes += _paper_notes(results)
    records = [
        {"model": simulated.group.model, **simulated.row.model_dump(exclude_none=True)}
        for simulated in rows
    ]
    return Table.of("memory", title + shared(groups), columns, rows, notes, records)
