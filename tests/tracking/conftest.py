"""Results folders whose MLflow database need not be migrated for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tracked import write_results

from owlore.tracking import store as mlflow_store


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with MLflow's tables: making one takes seconds, copying it does not."""
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    mlflow_store.create_database(database)
    return database


@pytest.fixture
def root(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A study's results folder with an empty database; nothing may appear in the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "results" / "made-up"
    write_results(root)
    (root / "mlflow").mkdir()
    shutil.copy(migrated, root / "mlflow" / "mlflow.db")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    yield root
    assert not list((tmp_path / "cwd").iterdir())
