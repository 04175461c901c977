"""Tests mirror the rooms: owlore/<room>/<module>.py has tests/<room>/test_<module>.py.

A module of some size without a file of its name is listed here with the reason, and the list may
hold nothing that is not so (any more).
"""

import tokenize
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE, TESTS = REPOSITORY / "owlore", REPOSITORY / "tests"
SMALL = 40  # lines with code: what is no larger is tested where it is used
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
NO_CODE |= {tokenize.ENCODING, tokenize.ENDMARKER}

# module: why it has no file of its name
ELSEWHERE = {
    "cli/command": (
        "what the table of commands is made of; tests/test_repository.py and "
        "tests/cli/test_launch.py"
    ),
    "cli/command_table": "a table: tests/test_repository.py starts every command of it",
    "cli/commands": (
        "each calls one stage; tests/cli/test_bad_input.py, and the real runs of "
        "tests/workflow/test_workflow.py"
    ),
    "cli/main": "the way in of every test of a command: tests/cli/test_bad_input.py",
    "compare/cost_tables": "a table of tables/, checked row by row in tests/compare/test_tables.py",
    "compare/figure_style": "how figures look: tests/compare/test_figures.py",
    "compare/mtbench_blocks": (
        "a table of tables/, checked row by row in tests/compare/test_tables.py"
    ),
    "compare/mtbench_differences": (
        "a table of tables/, checked row by row in tests/compare/test_tables.py"
    ),
    "compare/mtbench_table": (
        "a table of tables/, checked row by row in tests/compare/test_tables.py"
    ),
    "compare/score_figures": "drawn in tests/compare/test_figures.py",
    "compare/score_tables": (
        "a table of tables/, checked row by row in tests/compare/test_tables.py"
    ),
    "compare/significance_table": (
        "a table of tables/, checked row by row in tests/compare/test_tables.py"
    ),
    "compare/table_parts": "a table of tables/, checked row by row in tests/compare/test_tables.py",
    "mtbench/asking": (
        "how many requests are under way, with a server that fails: "
        "tests/mtbench/test_judging_server.py"
    ),
    "mtbench/graders": (
        "both kinds grade in tests/mtbench/test_judge.py and tests/mtbench/test_endpoint.py"
    ),
    "optim/sharded_adamw": "needs several processes: tests/train/test_sharding.py",
    "optim/sharded_lowrank": "needs several processes: tests/train/test_sharding.py",
    "records/contamination": (
        "fields without computation; each stage writes and reads them: "
        "tests/contamination/test_stage.py"
    ),
    "records/evaluation": (
        "fields without computation; each stage writes and reads them: tests/evaluate/test_stage.py"
    ),
    "records/finetune": (
        "fields without computation; each stage writes and reads them: tests/train/test_stage.py"
    ),
    "records/memory": (
        "fields without computation; each stage writes and reads them: tests/memory/test_stage.py"
    ),
    "records/mtbench": (
        "fields without computation; each stage writes and reads them: tests/mtbench/test_judge.py"
    ),
    "records/outliers": (
        "fields without computation; each stage writes and reads them: tests/outliers/test_stage.py"
    ),
    "study/blocks": (
        "what kinds of blocks share: tests/study/test_method.py and tests/study/test_judge.py"
    ),
}


def lines_of_code(path: Path) -> int:
    """Lines that hold code; comments, blank lines and texts that stand alone are none."""
    lines, alone = set(), True  # alone: the line of code has nothing before this token
    with open(path, "rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type in NO_CODE:
                alone = alone or token.type == tokenize.NEWLINE
            elif not (token.type == tokenize.STRING and alone):
                lines |= set(range(token.start[0], token.end[0] + 1))
                alone = False
    return len(lines)


def unmirrored() -> dict[str, int]:
    """Modules of some size without a test file of their name, and their lines of code."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE)
        there = (TESTS / module.parent / f"test_{module.name}").exists()
        if not there and not path.name.startswith("__") and lines_of_code(path) > SMALL:
            found[module.with_suffix("").as_posix()] = lines_of_code(path)
    return found


def test_every_module_of_some_size_has_a_test_file_of_its_name():
    missing = {name: lines for name, lines in unmirrored().items() if name not in ELSEWHERE}
    assert not missing, "write tests/<room>/test_<module>.py, or say in ELSEWHERE why not"


def test_the_exceptions_are_still_exceptions():
    assert ELSEWHERE.keys() <= unmirrored().keys(), "these have a file, are small, or are gone"
    for name, reason in ELSEWHERE.items():
        named = [word.strip("().,;") for word in reason.split() if word.startswith("tests/")]
        assert named, f"{name}: say which file tests it"
        for file in named:
            assert (REPOSITORY / file).exists(), f"{name}: {file} is not there"


def test_every_test_file_of_a_room_lies_in_a_room():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    assert folders <= rooms | {"workflow"}
