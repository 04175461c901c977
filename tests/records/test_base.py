"""Jobs and Records: what a Job's text says, and which files a Record reads."""

import json
from typing import ClassVar

import pytest

from owlore.core.errors import BadInput
from owlore.records.base import Job, Record


class Bake(Job):
    bread: str
    minutes: int = 30
    seeds: tuple[str, ...] = ()


class Later(Bake):
    version: ClassVar[int] = 2


class Bread(Record):
    grams: int
    crust: str = ""


def test_defaults_and_the_order_of_keys_are_not_in_the_text():
    text = Bake(bread="rye").text()
    assert json.loads(text) == {"bread": "rye"}
    assert Bake(seeds=(), minutes=30, bread="rye").text() == text
    assert Bake(bread="rye", minutes=31).sha256 != Bake(bread="rye").sha256

    class Wider(Bake):  # a key that has come to the package since
        steam: bool = False

    assert Wider(bread="rye").text() == text


def test_a_job_is_read_back_and_another_version_refused():
    job = Bake(bread="rye", seeds=("sesame",))
    assert Bake.of_text(job.text()) == job
    assert Later.of_text(Later(bread="rye").text()) == Later(bread="rye")
    with pytest.raises(BadInput, match=r"--job: job_version: 1: this owlore has 2"):
        Later.of_text(job.text())
    with pytest.raises(BadInput, match=r"--job: job_version: 2: this owlore has 1"):
        Bake.of_text(Later(bread="rye").text())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "--job: not JSON"),
        ("[1]", "--job: expected a mapping of keys"),
        ('{"bread": "rye", "minuts": 3}', r"minuts: unknown key \(did you mean minutes\?\)"),
        ("{}", "--job: bread: this key is required"),
    ],
)
def test_a_text_that_is_no_job_is_one_line(text, message):
    with pytest.raises(BadInput, match=message):
        Bake.of_text(text)


def test_a_record_reads_older_and_newer_files_and_no_others(tmp_path):
    file = tmp_path / "bread.json"
    Bread(grams=700, crust="dark").save(file)
    assert Bread.load(file) == Bread(grams=700, crust="dark")
    file.write_text('{"grams": 700, "slices": 12}')
    assert Bread.load(file) == Bread(grams=700)
    file.write_text('{"gram": 700}')
    with pytest.raises(BadInput, match=r"bread\.json: grams: this key is required"):
        Bread.load(file)
