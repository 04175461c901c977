"""The tiny study, finished once a session, and copies of it for tests to change."""

import shutil
from pathlib import Path

import pytest
from support.studies import write
from support.workspace import Workspace, save_inputs, workflow_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """The tiny study after one whole, undisturbed run. Tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("finished")
    save_inputs(folder)
    archive = next((folder / "resources" / "archives").iterdir())
    write(folder / "study.yaml", workflow_study(archive))
    workspace = Workspace(folder)
    workspace.first_run = workspace.snakemake()  # type: ignore[attr-defined]
    return workspace


@pytest.fixture
def fresh(finished: Workspace, tmp_path: Path) -> Workspace:
    """The study and its inputs; nothing has run yet."""
    for name in ("code", "inputs", "resources/archives"):
        shutil.copytree(finished.folder / name, tmp_path / name)
    shutil.copy(finished.folder / "study.yaml", tmp_path)
    return Workspace(tmp_path)


@pytest.fixture
def copied(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished study, Snakemake's records included."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Workspace(tmp_path)
