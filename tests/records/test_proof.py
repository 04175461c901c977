"""What a result proves: the same Job, the same code, the same inputs, files that nobody altered."""

import hashlib

import pytest

from owlore.records import proof
from owlore.records.base import Acceptance, Job, Proof, Record


class Bake(Job):
    bread: str
    minutes: int = 30


class Bread(Record):
    grams: int


NOW = Proof(
    job={"bread": "rye"},
    job_sha256=Bake(bread="rye").sha256,
    code={"train/stage.py": "aa", "optim/adamw.py": "bb"},
    read={"weights": "1", "rows": "2"},
)


def changed(**values):
    return NOW.model_copy(update=values)


def test_what_is_asked_now_is_the_job_its_code_and_what_is_read():
    made = proof.of(Bake(bread="rye"), "owlore.outliers.stage", {"b": "2", "a": "1"})
    assert (made.job, made.job_sha256) == (NOW.job, NOW.job_sha256)
    assert list(made.read) == ["a", "b"] and "outliers/spectra.py" in made.code


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (NOW, ""),
        (None, "no proof: made by an older owlore"),
        (
            changed(job={"bread": "wheat", "minutes": 5}, job_sha256="x"),
            "settings changed: bread, ",
        ),
        (changed(read={"weights": "9", "rows": "2"}), "input changed: weights"),
        (changed(read={"weights": "1"}), "input changed: rows"),
        (changed(read={**NOW.read, "more": "3"}), "input changed: more"),
        (changed(code={**NOW.code, "optim/adamw.py": "cc"}), "code changed: owlore/optim/adamw.py"),
        (changed(made={"bread.txt": "no hash"}), ""),
    ],
)
def test_what_does_not_fit_is_said(before, said):
    assert proof.misfit(before, NOW).startswith(said)
    assert bool(proof.misfit(before, NOW)) == bool(said)


def test_code_that_somebody_accepted_fits_until_it_changes_again():
    old = changed(code={"train/stage.py": "old"})
    word = Acceptance(code=NOW.code, because="a name", date="2026-01-01")
    assert proof.misfit(old.model_copy(update={"accepted": word}), NOW) == ""
    other = Acceptance(code={"train/stage.py": "zz"}, because="a name", date="2026-01-01")
    assert proof.misfit(old.model_copy(update={"accepted": other}), NOW).startswith("code changed")


def test_a_file_that_was_made_with_it_must_be_what_it_was(tmp_path):
    file = tmp_path / "bread.txt"
    file.write_text("bread")
    with_file = changed(made={"bread.txt": hashlib.sha256(b"bread").hexdigest()})
    assert proof.altered(with_file, tmp_path) == ""
    file.write_text("Bread")
    assert proof.altered(with_file, tmp_path) == "bread.txt was altered"
    file.unlink()
    assert proof.altered(with_file, tmp_path) == "bread.txt is missing"
    assert proof.altered(None, tmp_path) == ""


def test_a_result_is_kept_if_it_proves_what_is_asked(tmp_path, capsys, monkeypatch):
    file = tmp_path / "bread.json"

    def kept():
        return proof.kept(Bread, file, NOW, "bread")

    monkeypatch.delenv(proof.AGAIN, raising=False)
    assert kept() is None, "there is none"
    record = Bread(grams=700, proof=NOW)
    record.save(file)
    assert kept() == record
    assert capsys.readouterr().out.startswith("bread: is there")
    monkeypatch.setenv(proof.AGAIN, "1")
    assert kept() is None, "forced"
    monkeypatch.setenv(proof.AGAIN, "0")
    for broken in (Bread(grams=700), Bread(grams=700, proof=changed(read={}))):
        broken.save(file)
        assert kept() is None
    file.write_text('{"grams"')
    assert kept() is None, "a torn file is made again"
