"""Which room imports which: no circles, few arrows, light rooms, nothing undeclared.

The order of the rooms is a contract of import-linter in pyproject.toml (`make lint`). Here the
imports are read from the syntax trees, those inside functions too.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parent.parent
GROUND = {"core", "study", "records"}  # rooms that every other may know
MOST_ARROWS = 40


def modules() -> dict[str, Path]:
    """The package's files by module name."""
    found = {}
    for path in (REPOSITORY / "owlore").rglob("*.py"):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(source: str) -> set[str]:
    """Modules and names that a file imports, lazily or not: `a.b` for both forms of import."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def arrows() -> dict[str, set[str]]:
    """For each module of the package the other modules of the package that it imports."""
    targets = {}
    for module, path in MODULES.items():
        named = {
            name if name in MODULES else name.rpartition(".")[0]
            for name in imported(path.read_text())
            if name.partition(".")[0] == "owlore"
        }
        assert named <= set(MODULES), (module, named - set(MODULES))
        targets[module] = named - {module}
    return targets


def room(module: str) -> str:
    """The room of `owlore.room.file`; nothing for the package's own files."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and not parts[1].startswith("__") else ""


def test_no_files_import_each_other_in_a_circle():
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_rooms_know_few_rooms():
    pairs = {(room(module), room(other)) for module, others in arrows().items() for other in others}
    counted = sorted(
        (here, there)
        for here, there in pairs
        if here != there and here and there and there not in GROUND
    )
    assert len(counted) >= len({room(module) for module in MODULES} - GROUND - {""}) - 1
    lines = "\n".join(f"{here} -> {there}" for here, there in counted)
    assert len(counted) <= MOST_ARROWS, f"{len(counted)} arrows between rooms:\n{lines}"


def test_only_the_entry_point_and_the_workflow_know_the_command_line():
    users = {module for module, others in arrows().items() if "cli" in map(room, others)}
    assert {module for module in users if room(module) != "cli"} == {"owlore.__main__"}


# Take them along: these files need an array library and each other, nothing of the benchmark.
LIGHT = [
    module
    for module in sorted(MODULES)
    if room(module) in ("stats", "optim")
    or module in ("owlore.train.sampling", "owlore.outliers.scores", "owlore.outliers.spectra")
]


@pytest.mark.parametrize("module", LIGHT)
def test_mathematics_imports_only_arrays(module):
    named = imported(MODULES[module].read_text())
    outside = third_party(named)
    assert outside <= {"numpy", "scipy", "torch", "torchao"}
    assert {room(name) for name in named if name.startswith("owlore")} <= {room(module)}


def third_party(names: Iterable[str]) -> set[str]:
    """Top-level packages among imported names that are neither Python's nor ours."""
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"owlore"}


def test_every_import_is_declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {
        plain(Requirement(line).name) for line in (*project["dependencies"], *extras["lean"])
    }
    files = [*MODULES.values(), *(REPOSITORY / "envs").glob("*.py")]
    named = third_party(name for path in files for name in imported(path.read_text()))
    providers = packages_distributions()
    undeclared = {
        name: providers.get(name, "not installed")
        for name in named
        if not declared & {plain(distribution) for distribution in providers.get(name, [name])}
    }
    assert named >= {"torch", "yaml", "numpy"}
    assert not undeclared


def plain(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
