"""The command line: one command a stage, each usable without Snakemake.

Run as: `owlore COMMAND --help`, or `python -m owlore COMMAND`. Bad input ends with exit code 2 and
one line on stderr.
"""

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from owlore import __version__
from owlore.cli import commands
from owlore.core import ranks
from owlore.core.errors import BadInput, OwloreError

Command = Callable[[argparse.Namespace], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _options(sys.argv[1:] if arguments is None else list(arguments))
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return options.command(options) or 0
    except OwloreError as error:
        if isinstance(error, BadInput) and not ranks.is_first():
            time.sleep(5)  # the first rank says it too, and torchrun stops us when it has ended
            return error.exit_code
        print(f"owlore {options.name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            print(f"owlore {options.name}: {error.filename}: the disk is full", file=sys.stderr)
            return 2
        raise


# Jobs run side by side: idle threads must not spin, and nothing may phone home.
QUIET = {
    "KINETO_LOG_LEVEL": "99",  # of torch's profiler: each start and stop
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # of the same: blocks freed that it has not seen allocated
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


def _options(arguments: list[str]) -> argparse.Namespace:
    """Parse the arguments; what follows `run` is Snakemake's and is passed on as it is."""
    if arguments[:1] == ["run"] and not {"-h", "--help"} & set(arguments):
        return argparse.Namespace(name="run", command=commands.run, arguments=arguments[1:])
    return _parser().parse_args(arguments)


class _OneLineErrors(argparse.ArgumentParser):
    """A parser that answers a wrong flag with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineErrors(prog="owlore", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--version", action="version", version=f"owlore {__version__}")
    stages = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def stage(function: Command) -> argparse.ArgumentParser:
        """A command whose result a Job decides; the flags say it in words."""
        added = command(function)
        added.add_argument("--job", metavar="JSON", help=argparse.SUPPRESS)
        return added

    def command(function: Command) -> argparse.ArgumentParser:
        added = stages.add_parser(
            function.__name__,
            help=(function.__doc__ or "").rstrip("."),
            description=function.__doc__,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        added.set_defaults(command=function)
        return added

    folder: dict[str, Any] = {"type": Path, "metavar": "DIR"}
    file: dict[str, Any] = {"type": Path, "metavar": "FILE"}
    study: dict[str, Any] = {
        "type": Path,
        "required": True,
        "metavar": "STUDY.yaml",
        "help": "the study",
    }

    sub = command(commands.check)
    sub.add_argument("study", metavar="STUDY.yaml")
    sub.add_argument("--results", **folder, default=Path("results"))
    sub.add_argument("--resources", **folder, default=Path("resources"))
    sub.add_argument(
        "--gpu-memory", type=_positive_float, metavar="GIB", help="simulate; does every cell fit?"
    )
    sub.add_argument(
        "--tflops", type=_positive_float, default=50.0, help="assumed to be sustained, for hours"
    )
    sub.add_argument("--write", **file, help="a copy of the study that fits the card")
    sub.add_argument("--cache", **folder, default=Path("resources/memory"), help="of simulations")

    sub = command(commands.pin)
    sub.add_argument("study", type=Path, metavar="STUDY.yaml")

    sub = command(commands.assets)
    sub.add_argument("--study", **study)
    sub.add_argument("--output", **folder, required=True, help="folder for the archives")
    sub.add_argument("--only", metavar="NAME", help="just this archive")

    sub = stage(commands.model)
    sub.add_argument("--study", **study)
    sub.add_argument("--name", dest="model_name", required=True, help="the model's name")
    sub.add_argument("--archives", **folder, default=Path("resources/archives"))
    sub.add_argument("--output", **folder, required=True)

    sub = stage(commands.questions)
    sub.add_argument("--study", **study)
    sub.add_argument("--archives", **folder, default=Path("resources/archives"))
    sub.add_argument("--output", **folder, required=True)

    sub = stage(commands.data)
    sub.add_argument("--study", **study)
    sub.add_argument("--track", required=True, metavar="NAME")
    sub.add_argument("--seed", type=int, required=True)
    sub.add_argument("--questions", **folder, default=Path("questions"), help="embedded questions")
    sub.add_argument("--output", **file, required=True)

    sub = stage(commands.contamination)
    sub.add_argument("--study", **study)
    sub.add_argument("--track", required=True, metavar="NAME")
    sub.add_argument("--data", **folder, required=True, help="folder of <track>/seed<k>.jsonl")
    sub.add_argument("--questions", **folder, default=Path("questions"), help="embedded questions")
    sub.add_argument("--output", **file, required=True)

    sub = stage(commands.outliers)
    sub.add_argument("--model", **folder, required=True)
    sub.add_argument("--text", **file, required=True, help="JSONL with a text column")
    sub.add_argument("--output", **file, required=True)
    sub.add_argument("--threshold", type=_positive_float, default=13.0, help="M")
    sub.add_argument("--thresholds", type=_positive_float, nargs="*", default=[3, 5, 7, 10, 13])
    sub.add_argument("--samples", type=_positive_int, default=128, help="windows of text")
    sub.add_argument("--seqlen", type=_positive_int, default=2048, help="tokens a window")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--name", dest="model_name", help="name to record")
    _add_threads(sub)
    _add_device(sub)

    sub = stage(commands.finetune)
    sub.add_argument("--model", **folder, required=True)
    sub.add_argument("--data", **file, help="JSONL of training rows")
    sub.add_argument("--method", metavar="METHOD.yaml", help="a file, or JSON")
    sub.add_argument("--study", type=Path, metavar="STUDY.yaml", help=argparse.SUPPRESS)
    sub.add_argument("--outliers", **file, help="outlier scores of this model")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--output", **folder, required=True, help="the cell's folder")
    sub.add_argument("--cell", help=argparse.SUPPRESS)
    _add_threads(sub)
    _add_device(sub)

    sub = stage(commands.evaluate)
    _add_weights(sub)
    sub.add_argument("--tasks", help="comma-separated lm-eval tasks")
    sub.add_argument(
        "--benchmark", help="tasks with metrics and revisions, as in a study: a YAML file, or JSON"
    )
    sub.add_argument("--num-fewshot", type=int, default=0)
    sub.add_argument("--limit", type=_positive_int, help="a seeded subset of N questions a task")
    sub.add_argument("--data-dir", **folder, help="local questions instead of the hub")
    sub.add_argument("--engine", choices=["shared-prefix", "plain"], default="shared-prefix")
    sub.add_argument("--output", **file, required=True)
    sub.add_argument("--samples", **folder, required=True, help="folder for per-question rows")
    _add_threads(sub)
    _add_device(sub)
    _add_dtype(sub)

    sub = stage(commands.answer)
    _add_weights(sub)
    sub.add_argument("--questions", **file, required=True)
    sub.add_argument("--spec", help="MT-Bench settings: a YAML file, or JSON")
    sub.add_argument("--model-id", default="model", help="name to record in the answers")
    sub.add_argument("--output", **file, required=True)
    _add_threads(sub)
    _add_device(sub)
    _add_dtype(sub)

    sub = stage(commands.judge)
    sub.add_argument("--questions", **file, required=True)
    sub.add_argument("--prompts", **file, required=True)
    sub.add_argument("--references", **file, required=True)
    sub.add_argument("--answers", **file, required=True)
    sub.add_argument("--judge", metavar="JUDGE.yaml", help="the judge block, instead of --spec's")
    sub.add_argument("--spec", help="MT-Bench settings: a YAML file, or JSON")
    sub.add_argument("--base-model", **folder, help="what `model: base` means")
    sub.add_argument("--cell-file", **file, help="finetune.json of the judged cell")
    sub.add_argument("--output", **file, required=True, help="judgments.jsonl")
    sub.add_argument("--scores", **file, help="mtbench.json")
    sub.add_argument(
        "--study",
        type=Path,
        metavar="STUDY.yaml",
        help="with --cell-file: take concurrency, time limit and caps from here",
    )
    sub.add_argument("--name", dest="judge_name", default="", help="with --study: a further judge")
    _add_threads(sub)
    _add_device(sub)

    sub = stage(commands.memory)
    sub.add_argument(
        "--model", required=True, help="a checkpoint folder, a config.json, or a published shape"
    )
    sub.add_argument("--method", action="append", metavar="METHOD.yaml", help="a file, or JSON")
    sub.add_argument("--study", type=Path, metavar="STUDY.yaml", help="all methods of a study")
    sub.add_argument("--name", dest="model_name", help="with --study: the model's name in it")
    sub.add_argument("--micro-batch", type=_positive_int, help="sequences in a forward pass")
    sub.add_argument("--seqlen", type=_positive_int, help="tokens in each; default: max_length")
    sub.add_argument("--accumulation", type=_positive_int, help="micro-batches in a step")
    sub.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=None)
    sub.add_argument("--precision", help="of all methods, instead of their own")
    sub.add_argument("--state", choices=["drop", "keep", "offload"], help="of sleeping layers")
    sub.add_argument("--gpu-memory", type=_positive_float, metavar="GIB", help="what fits in it?")
    sub.add_argument("--cache", **folder, help="earlier results; default: beside the output")
    sub.add_argument("--data", **folder, help="with --study: lengths from <track>/seed<k>.jsonl")
    sub.add_argument("--output", **file, required=True, help="JSON; the table and figure beside")

    for function in (commands.tables, commands.report, commands.track):
        sub = command(function)
        sub.add_argument("--study", **study)
        sub.add_argument("--results", **folder, default=Path("results"))
    sub.add_argument("--cell", help="log this cell: JSON with track, model, method, seed")
    sub.add_argument("--initialise", action="store_true", help="only make the database")
    sub.add_argument("--rebuild", action="store_true", help="log everything again from the files")
    sub.add_argument("--output", **file, help="receipt to write")

    sub = command(commands.explain)
    sub.add_argument("table", metavar="TABLE", help="such as commonsense, efficiency, significance")
    sub.add_argument("cell", metavar="CELL", help="ROW:COLUMN, such as owlore:average")
    sub.add_argument("--study", type=Path, default=Path("config.yaml"), metavar="STUDY.yaml")
    sub.add_argument("--results", **folder, default=Path("results"))

    command(commands.schema)

    sub = stages.add_parser("run", help="Run Snakemake here, clearing a stale lock first")
    sub.add_argument("arguments", nargs="*", help="Snakemake's own, such as --cores all")
    sub.set_defaults(command=commands.run)
    return parser


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_positive_int, default=1, help="CPU threads of the job")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def _add_dtype(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: the benchmark's")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="DIR", help="base or full checkpoint")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="peft adapter on --model")
    parser.add_argument(
        "--cell-file", type=Path, metavar="FILE", help="finetune.json: names the weights itself"
    )


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: must be at least 1")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number")
    return value
