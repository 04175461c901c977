"""Jobs and Records: what their text holds, and files of before and after."""

import json

import pytest
from pydantic import Field

from owlore.core.errors import BadInput
from owlore.records.base import Job, Made, Record


class Bake(Job):
    flour: int
    water: int = 300
    name: str = "bread"


class Loaf(Made):
    weight: float
    crust: str | None = None


def test_a_jobs_text_has_no_defaults_and_no_order():
    assert Bake(flour=500).text() == '{"flour":500}'
    assert Bake(name="bread", water=300, flour=500).text() == Bake(flour=500).text()
    assert Bake(water=310, flour=500).text() == '{"flour":500,"water":310}'
    assert Bake.of_text(Bake(water=310, flour=500).text()) == Bake(flour=500, water=310)


def test_a_new_key_at_its_default_changes_no_identity():
    class Newer(Bake):
        salt: int = 10
        steps: list[str] = Field(default_factory=list)

    assert Newer(flour=500).sha256 == Bake(flour=500).sha256
    assert Newer(flour=500, salt=11).sha256 != Bake(flour=500).sha256


def test_another_version_is_another_job():
    class Changed(Bake):
        version = 2
        water: int = 350

    assert Changed(flour=500).sha256 != Bake(flour=500).sha256
    assert Changed.of_text(Changed(flour=1).text()) == Changed(flour=1)
    with pytest.raises(BadInput, match="job_version: 1: this owlore has 2"):
        Changed.of_text(Bake(flour=1).text())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "--job: not JSON"),
        ("[1]", "--job: expected a mapping"),
        ('{"flour": "much"}', "--job: flour: 'much'"),
        ('{"flour": 1, "watr": 2}', "--job: watr: unknown key \\(did you mean water\\?\\)"),
        ("{}", "--job: flour: this key is required"),
    ],
)
def test_a_bad_job_is_one_clear_line(text, message):
    with pytest.raises(BadInput, match=message):
        Bake.of_text(text)


def test_a_record_that_lacks_a_newer_field_is_read_with_it_empty(tmp_path):
    path = tmp_path / "loaf.json"
    path.write_text(json.dumps({"weight": 1.5}))
    assert Loaf.load(path).crust is None and Loaf.load(path).proof is None
    path.write_text(json.dumps({"weight": 1.5, "of_a_newer_owlore": [1]}))
    assert Loaf.load(path).weight == 1.5
    Loaf(weight=2, crust="dark").save(path)
    assert Loaf.load(path) == Loaf(weight=2, crust="dark")


def test_a_record_that_lacks_a_field_names_it(tmp_path):
    path = tmp_path / "loaf.json"
    path.write_text(json.dumps({"wieght": 1.5}))
    with pytest.raises(BadInput, match=r"loaf\.json: weight: this key is required"):
        Loaf.load(path)
    path.write_text("[]")
    with pytest.raises(BadInput, match=r"loaf\.json"):
        Record.load(path)
