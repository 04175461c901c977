"""What a result says of its origin, against git, the interpreter and the installed packages."""

import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib import metadata

import pytest
import torch

from owlore.core import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Ask for the git state of a folder, with no memory of what was asked before."""
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path)
    return provenance.git_state.__wrapped__


def test_commit_and_changes_are_gits(tmp_path, state):
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "results").write_text("not code\n")
    assert state() == {"commit": commit, "dirty": False}, "untracked files change no result"
    (tmp_path / "code.py").write_text("a = 2\n")
    assert state() == {"commit": commit, "dirty": True}


def test_outside_a_checkout_nothing_is_claimed(tmp_path, state):
    assert state() == {"commit": None, "dirty": None}


def test_an_enclosing_checkout_is_not_ours(tmp_path, state, monkeypatch):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-qm", "theirs", "--allow-empty")
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(provenance, "REPOSITORY", tmp_path / "site-packages")
    assert state() == {"commit": None, "dirty": None}


def test_versions_are_those_that_run():
    versions = provenance.versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__
    assert versions["transformers"] == metadata.version("transformers")
    assert set(versions) == {"owlore", "python", *provenance.PACKAGES}
    assert provenance._version("no-such-package-anywhere") == "not installed"


def test_now_is_utc_to_the_millisecond():
    before = datetime.now(UTC)
    moment = datetime.fromisoformat(provenance.now())
    assert moment.utcoffset().total_seconds() == 0
    assert abs((moment - before).total_seconds()) < 5
    assert moment.microsecond % 1000 == 0


def test_the_machine_is_described_without_its_name():
    machine = provenance.machine()
    assert machine["cores"] >= 1 and machine["memory_gib"] > 0
    assert machine["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert len(machine["gpus"]) == torch.cuda.device_count()
    assert socket.gethostname() not in machine.values()
