"""study.json and manifest.json: whole, and changed only by what changes."""

import hashlib
import json

import pytest
from support.studies import STUDY, changed

from owlore.core import provenance
from owlore.core.files import read_json
from owlore.plan.manifest import write_study
from owlore.study.config import check_study


@pytest.fixture
def written(tmp_path):
    write_study(check_study(STUDY), tmp_path)
    return tmp_path


def test_the_study_is_read_back_as_it_was(written):
    study = check_study(read_json(written / "study.json"))
    assert study == check_study(STUDY)
    for cell in study.cells():
        here = study.method(cell.method, cell.track, cell.model)
        assert here == check_study(STUDY).method(cell.method, cell.track, cell.model)


def test_the_manifest_names_study_code_lock_and_machine(written):
    manifest = read_json(written / "manifest.json")
    assert manifest["study"] == "tiny"
    assert manifest["versions"] == provenance.versions()
    assert manifest["git"] == provenance.git_state()
    lock = provenance.LOCK.read_bytes()
    assert manifest["lock_sha256"] == hashlib.sha256(lock).hexdigest()
    text = json.dumps(
        read_json(written / "study.json"),
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    assert manifest["study_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_a_manifest_that_would_only_say_a_later_time_stays(written, monkeypatch):
    before = (written / "manifest.json").read_bytes()
    monkeypatch.setattr(provenance, "now", lambda: "2099-01-01T00:00:00.000+00:00")
    write_study(check_study(STUDY), written)
    assert (written / "manifest.json").read_bytes() == before
    write_study(check_study(changed("seeds", [1])), written)
    assert read_json(written / "manifest.json")["started"].startswith("2099")
    assert read_json(written / "study.json")["seeds"] == [1]
