"""YAML as people write it, and one readable line for what is wrong with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from owlore.core.errors import BadInput
from owlore.core.parsing import load_yaml, near, parse


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(1, ge=1)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Inner = Inner()
    by_name: dict[str, Inner] = {}
    listed: list[Inner] | None = None


def yaml_of(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    return load_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["1e-4", "3E5", "-2.5e-3", "+1e+2", ".5e1", "1.e3", "2e10", "0.1"])
def test_numbers_are_numbers_as_python_reads_them(text, tmp_path):
    value = yaml_of(tmp_path, f"lr: {text}\n")["lr"]
    assert isinstance(value, float) and value == float(text)


@pytest.mark.parametrize("text", ["e4", "1e", "1e-4x", "'1e-4'", "1-e4", "v1e4"])
def test_what_only_looks_like_a_number_stays_text(text, tmp_path):
    assert yaml_of(tmp_path, f"name: {text}\n")["name"] == text.strip("'")


def test_a_key_given_twice_is_an_error_at_any_depth(tmp_path):
    with pytest.raises(BadInput, match=r"a\.yaml: not YAML .*key 'b' is given twice"):
        yaml_of(tmp_path, "a:\n  b: 1\n  c: 2\n  b: 3\n")
    merged = yaml_of(tmp_path, "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n")
    assert merged["y"] == {"a": 1, "b": 3}, "to overwrite what is merged in is no mistake"


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not YAML"), ("!!python/object/apply:os.getcwd []", "not YAML"), (None, "no such")],
)
def test_a_file_that_cannot_be_read_is_one_line(text, message, tmp_path):
    with pytest.raises(BadInput, match=rf"a\.yaml: {message}") as caught:
        load_yaml(tmp_path / "a.yaml") if text is None else yaml_of(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "f: name: this key is required"),
        ({"name": 1}, "f: name: 1: Input should be a valid string"),
        ({"nam": "a"}, "f: name: this key is required (and 1 more)"),
        ({"name": "a", "iner": {}}, "f: iner: unknown key (did you mean inner?)"),
        ({"name": "a", "zzz": 1}, "f: zzz: unknown key (allowed: by_name, inner, listed, name)"),
        ({"name": "a", "inner": {"size": 0}}, "f: inner.size: 0: Input should be greater than or"),
        # the keys of the block that the unknown one stands in, whatever holds that block
        ({"name": "a", "inner": {"sise": 2}}, "f: inner.sise: unknown key (did you mean size?)"),
        ({"name": "a", "by_name": {"x": {"q": 2}}}, "f: by_name.x.q: unknown key (allowed: size)"),
        ({"name": "a", "listed": [{}, {"q": 2}]}, "f: listed.1.q: unknown key (allowed: size)"),
    ],
)
def test_findings_name_key_value_and_what_is_allowed(value, message):
    with pytest.raises(BadInput) as caught:
        parse(Outer, value, "f")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_what_is_right_is_parsed():
    assert parse(Outer, {"name": "a", "inner": {"size": 3}}, "f").inner.size == 3


@given(st.lists(st.text("abcdef", min_size=1), min_size=1, unique=True), st.data())
def test_a_known_name_is_its_own_nearest(names, data):
    name = data.draw(st.sampled_from(names))
    assert name in near(name, names).removeprefix("did you mean ").removesuffix("?").split(" or ")


def test_near_says_all_names_or_something_else_where_none_is_like_it():
    assert near("xyz", ["b", "a"]) == "allowed: a, b"
    assert near("xyz", ["b", "a"], "run make") == "run make"
    assert near("xyz", []) == "allowed: none"
