"""What an edit runs again, and what it does not: the import graph, the Jobs, and the proofs.

Dry runs of the real workflow on the finished tiny study, and real ones where a result is at stake.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from support.workspace import Workspace

pytestmark = pytest.mark.workflow

# Who reads what a rule makes, as the README's picture has it.
READERS = {
    "base_model": ["base", "score_outliers", "train"],
    "questions": [
        "training_data",
        "score_outliers",
        "check_overlap",
        "evaluate",
        "answer",
        "judge",
    ],
    "training_data": ["train", "check_overlap"],
    "score_outliers": ["train", "tables"],
    "base": ["evaluate", "answer", "judge", "track_cell", "tables"],
    "train": ["evaluate", "answer", "judge", "track_cell", "tables"],
    "evaluate": ["track_cell", "tables"],
    "answer": ["judge"],
    "judge": ["track_cell", "tables"],
    "check_overlap": ["tables"],
    "tables": ["report"],
    "report": ["track"],
    "track_cell": ["track"],
    "track": ["all"],
}
# A file of every room that computes, and the rules whose stage is made of it.
EDITS = {
    "sources/models.py": "base_model score_outliers train evaluate answer judge tables report",
    "sources/base_model.py": "base_model",
    "questions/splits.py": "questions",
    "data/training_formats.py": "training_data check_overlap",
    "data/examples.py": "train",
    "outliers/scores.py": "score_outliers",
    "optim/projector.py": "train",
    "train/switching.py": "train",
    "train/base.py": "base",
    "evaluate/shared_prefix.py": "evaluate",
    "evaluate/draw.py": "evaluate check_overlap",
    "evaluate/tasks/quartz_mini.yaml": "evaluate check_overlap",
    "mtbench/decoding.py": "answer",
    "mtbench/graders.py": "judge",
    "contamination/stage.py": "check_overlap",
    "stats/paired.py": "tables report",
    "compare/figures.py": "tables report",
    "report/templates/report.html": "report",
    # Rooms that decide no result, and simulated memory, which `all` does not ask for.
    "memory/simulate.py": "",
    "tracking/runs.py": "",
    "plan/check.py": "",
    "cli/commands.py": "",
    "core/files.py": "",
    "study/config.py": "",
    "records/base.py": "",
}


def edit(workspace: Workspace, name: str) -> None:
    """Add a line of code."""
    path = workspace.folder / "code" / "owlore" / name
    lines = {".py": "EDITED = 1\n", ".yaml": "# edited\n", ".html": "<!-- edited -->\n"}
    path.write_text(path.read_text() + lines[path.suffix])


def planned(workspace: Workspace, *arguments: str) -> set[str]:
    """The rules of a dry run's list of jobs."""
    workspace.snakemake("-n", *arguments)
    listed = re.search(r"^Job stats:\n.*?\n-[- ]+\n(.*?)\n\n", workspace.printed, re.S | re.M)
    return {line.split()[0] for line in listed[1].splitlines()} - {"total"} if listed else set()


def with_readers(rules: list[str]) -> set[str]:
    """These rules and all that reads what they make."""
    found: set[str] = set()
    todo = list(rules)
    while todo:
        rule = todo.pop()
        if rule not in found:
            found.add(rule)
            todo += READERS.get(rule, [])
    return found


def owlore(workspace: Workspace, *arguments: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "owlore", *arguments],
        capture_output=True,
        text=True,
        cwd=workspace.folder,
        env=workspace.env,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def owlore_run(workspace: Workspace, *arguments: str) -> str:
    return owlore(workspace, "run", *workspace.command(*arguments)[3:])


def computed(printed: str) -> set[str]:
    """Jobs of stages that really did something: those that kept what was there say so."""
    kept = len(re.findall(r"is there, with the same inputs, settings and code", printed))
    started = re.findall(r"^(?:local)?rule (train|evaluate|answer|judge):", printed, re.M)
    return set(started) if len(started) > kept else set()


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_line_runs_again_what_is_made_of_it(name, copied: Workspace):
    edit(copied, name)
    assert planned(copied) == with_readers(EDITS[name].split())


def test_simulated_memory_follows_its_own_code(copied: Workspace):
    copied.snakemake("memory")
    assert planned(copied, "memory") == set()
    edit(copied, "compare/figures.py")
    assert planned(copied, "memory") == set()
    edit(copied, "memory/simulate.py")
    assert planned(copied, "memory") == {"simulate", "memory"}


def test_every_computing_room_is_edited_above():
    rooms = {path.parent.name for path in (Workspace.code()).glob("*/__init__.py")}
    assert {name.split("/")[0] for name in EDITS} == rooms


def test_a_comment_runs_nothing_again(copied: Workspace):
    for path in (copied.folder / "code" / "owlore").rglob("*.py"):
        path.write_text("# a comment\n" + path.read_text() + "\n# and another\n")
    assert planned(copied) == set()


def test_a_new_key_with_a_default_runs_nothing_again(copied: Workspace):
    """In every Job, and in the blocks inside them."""
    package = copied.folder / "code" / "owlore"
    count = 0
    for path in [*(package / "records").glob("*.py"), *(package / "study").glob("*.py")]:
        text, changed = re.subn(
            r"^(class \w+\((?:Job|Strict|TrainedKind|LowRank|Kind|Part|EvaluationJob)\):\n"
            r'    """(?:[^"]|"(?!""))*"""\n)',
            r"\1\n    newer_key: int = 7\n",
            path.read_text(),
            flags=re.M,
        )
        path.write_text(text)
        count += changed
    assert count > 20
    assert planned(copied) == set()
    assert "code changed" not in owlore_run(copied, "-n")


def test_owlore_run_says_why_in_plain_words(copied: Workspace):
    edit(copied, "optim/lowrank.py")
    printed = owlore_run(copied, "-n")
    assert "train: 2 cells, code changed: owlore/optim/lowrank.py\n" in printed
    assert "evaluate: 2 cells, made again if the weights come out differently\n" in printed
    copied.study("methods.full.learning_rate", 0.002)
    copied.study("methods.full.checkpoint_steps", 1)  # decides no result
    printed = owlore_run(copied, "-n")
    assert "train: 1 cell, settings changed: method.learning_rate\n" in printed
    assert "train: 1 cell, code changed: owlore/optim/lowrank.py\n" in printed


def test_the_same_weights_again_evaluate_and_judge_nothing(copied: Workspace):
    cell = copied.root / "mini" / "toy" / "full" / "seed0"
    names = ("commonsense.json", "mtbench.json", "mtbench/answers.json")
    before = {name: (cell / name).read_text() for name in names}
    target = str((cell / "finetune.json").relative_to(copied.folder))
    assert copied.snakemake("--force", target) == ["train:full/seed0"]
    assert planned(copied) == {"track_cell", "tables", "report", "track", "all"}
    # In one go, with everything behind it: the jobs start, and find their results proven.
    (cell / "finetune.json").unlink()
    printed = owlore_run(copied)
    assert "train: 1 cell, not made yet" in printed
    for rule in ("evaluate", "answer", "judge"):
        assert re.search(rf"^{rule} \S+: is there, with the same inputs", printed, re.M), printed
    assert {name: (cell / name).read_text() for name in names} == before


def test_lost_records_and_other_time_stamps_neither_retrain_nor_lie(copied: Workspace):
    shutil.rmtree(copied.folder / ".snakemake")
    files = [path for path in copied.root.rglob("*") if path.is_file()]
    for place, path in enumerate(sorted(files, reverse=True)):
        os.utime(path, (1e9 + place,) * 2)
    weights = {path: path.stat().st_mtime_ns for path in copied.root.rglob("*.safetensors")}
    printed = owlore_run(copied)
    assert not computed(printed), printed
    assert {path: path.stat().st_mtime_ns for path in weights} == weights

    # What proves something else is told by a plain snakemake too, which stops.
    shutil.rmtree(copied.folder / ".snakemake")
    edit(copied, "optim/lowrank.py")
    copied.snakemake(expect=1)
    assert "train: 2 cells, code changed: owlore/optim/lowrank.py" in copied.printed
    assert "owlore accept" in copied.printed and "Traceback" not in copied.printed
    study = ("--study", "study.yaml")
    refused = owlore(copied, "tables", *study, expect=1)
    assert "train: 2 cells, code changed: owlore/optim/lowrank.py" in refused

    # Accepted on somebody's word, and the tables say so.
    owlore(copied, "accept", *study, "--because", "nothing but a name")
    printed = owlore_run(copied)
    assert not computed(printed), printed
    table = (copied.root / "tables" / "commonsense.md").read_text()
    assert "nothing but a name" in table


def test_a_file_of_another_cell_is_not_taken_for_this_one(copied: Workspace):
    cells = copied.root / "mini" / "toy"
    shutil.copy(cells / "full/seed0/commonsense.json", cells / "owlore/seed0/commonsense.json")
    printed = owlore_run(copied, "-n")
    assert "evaluate: 1 cell, input changed: weights" in printed
    refused = owlore(copied, "tables", "--study", "study.yaml", expect=1)
    assert "owlore/seed0/commonsense.json" in refused
