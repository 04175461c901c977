"""The code behind a result: the files that a stage is made of, each as a hash of what it computes.

    code.of("owlore.train.stage")    # {"data/examples.py": "5f0c…", "optim/adamw.py": "91aa…", …}

A stage is made of its module and of all of this package that it imports, lazily or not, read from
the source. So the import graph is the rerun graph, and no list of files has to be kept by hand.

Hashed is the syntax tree without comments, layout, docstrings and empty fields: an edit that
changes no computation changes no hash, and Python 3.11 to 3.14, whose trees differ in empty fields
only, agree. Files that a room brings along (`tasks/*.yaml`, `templates/*`) count with their bytes.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from owlore.core.errors import OwloreError
from owlore.core.files import canonical_json, sha256_file, sha256_text

PACKAGE = Path(__file__).resolve().parents[1]
# Rooms that decide no result, the one exemption. `core` writes and says what others computed,
# `study` and `records` hold what is asked and what came out: all that they decide is in a Job.
DECIDE_NOTHING = frozenset({"core", "study", "records"})
# In an exempt room, but tables and report follow it: titles, units, what the paper claims.
COUNTED = frozenset({"study/benchmarks.py"})
DIGITS = 12  # of a file's hash
IGNORED = frozenset({"kind", "type_comment"})  # fields of a tree that say how it was written


def of(module: str) -> dict[str, str]:
    """Return the hash of every file behind a module, by its path in the package, sorted.

    Raises:
        OwloreError: there is no such module in this package.
    """
    modules = _closure(module)
    files = {name: _source_hash(PACKAGE / name) for name in modules}
    for room in {name.split("/")[0] for name in modules}:
        files |= {
            path.relative_to(PACKAGE).as_posix(): sha256_file(path)[:DIGITS]
            for path in sorted((PACKAGE / room).rglob("*"))
            if path.is_file() and path.suffix not in (".py", ".pyc")
        }
    return dict(sorted(files.items()))


def digest(files: dict[str, str]) -> str:
    """Return one short hash of what `of` returned."""
    return sha256_text(canonical_json(files))[:16]


def differing(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the files, as `owlore/<room>/<file>`, that were changed, added or taken away."""
    names = sorted(before.keys() | now.keys())
    return [f"owlore/{name}" for name in names if before.get(name) != now.get(name)]


@cache
def _closure(module: str) -> tuple[str, ...]:
    """Paths in the package of a module and of all that it imports, exempt rooms left out."""
    seen: set[Path] = set()
    todo = [_path(module)]
    if todo[0] is None:
        raise OwloreError(f"{module}: no such module in the package")
    while todo:
        path = todo.pop()
        if path is None or path in seen or _decides_nothing(path):
            continue
        seen.add(path)
        todo += [_path(name) for name in _imports(path)]
    return tuple(sorted(path.relative_to(PACKAGE).as_posix() for path in seen))


def _decides_nothing(path: Path) -> bool:
    name = path.relative_to(PACKAGE)
    return name.parts[0] in DECIDE_NOTHING and name.as_posix() not in COUNTED


def _imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file may import modules by."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _path(module: str) -> Path | None:
    """Return a module's file; None for what is no module of this package."""
    first, *rest = module.split(".")
    path = PACKAGE.joinpath(*rest).with_suffix(".py")
    return path if first == PACKAGE.name and rest and path.is_file() else None


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _source_hash(path: Path) -> str:
    return hashlib.sha256(repr(_plain(_tree(path))).encode()).hexdigest()[:DIGITS]


def _plain(node: Any) -> Any:
    """Return a syntax tree as nested tuples of what it computes."""
    if isinstance(node, list):
        return tuple(_plain(item) for item in node)
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = [part for part in node.body if not _is_docstring(part)]
    return type(node).__name__, *(
        (name, _plain(value))
        for name, value in sorted(fields.items())
        if name not in IGNORED and value is not None and value != []
    )


def _is_docstring(part: ast.stmt) -> bool:
    """Whether a statement is a text that nobody uses: a docstring, or one behind an attribute."""
    return (
        isinstance(part, ast.Expr)
        and isinstance(part.value, ast.Constant)
        and isinstance(part.value.value, str)
    )
