"""Put a study into MLflow: one run a cell with its stages as children, and one for the study.

    owlore track --study config.yaml             # everything that is missing or changed
    mlflow ui --backend-store-uri sqlite:///results/embedded/mlflow/mlflow.db

Jobs never import MLflow while they compute; a `track` job reads their files afterwards and logs
them with their real times. `mlflow_runs` says what a run shows, `mlflow_store` gets it in without
duplicates and half runs.
"""

from pathlib import Path
from typing import Any

from owlore.core.files import canonical_json, read_json, write_json
from owlore.study.benchmarks import FAMILIES
from owlore.study.config import Cell, Study
from owlore.tracking.runs import CURVES, cell_files, cell_run, study_files, study_run
from owlore.tracking.store import NOTE, STAGE, Run, log_once, opened, server

STUDY_KEY = "study"
COSTS = (
    "peak_gib",
    "seconds",
    "tokens_per_second",
    "trainable_percent",
    "final_loss",
)


def initialise(study: Study, root: Path, output: Path) -> None:
    """Make the database and the study's experiment, if they are not there, and a receipt.

    Args:
        study: the study; its name is the experiment's.
        root: the study's results folder.
        output: receipt: experiment, experiment_id, tracking ("sqlite" or "server").
    """
    with opened(study.study, root, _experiment_tags(study)) as (_, experiment_id):
        kind = "sqlite" if server() is None else "server"
    _write(output, {"experiment": study.study, "experiment_id": experiment_id, "tracking": kind})


def track_cell(study: Study, root: Path, cell: Cell, output: Path) -> None:
    """Log a cell as a run with one child a stage, unless the same is already there.

    Args:
        study: the study; the cell's track says which benchmarks must have a result.
        root: the study's results folder.
        cell: the cell; its files lie in `root / cell.path`.
        output: receipt, written last: key, run_id, experiment_id, fingerprint, children.

    Raises:
        BadInput: a result file of the cell is missing or is not JSON.
    """
    _track(study, root, cell.path, cell_run(study, root, cell), output)


def track_study(study: Study, root: Path, output: Path) -> None:
    """Log the study's tables, figures, report and manifests as one run, unless already there.

    Cells that the database has lost are logged again first; one whose files are not complete is
    named and left out.

    Args:
        study: the study.
        root: the study's results folder.
        output: receipt, written last: key, run_id, experiment_id, fingerprint, children (none).

    Raises:
        BadInput: study.json, manifest.json or the report is missing.
    """
    run = study_run(study, root)
    _track_cells(study, root)
    _track(study, root, STUDY_KEY, run, output)


def rebuild(study: Study, root: Path) -> None:
    """Bring MLflow to what the files say, whatever receipts claim; name what is left out.

    For a database that was deleted or a folder that was moved; where nothing changed it does
    nothing but check.
    """
    initialise(study, root, root / "receipts" / "init.json")
    missing = [path for path in study_files(root) if not path.exists()]
    if missing:
        print(f"study: not tracked, {missing[0]} is missing")
        _track_cells(study, root)
    else:
        track_study(study, root, receipt_path(root, STUDY_KEY))


def receipt_path(root: Path, key: str) -> Path:
    """Return where the receipt of a cell (`Cell.path`) or of the study ("study") lies."""
    return root / "receipts" / f"{key}.json"


def _track_cells(study: Study, root: Path) -> None:
    for cell in study.cells():
        missing = [path for path in cell_files(study, root, cell) if not path.exists()]
        if missing:
            print(f"{cell.path}: not tracked, {missing[0]} is missing")
        else:
            track_cell(study, root, cell, receipt_path(root, cell.path))


def _track(study: Study, root: Path, key: str, run: Run, output: Path) -> None:
    with opened(study.study, root, _experiment_tags(study)) as (client, experiment_id):
        receipt = log_once(client, experiment_id, key, run)
    _write(output, receipt)


def _write(path: Path, receipt: dict[str, Any]) -> None:
    """Write a receipt; one that says the same stays untouched, for it is an input of other jobs."""
    if not path.exists() or read_json(path) != receipt:
        write_json(path, receipt)


def columns_of(study: Study) -> list[str]:
    """Return the metrics that a row of the saved comparison shows: what the study has of them."""
    scored = {name for track in study.tracks.values() for name in track.benchmarks}
    return [*(family.metric for name, family in FAMILIES.items() if name in scored), *COSTS]


def _experiment_tags(study: Study) -> dict[str, str]:
    """Description, kind (else the UI asks) and two saved views of MLflow's UI, under "Views".

    MLflow's own list of runs shows no metric until one picks columns. `comparison` has one row a
    cell with the headline metrics, `curves` the trainings, flat, for the chart page. Their keys are
    those that the UI of MLflow 3.17 stores; one that does not know them ignores the tags.
    """
    columns = [f"metrics.`{name}`" for name in columns_of(study)]
    name = "attributes.`Run Name`"
    comparison = {
        "searchFilter": f"tags.`{STAGE}` = 'cell'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [name, *columns],
        "columnWidths": {name: 280, **dict.fromkeys(columns, 170)},
        "runsHiddenMode": "SHOW_ALL",
    }
    curves = {
        "searchFilter": f"tags.`{STAGE}` = 'finetune'",
        "orderByKey": "metrics.`loss`",  # by a metric: sorted by time, runs nest in their parents
        "orderByAsc": True,
        "selectedColumns": ["metrics.`loss`"],
        "chartsSearchFilter": f"^({'|'.join(CURVES)})$",
        "runsHiddenMode": "SHOW_ALL",
    }
    tags = {NOTE: study.description, "mlflow.experimentKind": "custom_model_development"}
    for view, state in (("comparison", comparison), ("curves", curves)):
        saved = {"name": view.title(), "createdAt": 0, "state": canonical_json(state)}
        tags[f"mlflow.sharedViewState.{view}"] = canonical_json(saved)
    return tags
