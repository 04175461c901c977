"""The code behind the real stages: nothing imported is left out; what a syntax tree says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from owlore.core import code
from owlore.core.errors import OwloreError
from owlore.records.stages import MODULES

PACKAGE = code.PACKAGE
BEFORE = '''
"""A module."""

LIMIT = 3  # of something


class Box:
    """A box."""

    size: int = 2
    """Its size."""


def area(side: float, *, wide: bool = False) -> float:
    """Return an area."""
    label = f"{side!r:>{LIMIT}}" "and more"
    return side**2 if wide else side * LIMIT + len(label)
'''


def hashed(source: str, tmp_path: Path, name: str = "module") -> str:
    path = tmp_path / f"{name}.py"
    path.write_text(source)
    code._tree.cache_clear()
    code._source_hash.cache_clear()
    return code._source_hash(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# of something", "# of something else"),
        ('"""A module."""', '"""Another module."""'),
        ('"""Return an area."""', "'''Return the area of a square.'''"),
        ('    """Return an area."""\n', ""),
        ('    """Its size."""\n', ""),
        ("LIMIT = 3", "LIMIT = (3)"),
        ("\n\n\nclass", "\n\n\n\n\nclass"),
        ("    return", "\n    return"),
        ("'", '"'),
    ],
)
def test_what_computes_nothing_does_not_count(old, new, tmp_path):
    assert hashed(BEFORE.replace(old, new), tmp_path) == hashed(BEFORE, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("size: int = 2", "size: int = None"),
        ("size: int = 2", "size: int"),
        ("wide: bool = False", "wide: bool = True"),
        ("side**2", "side*2"),
        (" if wide", " if not wide"),
        ('"and more"', '"or more"'),
        ("{side!r:>{LIMIT}}", "{side:>{LIMIT}}"),
        ("class Box:", "class Box(object):"),
    ],
)
def test_what_computes_something_else_counts(old, new, tmp_path):
    assert old in BEFORE
    assert hashed(BEFORE.replace(old, new), tmp_path) != hashed(BEFORE, tmp_path)


def test_empty_fields_that_a_newer_python_adds_do_not_count():
    """Python 3.12 gave functions and classes `type_params`, an empty list; 3.8 a `type_comment`."""
    tree = ast.parse(BEFORE)
    before = code._plain(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.type_params = []
            node._fields = (*type(node)._fields, "type_params")
        if isinstance(node, ast.Constant):
            node.kind = "u"
    assert code._plain(tree) == before


def test_every_import_is_followed_lazy_ones_too():
    """Oracle: what Python really loads for a stage, in a process of its own."""
    script = (
        "import importlib, sys\n"
        "importlib.import_module(sys.argv[1])\n"
        "print('\\n'.join(n for n in sys.modules if n.startswith('owlore.')))"
    )
    for module in MODULES.values():
        command = [sys.executable, "-c", script, module]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        loaded = {name.split(".", 1)[1] for name in done.stdout.split()}
        files = {f"{name.replace('.', '/')}.py" for name in loaded}
        files = {name for name in files if (PACKAGE / name).is_file()}
        decide = {name for name in files if name.split("/")[0] not in code.DECIDE_NOTHING}
        assert decide <= code.of(module).keys(), module
    # A lazy one: pools ask the hub inside a function.
    assert "sources/hub.py" in code.of("owlore.data.mixture")


def test_a_stage_does_not_follow_what_it_has_no_use_for():
    assert "questions/wordnet.py" not in code.of("owlore.train.stage")
    assert "mtbench/decoding.py" not in code.of("owlore.mtbench.judge")
    assert "evaluate/shared_prefix.py" not in code.of("owlore.contamination.stage")
    assert not [name for name in code.of("owlore.train.stage") if name.startswith("compare/")]
    for module in MODULES.values():
        rooms = {name.split("/")[0] for name in code.of(module)}
        assert not rooms & {"cli", "plan", "tracking"}, module


def test_package_data_counts_by_its_bytes(tmp_path, monkeypatch):
    room = tmp_path / "owlore" / "evaluate"
    (room / "tasks").mkdir(parents=True)
    (room / "stage.py").write_text("x = 1\n")
    (room / "tasks" / "a.yaml").write_text("task: a\n")
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "owlore")
    code._closure.cache_clear()
    before = code.of("owlore.evaluate.stage")
    assert before.keys() == {"evaluate/stage.py", "evaluate/tasks/a.yaml"}
    (room / "tasks" / "a.yaml").write_text("task: b\n")
    after = code.of("owlore.evaluate.stage")
    assert code.differing(before, after) == ["owlore/evaluate/tasks/a.yaml"]
    code._closure.cache_clear()


def test_exempt_rooms_compute_nothing():
    """They import no other room, and nothing that computes when they are imported."""
    heavy = {"torch", "numpy", "scipy", "pandas", "transformers", "lm_eval", "peft", "datasets"}
    for room in code.DECIDE_NOTHING:
        for path in (PACKAGE / room).glob("*.py"):
            tree = ast.parse(path.read_text())
            top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {
                alias.name for node in top for alias in node.names if isinstance(node, ast.Import)
            }
            names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
            assert not {name.split(".")[0] for name in names} & heavy, path
            for name in code._imports(path):
                if name.startswith("owlore."):
                    assert name.split(".")[1] in code.DECIDE_NOTHING, (path, name)


def test_nothing_is_imported_by_a_computed_name():
    """The closure is read from the source, so no import may hide from it."""
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        assert "import_module(" not in source and "__import__(" not in source, path


def test_an_unknown_module_is_named():
    with pytest.raises(OwloreError, match=r"owlore\.train\.nowhere: no such module"):
        code.of("owlore.train.nowhere")
