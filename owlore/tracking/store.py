"""MLflow's database and how a run gets into it: once, whole, and again only when it changed.

MLflow is a projection of a study's result files: nothing is kept here that the files do not have,
and `mlflow/` may be deleted at any time (`owlore track --rebuild` makes it again).

- The database is `ROOT/mlflow/mlflow.db`, or a server if MLFLOW_TRACKING_URI is http(s). One writer
  at a time holds a lock beside it: several jobs that open a new SQLite database at once break it.
- A run and its children are found by the tag `owlore.key`. With the same `owlore.fingerprint` (a
  hash of everything logged, without dates) they stay; otherwise they are deleted and written anew,
  because MLflow appends to a run that is logged again. Runs are marked finished last, the parent
  after its children: what a crash leaves is still "running" and is deleted at the next try.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import psutil
from filelock import FileLock

from owlore.core.files import (
    canonical_json,
    read_json,
    read_jsonl,
    replacing,
    sha256_file,
    sha256_text,
)

# MLflow reads these when it is imported. No pool: a pooled connection would go on writing into a
# database file that was deleted or set aside.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, ViewType
from mlflow.entities import Run as StoredRun

DEFAULT_EXPERIMENT = "0"
KEY, FINGERPRINT, STAGE = "owlore.key", "owlore.fingerprint", "owlore.stage"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"  # the note is the UI's description
DATES = frozenset({"started", "ended", "date", "tstamp"})  # when, not what: never in a fingerprint
METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100  # MLflow's limits
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "panfs"}
NETWORK |= {"afs", "wekafs", "fuse.glusterfs", "fuse.sshfs", "fuse.ceph", "fuse.s3fs"}
PARAM_LENGTH, TAG_LENGTH, DIGEST_LENGTH = 6000, 8000, 36

Item = TypeVar("Item")


@dataclass(frozen=True)
class Run:
    """What one MLflow run shows, before it is logged.

    `times` are the start and the end in Unix milliseconds; a curve's points are (step, time in
    milliseconds, value); `files` are (artifact folder, file), `texts` are artifact name → content;
    `dataset` has the fields of MLflow's `Dataset`. Values that are None are left out.
    """

    name: str
    times: tuple[int, int]
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[tuple[str, Path], ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    dataset: Mapping[str, str] | None = None
    children: Mapping[str, "Run"] = field(default_factory=dict)


@contextmanager
def opened(name: str, root: Path, tags: Mapping[str, str]) -> Iterator[tuple[MlflowClient, str]]:
    """Yield a client and the experiment's id, as the only writer; make what is missing.

    A database that belongs to another folder (results/ was moved or copied: MLflow stores absolute
    artifact paths) or that is damaged is renamed to `mlflow.db.bak` and a new one is made.

    Args:
        name: name of the experiment, the study's.
        root: the study's results folder; the database lies in its `mlflow/`.
        tags: tags that the experiment gets where it has none of that key.
    """
    folder = (root / "mlflow").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "mlflow.lock"):
        location = None
        uri = server()
        if uri is None:
            database, location = folder / "mlflow.db", str(folder / "artifacts")
            if database.exists() and not _belongs(database, name, location):
                os.replace(database, folder / "mlflow.db.bak")
                print(f"mlflow: {database} is of another folder or damaged, kept as mlflow.db.bak")
            if not database.exists():
                if kind := network_file_system(folder):
                    print(
                        f"mlflow: {folder} is on {kind}, where a SQLite database may break; start "
                        "an `mlflow server` and set MLFLOW_TRACKING_URI to its http:// address"
                    )
                create_database(database)
            uri = f"sqlite:///{database}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        yield client, _experiment_id(client, name, location, tags)


def server() -> str | None:
    """Return MLFLOW_TRACKING_URI if it names a server, None if the database is a local file."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return uri if uri.startswith(("http://", "https://")) else None


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that `path` lies on, None if it is a local one."""
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    nearest = next((mounts[folder] for folder in [path, *path.parents] if folder in mounts), "")
    return nearest if nearest in NETWORK else None


def create_database(database: Path) -> None:
    """Make an empty database with MLflow's tables; it is there whole or not at all.

    MLflow's own empty experiment "Default" is deleted, it would only be in the way.
    """
    with replacing(database) as partial:
        client = MlflowClient(f"sqlite:///{partial}", f"sqlite:///{partial}")
        client.delete_experiment(DEFAULT_EXPERIMENT)


def log_once(client: MlflowClient, experiment_id: str, key: str, run: Run) -> dict[str, Any]:
    """Make `run` and its children the only live runs of `key`; keep them if nothing changed.

    Returns:
        The receipt: key, run_id, experiment_id, fingerprint, children (stage → run id).
    """
    fingerprint = sha256_text(canonical_json(_content(run)))
    kept = None
    live = _live_runs(client, experiment_id, key)
    for stored in live:
        if PARENT not in stored.data.tags and kept is None:
            kept = _ids_if_whole(client, stored, live, run, fingerprint)
    ids = kept or {}
    for stored in live:
        if stored.info.run_id not in ids.values():
            client.delete_run(stored.info.run_id)
    if not ids:
        ids = _log(client, experiment_id, key, run, fingerprint)
    return {
        "key": key,
        "run_id": ids[""],
        "experiment_id": experiment_id,
        "fingerprint": fingerprint,
        "children": {stage: ids[stage] for stage in run.children},
    }


def _belongs(database: Path, experiment: str, location: str) -> bool:
    """Whether a database is readable and its experiment (if any) keeps artifacts at `location`.

    Asked of SQLite itself, because MLflow would migrate or cache what it opens.
    """
    query = "SELECT artifact_location FROM experiments WHERE name = ?"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(query, (experiment,)).fetchall()
    except sqlite3.DatabaseError:
        return False
    return all(row[0] == location for row in rows)


def _experiment_id(
    client: MlflowClient, name: str, location: str | None, tags: Mapping[str, str]
) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        experiment = client.get_experiment(client.create_experiment(name, location))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    for key in tags.keys() - experiment.tags.keys():  # what a user changed stays
        client.set_experiment_tag(experiment.experiment_id, key, tags[key])
    return str(experiment.experiment_id)


def _live_runs(client: MlflowClient, experiment_id: str, key: str) -> list[StoredRun]:
    chosen = f"tags.`{KEY}` = '{key}'"
    return list(client.search_runs([experiment_id], chosen, ViewType.ACTIVE_ONLY, 1000))


def _ids_if_whole(
    client: MlflowClient, parent: StoredRun, live: list[StoredRun], run: Run, fingerprint: str
) -> dict[str, str] | None:
    """Run ids by stage ("" is the parent) if everything of `run` is there and finished."""
    found = {"": parent}
    for stored in live:
        if stored.data.tags.get(PARENT) == parent.info.run_id:
            found[stored.data.tags[STAGE]] = stored
    wanted = {"": run, **run.children}
    if parent.data.tags.get(FINGERPRINT) != fingerprint or found.keys() != wanted.keys():
        return None
    for stage, stored in found.items():
        names = {item.path for item in client.list_artifacts(stored.info.run_id)}
        if stored.info.status != "FINISHED" or not _artifact_names(wanted[stage]) <= names:
            return None
    return {stage: stored.info.run_id for stage, stored in found.items()}


def _log(
    client: MlflowClient, experiment_id: str, key: str, run: Run, fingerprint: str
) -> dict[str, str]:
    """Log `run` and its children as new runs; return their ids by stage ("" is the parent)."""
    ids: dict[str, str] = {}
    for stage, one in {"": run, **run.children}.items():
        tags = {KEY: key, FINGERPRINT: fingerprint, **one.tags}
        if stage:
            tags |= {PARENT: ids[""], STAGE: stage}
        texts = {tag: _text(value)[:TAG_LENGTH] for tag, value in _given(tags).items()}
        created = client.create_run(experiment_id, one.times[0], texts, one.name)
        ids[stage] = created.info.run_id
        _fill(client, ids[stage], one)
    for stage, one in reversed({"": run, **run.children}.items()):
        client.set_terminated(ids[stage], "FINISHED", one.times[1])
    return ids


def _fill(client: MlflowClient, run_id: str, run: Run) -> None:
    params = [Param(name, _text(v)[:PARAM_LENGTH]) for name, v in _given(run.params).items()]
    for batch in _chunks(params, PARAMS_PER_CALL):
        client.log_batch(run_id, params=batch)
    end = run.times[1]
    metrics = [Metric(name, float(v), end, 0) for name, v in _given(run.metrics).items()]
    for name, points in run.curves.items():
        metrics += [Metric(name, value, time, step) for step, time, value in points]
    for points_batch in _chunks(metrics, METRICS_PER_CALL):
        client.log_batch(run_id, metrics=points_batch)
    if run.dataset is not None:
        context = InputTag("mlflow.data.context", "training")
        client.log_inputs(run_id, [DatasetInput(Dataset(**run.dataset), [context])])
    for folder, path in run.files:
        client.log_artifact(run_id, str(path), folder or None)
    for name, text in run.texts.items():
        client.log_text(run_id, text, name)


def _content(run: Run) -> dict[str, Any]:
    """Everything a run shows, without dates: what its fingerprint is made of."""
    return {
        "name": run.name,
        "params": _given(run.params),
        "metrics": _given(run.metrics),
        "curves": {
            name: [(step, value) for step, _, value in points]
            for name, points in run.curves.items()
        },
        "tags": _given(run.tags),
        "files": [(folder, path.name, _file_content(path)) for folder, path in run.files],
        "texts": dict(run.texts),
        "dataset": run.dataset,
        "children": {stage: _content(child) for stage, child in run.children.items()},
    }


def _file_content(path: Path) -> str:
    """Hash of a file; the dates inside JSON do not count."""
    if path.suffix == ".json":
        return sha256_text(canonical_json(_undated(read_json(path))))
    if path.suffix == ".jsonl":
        return sha256_text(canonical_json(_undated(read_jsonl(path))))
    return sha256_file(path)


def _undated(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _undated(inner) for key, inner in value.items() if key not in DATES}
    if isinstance(value, list):
        return [_undated(inner) for inner in value]
    return value


def _artifact_names(run: Run) -> set[str]:
    """Names at the top of the run's artifact folder."""
    return {folder.split("/")[0] or path.name for folder, path in run.files} | set(run.texts)


def _given(values: Mapping[str, Item | None]) -> dict[str, Item]:
    return {name: value for name, value in values.items() if value is not None}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
