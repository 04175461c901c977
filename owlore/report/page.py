"""The report: one offline HTML page with the question, the answer, and everything behind it.

Run as: `owlore report --study STUDY.yaml`, or `snakemake --cores all report`. It needs the figures
(`snakemake --cores all tables`). The page loads nothing from anywhere: styles, script, figures and
the tables' CSV are inside it.
"""

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from owlore.compare import lineage
from owlore.compare.figures import CAPTIONS
from owlore.compare.results import CellResults, Results, load
from owlore.compare.table_formats import Table, Value, to_csv
from owlore.compare.tables import make_tables
from owlore.core.errors import BadInput
from owlore.core.files import flattened, write_text
from owlore.records.study import Manifest
from owlore.report.answers import write_answers_page
from owlore.report.summary import QUESTION, answer, limits
from owlore.study.config import Study


def write_report(study: Study, root: Path) -> None:
    """Write `root`/report/index.html and answers.html, MT-Bench's answers beside the judgments.

    Raises:
        BadInput: a result file, the manifest or a figure is missing.
        OwloreError: the result files contradict each other.
    """
    results = load(study, root)
    manifest = results.manifest
    if manifest is None:
        raise BadInput(f"{root / 'manifest.json'}: no such file; `snakemake --cores all` makes it")
    environment = Environment(
        loader=PackageLoader("owlore.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = make_tables(results)
    page = environment.get_template("report.html").render(
        study=study,
        question=QUESTION,
        answer=answer(results),
        claims=next(table for table in tables if table.name == "claims"),
        tables=[table for table in tables if table.name != "claims"],
        downloads={table.name: _data_uri("text/csv", to_csv(table).encode()) for table in tables},
        figures=[(name, caption, _figure(root, name)) for name, caption in CAPTIONS.items()],
        cells=[_cell(study, root, entry) for entry in results.cells],
        rows={table.name: [_row(results, table, row) for row in table.rows] for table in tables},
        machine=[(name, _text(value)) for name, value in _stated(manifest).items()],
        limits=limits(results),
    )
    write_answers_page(results, environment)
    write_text(root / "report" / "index.html", page)


def _row(results: Results, table: Table, row: list[Value]) -> dict[str, Any] | None:
    """A row's name and the cells behind it, which a click shows; None if it is of no method."""
    texts = {value.text for value in row}
    if not texts & set(results.study.run):
        return None
    entries = lineage.behind(results, table, row)
    return {
        "name": lineage.row_name(table, row),
        "cells": " ".join(entry.cell.path for entry in entries),
    }


def _figure(root: Path, name: str) -> str:
    path = root / "figures" / f"{name}.svg"
    if not path.exists():
        raise BadInput(f"{path}: no such file; `snakemake --cores all tables` makes it")
    return _data_uri("image/svg+xml", path.read_bytes())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _cell(study: Study, root: Path, entry: CellResults) -> dict[str, Any]:
    """What the page shows of one cell, and the command that makes just that cell again."""
    finetune = entry.finetune
    target = (root / entry.cell.path / "finetune.json").as_posix()
    facts = {
        "weights sha256": finetune.weights_sha256,
        "base model sha256": finetune.base_sha256,
        "training data sha256": finetune.data_sha256,
        "outlier scores sha256": finetune.outliers_sha256,
        "seconds": finetune.seconds,
        "steps": finetune.steps,
        "tokens": finetune.tokens,
        "first and final loss": [finetune.first_loss, finetune.final_loss],
        "resumed from step": finetune.resumed_from_step,
        "device, threads": [finetune.device, finetune.threads],
        "started, ended": [finetune.started, finetune.ended],
    }
    return {
        "path": entry.cell.path,
        "facts": {name: _text(value) for name, value in facts.items()},
        "config": json.dumps(finetune.config, indent=1, ensure_ascii=False),
        "command": f"snakemake --cores all {target}{lineage.named(study)}",
    }


def _stated(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says, by dotted names; what it does not have is not shown."""
    return flattened(manifest.model_dump(exclude_unset=True))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
