"""When a result on disk is as good as a new one, and what is said when it is not."""

import pytest

from owlore.core.files import sha256_file
from owlore.records import proof
from owlore.records.base import Acceptance, Job, Proof, Record


class Bake(Job):
    flour: int
    water: int = 300


class Loaf(Record):
    weight: float


STAGE = "owlore.outliers.stage"
NOW = proof.of(Bake(flour=500), STAGE, {"flour": "a", "water": "b"})


@pytest.fixture
def there(tmp_path):
    (tmp_path / "crumbs.txt").write_text("crumbs")
    made = {"crumbs.txt": sha256_file(tmp_path / "crumbs.txt")}
    Loaf(weight=1.0, proof=NOW.model_copy(update={"made": made})).save(tmp_path / "loaf.json")
    return tmp_path / "loaf.json"


def test_what_fits_is_kept_and_said(there, capsys):
    assert proof.kept(Loaf, there, NOW, "bake") == Loaf.load(there)
    assert capsys.readouterr().out == (
        "bake: is there, with the same inputs, settings and code "
        "(OWLORE_AGAIN=1 computes it again)\n"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"job": {"flour": 400}, "job_sha256": "x"}, "settings changed: flour"),
        ({"read": {"flour": "a", "water": "c"}}, "input changed: water"),
        ({"read": {"flour": "a"}}, "input changed: water"),
        ({"read": {"flour": "a", "water": "b", "salt": "c"}}, "input changed: salt"),
        (
            {"code": NOW.code | {"outliers/scores.py": "x"}},
            "code changed: owlore/outliers/scores.py",
        ),
        ({"code": NOW.code | {"optim/new.py": "x"}}, "code changed: owlore/optim/new.py"),
    ],
)
def test_what_does_not_fit_is_made_again_and_told_in_plain_words(change, why, there):
    now = NOW.model_copy(update=change)
    assert proof.misfit(NOW, now) == why
    assert proof.kept(Loaf, there, now, "bake") is None


def test_a_result_without_a_proof_fits_nothing():
    assert proof.misfit(None, NOW) == "no proof: made by an older owlore"


def test_what_was_made_beside_it_must_be_there_and_the_same(there):
    record = Loaf.load(there)
    assert proof.altered(record.proof, there.parent) == ""
    (there.parent / "crumbs.txt").write_text("other crumbs")
    assert proof.altered(record.proof, there.parent) == "crumbs.txt was altered"
    (there.parent / "crumbs.txt").unlink()
    assert proof.altered(record.proof, there.parent) == "crumbs.txt is missing"
    assert proof.kept(Loaf, there, NOW, "bake") is None


def test_a_broken_file_is_made_again(there):
    there.write_text('{"weight": ')
    assert proof.kept(Loaf, there, NOW, "bake") is None


def test_whoever_forces_gets_it_computed(there, monkeypatch):
    monkeypatch.setenv(proof.AGAIN, "1")
    assert proof.kept(Loaf, there, NOW, "bake") is None
    monkeypatch.setenv(proof.AGAIN, "0")
    assert proof.kept(Loaf, there, NOW, "bake") is not None


def test_accepted_is_one_code_and_neither_settings_nor_inputs():
    newer = NOW.model_copy(update={"code": {"outliers/stage.py": "new"}})
    newest = NOW.model_copy(update={"code": {"outliers/stage.py": "newest"}})
    word = Acceptance(code=newer.code, because="a comment", date="2026-01-01")
    accepted = NOW.model_copy(update={"accepted": word})
    assert proof.misfit(accepted, newer) == ""
    assert proof.misfit(accepted, newest).startswith("code changed")
    assert proof.misfit(accepted, newer.model_copy(update={"read": {}})).startswith("input changed")


def test_many_changes_are_told_in_a_line():
    files = {f"optim/{name}.py": name for name in "abcdefg"}
    before = NOW.model_copy(update={"code": {}})
    now = NOW.model_copy(update={"code": files})
    assert proof.misfit(before, now).endswith("owlore/optim/d.py and 3 more")


def test_proofs_survive_their_file(there):
    assert (
        Proof.model_validate(Loaf.load(there).proof.model_dump(mode="json"))
        == Loaf.load(there).proof
    )
