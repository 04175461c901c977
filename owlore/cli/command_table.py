"""The table of commands: each row is a command, its flags, and where it writes result files.

The parser, `owlore run`'s look at what is still running, and the tests read this table: a further
command is a function in `commands.py` and a row here.
"""

import argparse
from pathlib import Path

from owlore.cli import commands
from owlore.cli.command import Command, flag
from owlore.cli.flags import (
    ARCHIVES,
    DEVICE,
    DTYPE,
    FILE,
    FOLDER,
    GPU_MEMORY,
    JOB,
    OUTPUT_FILE,
    OUTPUT_FOLDER,
    QUESTIONS,
    RESULTS,
    SPEC,
    STUDY,
    STUDY_FILE,
    THREADS,
    WEIGHTS,
    positive_float,
    positive_int,
)


def run(options: argparse.Namespace) -> int:
    """Run Snakemake here, clearing a stale lock first and respecting a live run."""
    from owlore.cli import launch

    # It stands here and not in commands.py because it needs the whole table, to tell which
    # processes write results.
    return launch.run(options.arguments, COMMANDS)


COMMANDS = [
    # Of a study as a whole.
    Command(
        commands.check,
        flags=[
            flag("study", metavar="STUDY.yaml"),
            RESULTS,
            flag("--resources", **FOLDER, default=Path("resources")),
            flag("--gpu-memory", **GPU_MEMORY, help="simulate; does every cell fit?"),
            flag(
                "--tflops",
                type=positive_float,
                default=50.0,
                help="assumed to be sustained, for hours",
            ),
            flag("--write", **FILE, help="a copy of the study that fits the card"),
            flag("--cache", **FOLDER, default=Path("resources/memory"), help="of simulations"),
        ],
    ),
    Command(commands.pin, flags=[flag("study", **STUDY_FILE)]),
    Command(commands.schema),
    Command(
        run,
        flags=[flag("arguments", nargs="*", help="Snakemake's own, such as --cores all")],
        snakemake=True,
    ),
    # What is fetched and drawn.
    Command(
        commands.assets,
        outputs=("output",),
        flags=[
            STUDY,
            flag("--output", **FOLDER, required=True, help="folder for the archives"),
            flag("--only", metavar="NAME", help="just this archive"),
        ],
    ),
    Command(
        commands.model,
        outputs=("output",),
        flags=[
            JOB,
            STUDY,
            flag("--name", dest="model_name", required=True, help="the model's name"),
            ARCHIVES,
            OUTPUT_FOLDER,
        ],
    ),
    Command(commands.questions, outputs=("output",), flags=[JOB, STUDY, ARCHIVES, OUTPUT_FOLDER]),
    Command(
        commands.data,
        outputs=("output",),
        flags=[
            JOB,
            STUDY,
            flag("--track", required=True, metavar="NAME"),
            flag("--seed", type=int, required=True),
            QUESTIONS,
            OUTPUT_FILE,
        ],
    ),
    Command(
        commands.contamination,
        outputs=("output",),
        flags=[
            JOB,
            STUDY,
            flag("--track", required=True, metavar="NAME"),
            flag("--data", **FOLDER, required=True, help="folder of <track>/seed<k>.jsonl"),
            QUESTIONS,
            OUTPUT_FILE,
        ],
    ),
    # Training, and what it needs.
    Command(
        commands.outliers,
        outputs=("output",),
        flags=[
            JOB,
            flag("--model", **FOLDER, required=True),
            flag("--text", **FILE, required=True, help="JSONL with a text column"),
            OUTPUT_FILE,
            flag("--threshold", type=positive_float, default=13.0, help="M"),
            flag("--thresholds", type=positive_float, nargs="*", default=[3, 5, 7, 10, 13]),
            flag("--samples", type=positive_int, default=128, help="windows of text"),
            flag("--seqlen", type=positive_int, default=2048, help="tokens a window"),
            flag("--seed", type=int, default=0),
            flag("--name", dest="model_name", help="name to record"),
            THREADS,
            DEVICE,
        ],
    ),
    Command(
        commands.finetune,
        outputs=("output",),
        flags=[
            JOB,
            flag("--model", **FOLDER, required=True),
            flag("--data", **FILE, help="JSONL of training rows"),
            flag("--method", metavar="METHOD.yaml", help="a file, or JSON"),
            flag("--study", **STUDY_FILE, help="with --job: take checkpoint_steps from here"),
            flag("--outliers", **FILE, help="outlier scores of this model"),
            flag("--seed", type=int, default=0),
            flag("--output", **FOLDER, required=True, help="the cell's folder"),
            flag("--cell", help=argparse.SUPPRESS),
            THREADS,
            DEVICE,
        ],
    ),
    Command(
        commands.memory,
        outputs=("output",),
        flags=[
            JOB,
            flag(
                "--model",
                required=True,
                help="a checkpoint folder, a config.json, or a published shape",
            ),
            flag("--method", action="append", metavar="METHOD.yaml", help="a file, or JSON"),
            flag("--study", **STUDY_FILE, help="all methods of a study"),
            flag("--name", dest="model_name", help="with --study: the model's name in it"),
            flag("--micro-batch", type=positive_int, help="sequences in a forward pass"),
            flag("--seqlen", type=positive_int, help="tokens in each; default: max_length"),
            flag("--accumulation", type=positive_int, help="micro-batches in a step"),
            flag("--checkpointing", action=argparse.BooleanOptionalAction, default=None),
            flag("--precision", help="of all methods, instead of their own"),
            flag("--state", choices=["drop", "keep", "offload"], help="of sleeping layers"),
            flag("--gpu-memory", **GPU_MEMORY, help="what fits in it?"),
            flag("--cache", **FOLDER, help="earlier results; default: beside the output"),
            flag("--data", **FOLDER, help="with --study: lengths from <track>/seed<k>.jsonl"),
            flag("--output", **FILE, required=True, help="JSON; the table and figure beside"),
        ],
    ),
    # Scores.
    Command(
        commands.evaluate,
        outputs=("output", "samples"),
        flags=[
            JOB,
            *WEIGHTS,
            flag("--tasks", help="comma-separated lm-eval tasks"),
            flag(
                "--benchmark",
                help="tasks with metrics and revisions, as in a study: a YAML file, or JSON",
            ),
            flag("--num-fewshot", type=int, default=0),
            flag("--limit", type=positive_int, help="a seeded subset of N questions a task"),
            flag("--data-dir", **FOLDER, help="local questions instead of the hub"),
            flag("--engine", choices=["shared-prefix", "plain"], default="shared-prefix"),
            OUTPUT_FILE,
            flag("--samples", **FOLDER, required=True, help="folder for per-question rows"),
            THREADS,
            DEVICE,
            DTYPE,
        ],
    ),
    Command(
        commands.answer,
        outputs=("output",),
        flags=[
            JOB,
            *WEIGHTS,
            flag("--questions", **FILE, required=True),
            SPEC,
            flag("--model-id", default="model", help="name to record in the answers"),
            OUTPUT_FILE,
            THREADS,
            DEVICE,
            DTYPE,
        ],
    ),
    Command(
        commands.judge,
        outputs=("output", "scores"),
        flags=[
            JOB,
            flag("--questions", **FILE, required=True),
            flag("--prompts", **FILE, required=True),
            flag("--references", **FILE, required=True),
            flag("--answers", **FILE, required=True),
            flag("--judge", metavar="JUDGE.yaml", help="the judge block, instead of --spec's"),
            SPEC,
            flag("--base-model", **FOLDER, help="what `model: base` means"),
            flag("--cell-file", **FILE, help="finetune.json of the judged cell"),
            flag("--output", **FILE, required=True, help="judgments.jsonl"),
            flag("--scores", **FILE, help="mtbench.json"),
            flag(
                "--study",
                **STUDY_FILE,
                help="with --cell-file: take concurrency, time limit and caps from here",
            ),
            flag("--name", dest="judge_name", default="", help="with --study: a further judge"),
            THREADS,
            DEVICE,
        ],
    ),
    # What is read in the end.
    Command(commands.tables, study_folder=True, flags=[STUDY, RESULTS]),
    Command(commands.report, study_folder=True, flags=[STUDY, RESULTS]),
    Command(
        commands.track,
        study_folder=True,
        outputs=("output",),
        flags=[
            STUDY,
            RESULTS,
            flag("--cell", help="log this cell: JSON with track, model, method, seed"),
            flag("--initialise", action="store_true", help="only make the database"),
            flag("--rebuild", action="store_true", help="log everything again from the files"),
            flag("--output", **FILE, help="receipt to write"),
        ],
    ),
    Command(
        commands.accept,
        study_folder=True,
        flags=[
            flag("names", nargs="*", metavar="CELL", help="cells, models, tracks; none: all"),
            flag("--because", required=True, metavar="TEXT", help="why; the tables show it"),
            STUDY,
            RESULTS,
            flag("--resources", **FOLDER, default=Path("resources")),
        ],
    ),
    Command(
        commands.explain,
        flags=[
            flag("table", metavar="TABLE", help="such as commonsense, efficiency, significance"),
            flag("cell", metavar="CELL", help="ROW:COLUMN, such as owlore:average"),
            flag("--study", **STUDY_FILE, default=Path("config.yaml")),
            RESULTS,
        ],
    ),
]
