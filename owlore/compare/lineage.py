"""How a number in a table came to be: from its cell back to samples, weights, data and code.

    owlore explain commonsense owlore:average

The tables stage writes `tables/sources.json`: a hash of every result file that it read and of every
table that it wrote. Here each of them is hashed again, and so are the weights and the training rows
that `finetune.json` names; whatever differs from what is recorded has been altered since.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from owlore.compare.results import CellResults, Results
from owlore.compare.table_formats import Table, Value
from owlore.core.errors import BadInput
from owlore.core.files import read_json, sha256_file, write_json
from owlore.core.parsing import near
from owlore.sources.models import weights_sha256
from owlore.study.benchmarks import FAMILIES, LM_EVAL
from owlore.study.config import Study
from owlore.study.method import parse_method

SOURCES = "sources.json"
MODELS = Path("resources/models")  # where the model stage writes


@dataclass(frozen=True)
class Step:
    """One file on the way: what it is, and whether it is what was recorded.

    `state` is "ok", "altered", "missing", or "not recorded".
    """

    what: str
    path: Path
    sha256: str | None
    state: str


def write_sources(results: Results) -> None:
    """Write tables/sources.json: the files that the tables were made from, and the tables."""
    root = results.root
    read = {path for entry in results.cells for path in _files(results, entry)}
    for folder, pattern in (("outliers", "*.json"), ("memory", "*.json"), ("tables", "*.*")):
        read |= set((root / folder).glob(pattern))
    read |= {root / "contamination" / f"{track}.json" for track in results.study.tracks}
    read.discard(root / "tables" / SOURCES)
    hashes = {
        path.relative_to(root).as_posix(): sha256_file(path) for path in read if path.exists()
    }
    write_json(root / "tables" / SOURCES, dict(sorted(hashes.items())))


def altered(root: Path) -> list[Path]:
    """Return the files of tables/sources.json that are gone or not what they were."""
    path = root / "tables" / SOURCES
    recorded = read_json(path) if path.exists() else {}
    return [
        root / name
        for name, sha256 in recorded.items()
        if not (root / name).exists() or sha256_file(root / name) != sha256
    ]


def find(table: Table, cell: str) -> tuple[list[Value], Value]:
    """Return the row and the value that `cell`, "ROW:COLUMN", names.

    A row is named by any text in it, such as a method; several texts joined by "/" must all be
    there, all of them in order name just one. A column by its label, with or without what stands
    in brackets behind it.

    Raises:
        BadInput: no such row or column, or several rows.
    """
    row_name, colon, column_name = cell.rpartition(":")
    if not colon:
        raise BadInput(f"{cell}: expected ROW:COLUMN, such as owlore:average")
    labels = [column.label for column in table.columns]
    short = [label.split(" (")[0] for label in labels]
    if column_name not in (*labels, *short):
        raise BadInput(
            f"{cell}: {table.name} has no column {column_name!r} ({near(column_name, short)})"
        )
    place = (labels if column_name in labels else short).index(column_name)
    wanted = set(row_name.split("/"))
    whole = [row for row in table.rows if "/".join(_texts(table, row)) == row_name]
    rows = whole or [row for row in table.rows if wanted <= set(_texts(table, row))]
    if not rows:
        known = dict.fromkeys(text for row in table.rows for text in _texts(table, row))
        raise BadInput(f"{cell}: {table.name} has no row {row_name!r} ({near(row_name, known)})")
    if len(rows) > 1:
        listed = "; ".join("/".join(_texts(table, row)) for row in rows[:6])
        raise BadInput(f"{cell}: {len(rows)} rows of {table.name}: {listed}")
    return rows[0], rows[0][place]


def row_name(table: Table, row: list[Value]) -> str:
    """Return the shortest name by which `find` knows a row."""
    texts = _texts(table, row)
    for text in texts:
        if sum(text in _texts(table, other) for other in table.rows) == 1:
            return text
    return "/".join(texts)


def behind(results: Results, table: Table, row: list[Value]) -> list[CellResults]:
    """Return the cells of the study that a row was computed from; all where it names none."""
    texts = set(_texts(table, row))
    study = results.study
    tracks, models = texts & study.tracks.keys(), texts & study.models.keys()
    methods = texts & set(study.run)
    return [
        entry
        for entry in results.cells
        if entry.cell.track in (tracks or study.tracks)
        and entry.cell.model in (models or study.models)
        and entry.cell.method in (methods or study.run)
    ]


def trace(results: Results, table: Table, entry: CellResults) -> Iterator[Step]:
    """Yield what a table's row rests on in one cell, the last made first."""
    recorded = _recorded(results)
    root, finetune = results.root, entry.finetune
    wanted = _benchmarks(results, table, entry)
    folder = root / entry.cell.path
    for path in _files(results, entry):
        place = path.relative_to(folder)
        if len(place.parts) == 1 and place.stem in wanted:
            yield _checked("scores", path, root, recorded)
        elif place.stem in wanted or place.parts[0] in wanted:
            yield _checked("questions", path, root, recorded)
    for path in (folder / name for name in ("finetune.json", "history.jsonl")):
        if path.exists() or path.name == "finetune.json":
            yield _checked("training", path, root, recorded)
    if table.name == "memory":
        path = root / "memory" / f"{entry.cell.model}.json"
        yield _checked("simulation", path, root, recorded)
    if table.name == "contamination":
        path = root / "contamination" / f"{entry.cell.track}.json"
        yield _checked("contamination", path, root, recorded)
    yield _weights("weights", Path(finetune.model_dir), finetune.weights_sha256)
    if finetune.outliers_sha256:
        path = root / "outliers" / f"{entry.cell.model}.json"
        yield _checked("outlier scores", path, root, recorded)
    if finetune.data_sha256:
        path = root / "data" / entry.cell.track / f"seed{entry.seed}.jsonl"
        sha256 = sha256_file(path) if path.exists() else None
        yield Step("training rows", path, sha256, _state(sha256, finetune.data_sha256))
        yield _weights("base model", MODELS / entry.cell.model, finetune.base_sha256)


def config_state(results: Results, entry: CellResults) -> str:
    """Say whether the cell was trained with the method as the study has it now."""
    cell = entry.cell
    method = results.study.method(cell.method, cell.track, cell.model)
    try:
        # Read as a method, so that it does not matter which defaults a block spells out:
        # older ones have every key of all kinds, and lack settings that are newer than they are.
        trained_with = parse_method(entry.finetune.config, "config")
    except BadInput:  # not allowed any more, or written by a newer version
        return "altered"
    return "ok" if trained_with == method else "altered"


def _texts(table: Table, row: list[Value]) -> list[str]:
    return [
        value.text
        for column, value in zip(table.columns, row, strict=True)
        if column.kind == "text"
    ]


def _benchmarks(results: Results, table: Table, entry: CellResults) -> set[str]:
    """Which benchmarks of a cell a table is about: its own, none, or all."""
    for name in FAMILIES:
        if table.name in (name, f"{name}_differences"):
            return {name}
    if table.name in ("efficiency", "memory", "contamination"):
        return set()
    return set(results.study.tracks[entry.cell.track].benchmarks)


def _files(results: Results, entry: CellResults) -> list[Path]:
    """Return the small files of a cell that the tables are made from."""
    folder = results.root / entry.cell.path
    names = results.study.tracks[entry.cell.track].benchmarks
    files = [folder / "finetune.json", folder / "history.jsonl"]
    files += [folder / f"{name}.json" for name in names]
    files += [folder / "samples" / f"{name}.parquet" for name in names if name in LM_EVAL]
    if "mtbench" in names:
        files += sorted((folder / "mtbench").rglob("*.json*"))
    return files


def _recorded(results: Results) -> dict[str, Any]:
    path = results.root / "tables" / SOURCES
    if not path.exists():
        raise BadInput(f"{path}: no such file; `snakemake --cores all tables` makes it")
    hashes: dict[str, Any] = read_json(path)
    return hashes


def _checked(what: str, path: Path, root: Path, recorded: dict[str, Any]) -> Step:
    sha256 = sha256_file(path) if path.exists() else None
    return Step(what, path, sha256, _state(sha256, recorded.get(path.relative_to(root).as_posix())))


def _weights(what: str, folder: Path, recorded: str) -> Step:
    there = any(folder.glob("*.safetensors"))
    sha256 = weights_sha256(folder) if there else None
    return Step(what, folder, sha256, _state(sha256, recorded))


def _state(now: str | None, recorded: str | None) -> str:
    if now is None:
        return "missing"
    if recorded is None:
        return "not recorded"
    return "ok" if now == recorded else "altered"


def named(study: Study) -> str:
    """Return how a Snakemake command names a study after its targets; the default needs none."""
    return "" if study.study == "embedded" else " --configfile STUDY.yaml"
