"""What `owlore explain TABLE CELL` prints: the way back from a number to all that it rests on."""

from pathlib import Path

from owlore.compare import lineage, state
from owlore.compare.results import CellResults, Results, read
from owlore.compare.table_formats import Table
from owlore.compare.tables import FORMATS, make_tables
from owlore.core.errors import BadInput
from owlore.core.files import read_json
from owlore.core.parsing import near
from owlore.core.progress import line
from owlore.study.config import Study

SHOWN = 12  # digits of a hash


def explain(study: Study, root: Path, name: str, cell: str) -> int:
    """Print the way back from a table's cell; return 1 if a file is not what was recorded, else 0.

    Raises:
        BadInput: no such table, row or column; the tables have not been made.
    """
    try:
        return _explain(read(study, root), name, cell)
    except Exception as error:
        changed = lineage.altered(root)
        if not changed:
            raise
        # An altered file may break the reading of it in any way.
        line(f"cannot be explained: {error!r}")
        line(f"not what was recorded: {', '.join(map(str, changed))}")
        return 1


def _explain(results: Results, name: str, cell: str) -> int:
    tables = {table.name: table for table in make_tables(results)}
    if name not in tables:
        raise BadInput(f"{name}: no such table ({near(name, tables)})")
    table = tables[name]
    row, value = lineage.find(table, cell)
    line(f"{name} {cell} = {value.text}")
    wrong = _tables_written(results, table)
    unfit = state.unfit(results.states)
    for entry in lineage.behind(results, table, row):
        wrong += _cell(results, table, entry)
        wrong += _unproven(unfit, entry)
    if wrong:
        line(f"not what was recorded: {', '.join(dict.fromkeys(wrong))}")
        return 1
    line("everything on the way is what was recorded")
    return 0


def _tables_written(results: Results, table: Table) -> list[str]:
    """Print the table's files; a file that the results would not give again is wrong."""
    wrong = []
    for ending, write in FORMATS.items():
        path = results.root / "tables" / f"{table.name}.{ending}"
        there = path.read_text(encoding="utf-8") if path.exists() else None
        state = "missing" if there is None else "ok" if there == write(table) else "altered"
        line(f"  {'table':15} {path} {state}")
        wrong += [str(path)] if state != "ok" else []
    return wrong


def _unproven(unfit: list[state.Result], entry: CellResults) -> list[str]:
    """Print which results behind a cell do not prove what the study asks, and why."""
    cell = entry.cell
    whose = {"", cell.path, cell.model, cell.track, f"{cell.track} seed{entry.seed}"}
    mine = [result for result in unfit if result.what in whose]
    for result in mine:
        line(f"  {'proof':15} {result.path} {result.why}")
    return [str(result.path) for result in mine]


def _cell(results: Results, table: Table, entry: CellResults) -> list[str]:
    line(f"cell {entry.cell.path}")
    wrong = []
    for step in lineage.trace(results, table, entry):
        digits = (step.sha256 or "")[:SHOWN]
        line(f"  {step.what:15} {step.path} {digits} {step.state}")
        wrong += [str(step.path)] if step.state != "ok" else []
    state = lineage.config_state(results, entry)
    line(f"  {'config':15} methods.{entry.cell.method} of {results.root / 'study.json'} {state}")
    wrong += [f"methods.{entry.cell.method}"] if state != "ok" else []
    git = entry.finetune.git
    dirty = ", with changes that were not committed" if git.dirty else ""
    line(f"  {'code':15} commit {git.commit or 'unknown'}{dirty}")
    receipt = results.root / "receipts" / f"{entry.cell.path}.json"
    run = f"run {read_json(receipt)['run_id']}" if receipt.exists() else "not logged"
    line(f"  {'MLflow':15} experiment {results.study.study}, {run}")
    path = results.root / entry.cell.path / "finetune.json"
    target = path.as_posix() + lineage.named(results.study)
    line(f"  {'again with':15} snakemake --cores all --force {target}")
    return wrong
