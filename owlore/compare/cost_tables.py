"""The tables of cost: what training took (measured), and what memory it would take (simulated)."""

from typing import Any

import numpy as np

from owlore.compare.paper import other_models, simulated_peak
from owlore.compare.results import CellResults, Results
from owlore.compare.table_formats import Column, Table, Value, number
from owlore.compare.table_parts import lead_columns, lead_values, place

# finetune.json's key, the header, what to divide by, decimals
MEASURED = (
    ("seconds", "seconds", 1, 1),
    ("tokens_per_second", "tokens/s", 1, 0),
    ("peak_bytes", "peak GiB (measured)", 2**30, 2),
    ("optimizer_bytes", "optimizer MiB", 2**20, 1),
    ("decoder_optimizer_bytes", "of it decoder layers, MiB", 2**20, 1),
    ("trainable_parameters", "trainable, millions", 10**6, 2),
    ("checkpoint_bytes", "checkpoint MiB", 2**20, 1),
)
SPLIT = ("weights", "gradients", "optimizer", "activations", "temporaries")


def efficiency_table(results: Results) -> Table:
    """Return what each method's training took; one record a cell, in bytes and seconds."""
    groups = results.groups
    simulated = any(results.memory.values())
    rows, records = [], []
    for group in groups:
        for method in results.study.run:
            entries = results.of(*group, method)
            peak = simulated_peak(results, group, method)
            row = [*lead_values(groups, group), Value(method)]
            for key, _, unit, digits in MEASURED:
                row.append(_mean(entries, key, unit, digits))
            if simulated:
                row.append(number(peak, 2))
            rows.append(row)
            records += [_record(entry, peak) for entry in entries]
    columns = [*lead_columns(groups), Column("method", "text")]
    columns += [Column(label) for _, label, _, _ in MEASURED]
    columns += [Column("peak GiB (simulated)")] if simulated else []
    title = "Cost of training" + place(groups)
    return Table("efficiency", title, columns, rows, _efficiency_notes(results), records)


def _record(entry: CellResults, simulated: float | None) -> dict[str, Any]:
    cell, finetune = entry.cell, entry.finetune
    where = {"track": cell.track, "model": cell.model, "method": cell.method}
    return {
        **where,
        "seed": entry.seed,
        "device": finetune["device"],
        **{key: finetune[key] for key, _, _, _ in MEASURED},
        "tokens": finetune["tokens"],
        "steps": finetune["steps"],
        "simulated_peak_gib": simulated,
    }


def _mean(entries: list[CellResults], key: str, unit: int, digits: int) -> Value:
    """The mean over seeds; a dash where nothing was trained or measured."""
    values = [entry.finetune[key] for entry in entries if entry.finetune["steps"]]
    if not values or None in values:
        return number(None)
    return number(float(np.mean(values)) / unit, digits)


def _efficiency_notes(results: Results) -> list[str]:
    trained = [entry for entry in results.cells if entry.finetune["steps"]]
    devices = sorted({entry.finetune["device"] for entry in trained})
    threads = sorted({str(entry.finetune["threads"]) for entry in trained})
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
    return notes + _paper_notes(results)


def _paper_notes(results: Results) -> list[str]:
    reasons = other_models(results.study, results.study.models)
    return [f"Not comparable with the paper's memory: {'; '.join(reasons)}."] if reasons else []


def memory_table(results: Results) -> Table:
    """Return the simulated peak of each method and its split by kind, in GiB."""
    title = "Simulated peak memory"
    if not any(found["rows"] for found in results.memory.values()):
        note = "No memory was simulated; `snakemake --cores all memory` does it."
        return Table("memory", title, notes=[note])
    groups = [
        (row["track"], model) for model, found in results.memory.items() for row in found["rows"]
    ]
    rows, records = [], []
    for model, found in results.memory.items():
        for row in found["rows"]:
            shown = [Value(row["method"]), number(row["micro_batch"], 0), number(row["seqlen"], 0)]
            shown.append(number(row["peak_gib"], 2))
            shown += [number(row[f"{kind}_gib"], 2) for kind in SPLIT]
            rows.append([*lead_values(groups, (row["track"], model)), *shown])
            records.append({"model": model, **row})
    columns = [*lead_columns(groups), Column("method", "text")]
    columns += [Column(label) for label in ("micro batch", "tokens", "peak GiB", *SPLIT)]
    notes = ["GiB at the simulated peak; computed from shapes, not measured."]
    notes += _paper_notes(results)
    return Table("memory", title + place(groups), columns, rows, notes, records)
