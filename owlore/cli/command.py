"""What a command is: what it is called and does, its flags, and where it writes result files."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

from owlore import __version__
from owlore.core.errors import BadInput
from owlore.core.parsing import load_yaml


@dataclass(frozen=True)
class Flag:
    """One flag or positional argument, as argparse's add_argument takes it."""

    names: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def option(self) -> str:
        """The attribute of the parsed options that holds its value."""
        return str(self.settings.get("dest") or self.names[0].lstrip("-").replace("-", "_"))


def flag(*names: str, **settings: Any) -> Flag:
    """Return a flag; the arguments are those of argparse's add_argument."""
    return Flag(names, settings)


@dataclass(frozen=True)
class Command:
    """One command of the command line.

    Attributes:
        function: what it does; its name is the command's, its docstring the command's help.
        flags: in the order in which `--help` shows them.
        outputs: options that name files or folders of results that it writes; caches, which
            decide nothing and may be thrown away, are not named.
        study_folder: it writes into its study's folder, `<results>/<study>`.
        snakemake: its arguments are Snakemake's, and it writes whatever the workflow does.
    """

    function: Callable[[argparse.Namespace], int | None]
    flags: Sequence[Flag] = ()
    outputs: tuple[str, ...] = ()
    study_folder: bool = False
    snakemake: bool = False

    @property
    def name(self) -> str:
        """What is typed."""
        return self.function.__name__

    @property
    def writes(self) -> bool:
        """Whether it writes result files: then `owlore run` does not start beside it."""
        return bool(self.outputs) or self.study_folder or self.snakemake

    def written(self, options: argparse.Namespace, directory: Path) -> list[Path]:
        """Return the files and folders that a call writes, Snakemake's own apart.

        Args:
            options: of the call.
            directory: that the call works in.

        Raises:
            BadInput: its study cannot be read.
        """
        given = [getattr(options, name) for name in self.outputs]
        paths = [directory / path for path in given if path is not None]
        if self.study_folder:
            name = study_name(directory / options.study)
            if name is None:
                raise BadInput(f"{options.study}: study: this key is required")
            paths.append(directory / options.results / name)
        return paths


def study_name(file: Path) -> str | None:
    """Return what a study's file calls it, None if it has no name; the rest is not checked.

    Raises:
        BadInput: the file is missing or not YAML (JSON is).
    """
    block = load_yaml(file)
    name = block.get("study") if isinstance(block, dict) else None
    return name if isinstance(name, str) else None


def parse(commands: Sequence[Command], arguments: list[str]) -> argparse.Namespace:
    """Parse a command line; Snakemake's arguments are passed on as they are.

    Returns:
        The options, with `command` the row of the table.

    Raises:
        SystemExit: after `--help`, or after one line about what is wrong (code 2).
    """
    first = next((command for command in commands if arguments[:1] == [command.name]), None)
    if first is not None and first.snakemake and not {"-h", "--help"} & set(arguments):
        return argparse.Namespace(command=first, arguments=arguments[1:])
    return parser(commands).parse_args(arguments)


def parse_quietly(commands: Sequence[Command], arguments: list[str]) -> argparse.Namespace | None:
    """Return what `parse` does; None, and no word, where it would stop."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()), suppress(SystemExit):
        return parse(commands, arguments)
    return None


def parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    whole = _OneLineErrors(
        prog="owlore",
        description="The command line: one command a stage, each usable without Snakemake.",
    )
    whole.add_argument("--version", action="version", version=f"owlore {__version__}")
    stages = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        added = stages.add_parser(
            command.name,
            help=(command.function.__doc__ or "").rstrip("."),
            description=command.function.__doc__,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        for each in command.flags:
            added.add_argument(*each.names, **each.settings)
        added.set_defaults(command=command)
    return whole


class _OneLineErrors(argparse.ArgumentParser):
    """A parser that answers a wrong flag with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")
