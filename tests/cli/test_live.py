"""Which live processes would write beside `owlore run`. Real processes, cases from the table."""

import re
from pathlib import Path

import pytest
from support.waiting_jobs import put_stand_ins, running

from owlore.cli import commands as functions
from owlore.cli.command import Command
from owlore.cli.command_table import COMMANDS
from owlore.cli.live import busy, command_of, study_of_run, working_directory

WRITERS = [command for command in COMMANDS if command.writes]
READERS = [command for command in COMMANDS if not command.writes]
RULES = Path(__file__).resolve().parents[2] / "workflow" / "rules"


def name(command: Command) -> str:
    return command.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the study `mine` is run; the study `other` is there too."""
    folder = tmp_path / "here"
    put_stand_ins(folder)
    for study in ("mine", "other"):
        (folder / f"{study}.yaml").write_text(f"study: {study}\n")
    return folder


def a_call(command: Command, outputs: str, study: str) -> list[str]:
    """What `python` is called with: all that is required, outputs in the folder `outputs`."""
    words = ["-m", "owlore", command.name]
    for flag in command.flags:
        positional = not flag.names[0].startswith("-")
        if flag.option == "study":
            value = f"{study}.yaml"
        elif flag.option in command.outputs:
            value = f"{outputs}/{flag.option}"
        elif flag.settings.get("required") or (positional and not flag.settings.get("nargs")):
            value = "1" if flag.settings.get("type") is int else "x"
        else:
            continue
        words += [value] if positional else [flag.names[0], value]
    return words


def seen(folder: Path, *words: str, cwd: Path | None = None, study: str | None = "mine") -> bool:
    """Whether a process with this command line keeps the study in `folder` from being run."""
    with running(cwd or folder, *words) as process:
        lines = busy(folder, study, COMMANDS)
        mine = [line for line in lines if line.startswith(f"pid {process.pid} ")]
    assert mine == lines
    return bool(mine)


@pytest.mark.parametrize("command", WRITERS, ids=name)
def test_every_command_that_writes_into_the_study_is_seen(command: Command, folder: Path) -> None:
    assert seen(folder, *a_call(command, "results/mine/cell", "mine"))


@pytest.mark.parametrize("command", WRITERS, ids=name)
def test_a_command_that_writes_elsewhere_is_not(command: Command, folder: Path) -> None:
    elsewhere = folder.parent / "there"
    put_stand_ins(elsewhere)
    (elsewhere / "other.yaml").write_text("study: other\n")
    call = a_call(command, "results/other/cell", "other")
    assert not seen(folder, *call, cwd=elsewhere)
    if not command.snakemake:  # a run locks the whole directory, whichever study it is of
        assert not seen(folder, *call)
        assert seen(folder, *call, study=None)  # whose folder may be the run's


@pytest.mark.parametrize("command", READERS, ids=name)
def test_a_command_that_writes_no_result_is_never_seen(command: Command, folder: Path) -> None:
    assert not seen(folder, *a_call(command, "results/mine", "mine"))
    assert not seen(folder, "-m", "owlore", command.name, "--no-such-flag")


@pytest.mark.parametrize("command", WRITERS, ids=name)
def test_what_does_not_tell_where_it_writes_counts_where_it_works(
    command: Command, folder: Path
) -> None:
    elsewhere = folder.parent / "there"
    put_stand_ins(elsewhere)
    call = ("-m", "owlore", command.name, *([] if command.snakemake else ["--no-such-flag"]))
    assert seen(folder, *call)
    assert not seen(folder, *call, cwd=elsewhere)


def test_a_study_that_cannot_be_read_counts_where_it_works(folder: Path) -> None:
    assert seen(folder, "-m", "owlore", "report", "--study", "gone.yaml")


def test_resources_are_every_studys(folder: Path) -> None:
    model = ["model", "--study", "other.yaml", "--name", "x", "--output"]
    assert seen(folder, "-m", "owlore", *model, "resources/models/x")
    assert not seen(folder, "-m", "owlore", *model, "resources-of-mine/x")
    assert not seen(folder, "-m", "owlore", *model, "results/mine2/x")


def test_it_counts_where_the_files_lie_not_where_the_process_works(folder: Path) -> None:
    elsewhere = folder.parent / "there"
    put_stand_ins(elsewhere)
    (folder / "results").symlink_to(folder.parent / "scratch")
    memory = ["-m", "owlore", "memory", "--model", "x", "--output"]
    assert seen(folder, *memory, str(folder / "results/mine/memory/x.json"), cwd=elsewhere)
    assert seen(folder, *memory, "../scratch/mine/memory/x.json", cwd=elsewhere)
    assert seen(folder, *memory, "./there/../results/mine/x.json")
    assert not seen(folder, *memory, "../scratch/mine.json", cwd=elsewhere)


@pytest.mark.parametrize(
    "launcher",
    [
        ["owlore.cli.devices", "1"],
        ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "owlore"],
    ],
    ids=["devices", "torchrun"],
)
def test_jobs_that_a_launcher_starts_are_told_like_others(
    launcher: list[str], folder: Path
) -> None:
    train = ["finetune", "--model", "x", "--method", "{}", "--output"]
    assert seen(folder, "-m", *launcher, *train, "results/mine/cell")
    assert not seen(folder, "-m", *launcher, *train, "elsewhere")


def test_a_run_that_works_here_is_seen_wherever_it_was_started(folder: Path) -> None:
    elsewhere = folder.parent / "there"
    put_stand_ins(elsewhere)
    assert seen(folder, "-m", "owlore", "run", "--directory", str(folder), cwd=elsewhere)
    assert not seen(folder, "-m", "owlore", "run", "--directory", str(elsewhere))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/usr/bin/python3.11 -m snakemake --cores 2", ["snakemake", "--cores", "2"]),
        ("/x/python /x/bin/snakemake -n", ["snakemake", "-n"]),
        ("python -u -X dev -m owlore finetune", ["owlore", "finetune"]),
        ("python -m owlore.cli.devices 1 finetune", ["owlore", "finetune"]),
        (
            "python -m torch.distributed.run --standalone -m owlore x -m y",
            ["owlore", "x", "-m", "y"],
        ),
        ("/x/python /x/bin/torchrun --nproc-per-node=2 -m owlore x", ["owlore", "x"]),
        ("python -m torch.distributed.run train.py", []),
        ("/x/bin/owlore run", ["owlore", "run"]),
        ("python -c pass snakemake", []),
        ("vim workflow/Snakefile", ["vim", "workflow/Snakefile"]),
        ("grep snakemake", ["grep", "snakemake"]),
        ("python", []),
        ("", []),
    ],
)
def test_command_lines_are_told_apart(line: str, expected: list[str]) -> None:
    assert command_of(line.split()) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--cores 1", "default"),
        ("--cores 1 --configfile mine.yaml", "mine"),
        ("--configfile=mine.yaml -n", "mine"),
        ("--configfiles mine.yaml other.yaml --cores 1", "other"),
        ("--configfile other.yaml nameless.yaml", "other"),
        ("--configfile nameless.yaml", "default"),
        ("--configfile mine.yaml --config seeds=[1] study=named", "named"),
        ("-C study=named", "named"),
        ("--configfile gone.yaml", None),
        ("--configfile", None),
        ("--conf mine.yaml", None),
        ("--workflow-profile profiles/slurm", None),
        ("--workflow-profile profiles/slurm --configfile mine.yaml", "mine"),
    ],
)
def test_the_study_of_a_run(
    arguments: str, expected: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    work = folder / "work"
    work.mkdir()
    (work / "config.yaml").write_text("study: default\n")
    (folder / "nameless.yaml").write_text("seeds: [1]\n")
    assert study_of_run(arguments.split(), work) == expected


def test_a_run_without_a_study_file_names_none(tmp_path: Path) -> None:
    assert study_of_run([], tmp_path) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("", "."), ("-d x", "x"), ("--cores 1 --directory=x/../y", "y"), ("--directory", ".")],
)
def test_the_directory_of_a_run(arguments: str, expected: str, tmp_path: Path) -> None:
    assert working_directory(arguments.split(), tmp_path) == (tmp_path / expected).resolve()


# The table itself, held against what does not read it.


def test_every_function_of_commands_is_a_row_once():
    written = re.findall(r"^def (\w+)\(", Path(functions.__file__).read_text(), re.M)
    assert sorted(map(name, COMMANDS)) == sorted([*written, "run"])


def test_an_output_flag_is_an_output():
    for command in COMMANDS:
        options = [flag.option for flag in command.flags]
        assert set(command.outputs) <= set(options), command.name
        assert ("output" in options) == ("output" in command.outputs), command.name


def test_what_the_rules_call_is_known_to_write_what_they_say():
    """Each rule's shell line is the oracle: a flag whose value is `{output…}` names a result."""
    rows = {command.name: command for command in COMMANDS}
    called = set()
    for file in RULES.glob("*.smk"):
        text = re.sub(r'"\s*\n\s*"', "", file.read_text())
        for command, rest in re.findall(r"python -m owlore(?:\.cli\.devices \S+)? (\w+)(.*)", text):
            called.add(command)
            assert rows[command].writes, command
            flags = re.findall(r"--([\w-]+) \{output", rest)
            assert set(flags) <= set(rows[command].outputs), command
    by_hand = {"accept"}  # a person's word; no rule gives it
    assert called | by_hand == {command.name for command in WRITERS if not command.snakemake}
