"""The code behind a result, on a package made for the test: what counts, and what does not."""

import pytest

from owlore.core import code
from owlore.core.errors import OwloreError

FILES = {
    "__init__.py": "",
    "core/files.py": "A = 1\n",
    "study/config.py": "import owlore.core.files\n",
    "study/benchmarks.py": "TITLES = {}\n",
    "optim/adamw.py": "def step(x):\n    return x + 1\n",
    "optim/unused.py": "B = 2\n",
    "train/stage.py": (
        '"""Train."""\n\nfrom owlore.core import files\nfrom owlore.study.config import x\n\n\n'
        "def run(a):\n    from owlore.optim.adamw import step\n\n    return step(a)\n"
    ),
    "compare/stage.py": "from owlore.study import benchmarks\nfrom owlore.train import stage\n",
    "train/tasks/a.yaml": "task: a\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package; return what changes a file of it and asks for a module's code."""
    folder = tmp_path / "owlore"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(code, "PACKAGE", folder)

    def asked(module="owlore.train.stage", **changes):
        for name, text in {**FILES, **changes}.items():
            (folder / name).write_text(text)
        for memory in (code._closure, code._tree, code._source_hash):
            memory.cache_clear()
        return code.of(module)

    yield asked
    for memory in (code._closure, code._tree, code._source_hash):
        memory.cache_clear()


def test_a_stage_is_all_that_it_imports_lazily_too_and_its_rooms_data(package):
    assert list(package()) == ["optim/adamw.py", "train/stage.py", "train/tasks/a.yaml"]
    assert set(package("owlore.compare.stage")) == {
        *package(),
        "compare/stage.py",
        "study/benchmarks.py",  # in an exempt room, and yet tables follow it
    }
    with pytest.raises(OwloreError, match=r"owlore\.no\.such: no such module"):
        package("owlore.no.such")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("optim/adamw.py", "def step(x):\n    # a remark\n    return (x\n        + 1)\n"),
        ("optim/adamw.py", '"""New."""\n\n\ndef step(x):\n    """Step."""\n    return x + 1\n'),
        ("optim/unused.py", "B = 3\n"),
        ("core/files.py", "A = 3\n"),
        ("study/config.py", "C = 3\n"),
    ],
)
def test_what_changes_no_computation_changes_no_hash(name, text, package):
    assert package(**{name: text}) == package()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("optim/adamw.py", "def step(x):\n    return x + 2\n"),
        ("optim/adamw.py", "def step(x, y=0):\n    return x + 1\n"),
        ("optim/adamw.py", "async def step(x):\n    return x + 1\n"),
        ("train/tasks/a.yaml", "task: b\n"),
    ],
)
def test_what_changes_a_computation_names_the_file(name, text, package):
    before = package()
    after = package(**{name: text})
    assert code.differing(before, after) == [f"owlore/{name}"]
    assert code.digest(before) != code.digest(after)


def test_files_that_come_and_go_differ():
    assert code.differing({"a.py": "1", "b.py": "2"}, {"b.py": "2", "c.py": "3"}) == [
        "owlore/a.py",
        "owlore/c.py",
    ]
    assert code.digest({"a": "1", "b": "2"}) == code.digest({"b": "2", "a": "1"})
