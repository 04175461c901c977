"""Pinning: the hub's newest commits, and nothing else of the study."""

import hashlib
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.hub_server import Hub
from support.paper_studies import STUDIES
from support.studies import STUDY, changed

from owlore.core.errors import BadInput
from owlore.core.parsing import load_yaml
from owlore.plan import pin as pinning
from owlore.study.config import check_study, load_study


def test_pinning_writes_the_hubs_newest_commits_and_nothing_else(tmp_path, monkeypatch):
    import huggingface_hub
    from support import hub_repositories as made

    data, model = made.owlore_dataset(), made.model(tmp_path / "model")
    text = (STUDIES / "llama2-7b.yaml").read_text()
    text = text.replace("meta-llama/Llama-2-7b-hf", model.name.removeprefix("models/"))
    file = tmp_path / "study.yaml"
    file.write_text(text)
    with Hub([data, model]) as hub:
        environment = hub.environment(tmp_path / "home", None)
        done = subprocess.run(
            [sys.executable, "-m", "owlore", "pin", str(file)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    newest = {name: list(made_.commits)[-1] for name, made_ in (("d", data), ("m", model))}
    expected = text.replace(
        "tiny/llama, revision: unpinned", f"tiny/llama, revision: {newest['m']}"
    ).replace("json, revision: unpinned", f"json, revision: {newest['d']}")
    assert file.read_text() == expected
    assert pinning.unpinned(load_study(file)) == []
    assert huggingface_hub.constants.ENDPOINT not in done.stdout
    again = subprocess.run(
        [sys.executable, "-m", "owlore", "pin", str(file)], capture_output=True, text=True
    )
    assert again.returncode == 0 and "nothing is unpinned" in again.stdout


TEXT = """\
# a comment: revision: unpinned
models:
  toy: {hub: org/toy, revision: unpinned}   # why this one
  "odd: name": {hub: org/odd, revision: "unpinned"}
  fixed: {hub: org/fixed, revision: 0000000000000000000000000000000000000000}
questions:
  hub:
    pool:
      revision: unpinned
      path: org/rows
description: revision unpinned
"""


@pytest.fixture
def hub(monkeypatch):
    """The hub's newest commit of a repository is its name, hashed; what was asked is kept."""
    asked = []

    def repo_info(self, repository, repo_type):
        asked.append((repository, repo_type))
        return SimpleNamespace(sha=hashlib.sha1(repository.encode()).hexdigest())

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)
    return asked


def commit(repository):
    return hashlib.sha1(repository.encode()).hexdigest()


def test_only_the_revisions_change(tmp_path, hub):
    file = tmp_path / "study.yaml"
    file.write_text(TEXT)
    assert pinning.pin(file) == [
        ("models.toy.revision", "org/toy", commit("org/toy")),
        ("models.odd: name.revision", "org/odd", commit("org/odd")),
        ("questions.hub.pool.revision", "org/rows", commit("org/rows")),
    ]
    assert set(hub) == {("org/toy", "model"), ("org/odd", "model"), ("org/rows", "dataset")}
    lines, before = file.read_text().splitlines(), TEXT.splitlines()
    different = [
        number for number, pair in enumerate(zip(lines, before, strict=True)) if len(set(pair)) > 1
    ]
    assert different == [2, 3, 8]
    assert lines[2] == f"  toy: {{hub: org/toy, revision: {commit('org/toy')}}}   # why this one"
    pinned = load_yaml(file)
    assert pinned["models"]["odd: name"]["revision"] == commit("org/odd")
    hub.clear()
    assert pinning.pin(file) == [] and hub == []


def test_a_study_that_is_not_pinned_is_refused_by_place():
    study = changed("models.toy", {"hub": "org/toy", "revision": "unpinned"})
    pool = {"path": "org/rows", "revision": "unpinned"}
    study = check_study(changed("questions.hub", {"rows": pool}, study))
    assert pinning.unpinned(study) == ["models.toy", "questions.hub.rows"]
    with pytest.raises(BadInput, match=r"^models\.toy, questions\.hub\.rows: .*owlore pin x\.yaml"):
        pinning.require(study, "x.yaml")
    pinning.require(check_study(STUDY))
