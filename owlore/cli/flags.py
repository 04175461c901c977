"""Flags that several commands share, and the kinds of values that flags take."""

import argparse
from pathlib import Path
from typing import Any

from owlore.cli.command import flag


def positive_int(text: str) -> int:
    """Return a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: must be at least 1")
    return value


def positive_float(text: str) -> float:
    """Return a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number")
    return value


FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
FOLDER: dict[str, Any] = {"type": Path, "metavar": "DIR"}
STUDY_FILE: dict[str, Any] = {"type": Path, "metavar": "STUDY.yaml"}

STUDY = flag("--study", **STUDY_FILE, required=True, help="the study")
RESULTS = flag("--results", **FOLDER, default=Path("results"))
JOB = flag("--job", metavar="JSON", help="all that decides the result, instead of such flags")
ARCHIVES = flag("--archives", **FOLDER, default=Path("resources/archives"))
QUESTIONS = flag("--questions", **FOLDER, default=Path("questions"), help="embedded questions")
OUTPUT_FILE = flag("--output", **FILE, required=True)
OUTPUT_FOLDER = flag("--output", **FOLDER, required=True)
SPEC = flag("--spec", help="MT-Bench settings: a YAML file, or JSON")
GPU_MEMORY: dict[str, Any] = {"type": positive_float, "metavar": "GIB"}

THREADS = flag("--threads", type=positive_int, default=1, help="CPU threads of the job")
DEVICE = flag("--device", choices=["auto", "cpu", "cuda"], default="auto")
DTYPE = flag("--dtype", choices=["float32", "bfloat16"], help="default: the benchmark's")
WEIGHTS = (
    flag("--model", **FOLDER, help="base or full checkpoint"),
    flag("--adapter", **FOLDER, help="peft adapter on --model"),
    flag("--cell-file", **FILE, help="finetune.json: names the weights itself"),
)
