"""What the options of several commands mean: a study, a method, weights, threads, a device."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from owlore.core.errors import BadInput
from owlore.core.parsing import load_yaml, parse
from owlore.records.base import Job
from owlore.records.finetune import FinetuneJob, FinetuneRecord
from owlore.study.config import Benchmark, MTBench, Study, Task, check_study, load_study
from owlore.study.judge import parse_judge
from owlore.study.method import Method, Trained, parse_method

if TYPE_CHECKING:
    from owlore.sources.models import Weights

AnyJob = TypeVar("AnyJob", bound=Job)


def asked_methods(options: argparse.Namespace) -> list[Any]:
    """The methods of the command line with their sizes; equal ones of several tracks are one."""
    from owlore.memory.plan import Asked

    changes = {
        key: value
        for key, value in (
            ("gradient_checkpointing", options.checkpointing),
            ("gradient_accumulation_steps", options.accumulation),
            ("precision", options.precision),
            ("state", options.state),
        )
        if value is not None
    }
    blocks: dict[str, Method] = {}
    if options.study is not None:
        study = study_of(options)
        for track in study.tracks:
            for name in study.run:
                blocks[name] = study.method(name, track, options.model_name)
    for source in options.method or []:
        label = "method" if source.startswith("{") else Path(source).stem
        blocks[label] = method_of(source)
    if not blocks:
        raise BadInput("--method: needed here, or --study")
    asked = []
    for name, block in blocks.items():
        known_keys = type(block).model_fields  # a method without layers has no state to change
        own = {key: value for key, value in changes.items() if key in known_keys}
        method = parse_method({**block.model_dump(), **own}, name)
        if isinstance(method, Trained):
            micro_batch = options.micro_batch or method.per_device_train_batch_size
            asked.append(Asked(name, method, micro_batch, options.seqlen or method.max_length))
    return asked


def job_of(options: argparse.Namespace, kind: type[AnyJob]) -> AnyJob | None:
    """Return the Job of --job, None where the other flags say what is asked.

    Raises:
        BadInput: it is no such Job.
    """
    return kind.of_text(options.job) if options.job else None


def checkpoint_steps_of(options: argparse.Namespace, job: FinetuneJob) -> int | None:
    """Return the study's steps between two checkpoints, which decide no result; None: the Job's."""
    if options.study is None or job.cell is None:
        return None
    method = study_of(options).method(job.cell.method, job.cell.track, job.cell.model)
    return getattr(method, "checkpoint_steps", None)


def weights_of(options: argparse.Namespace) -> "Weights":
    """Return what is to be scored: folders and hash."""
    from owlore.sources.models import Weights, weights_sha256

    if options.cell_file is None:
        model_dir, adapter = needed(options, "model"), options.adapter
        return Weights(model_dir, adapter, weights_sha256(adapter or model_dir))
    cell = FinetuneRecord.load(options.cell_file)
    folder = Path(cell.model_dir)
    if not folder.is_dir():
        raise BadInput(
            f"{options.cell_file}: its weights are gone from {folder}; "
            f"make them again: snakemake -R finetune {options.cell_file}"
        )
    if cell.adapter:
        return Weights(needed(options, "model"), folder, cell.weights_sha256)
    return Weights(folder, None, cell.weights_sha256)


def benchmark_of(options: argparse.Namespace) -> Benchmark:
    """Return the tasks of --benchmark, or those of --tasks with their defaults."""
    if options.benchmark:
        return parse(Benchmark, yaml_or_json("--benchmark", options.benchmark), "--benchmark")
    tasks = {name: Task(limit=options.limit) for name in needed(options, "tasks").split(",")}
    block = {"tasks": tasks, "num_fewshot": options.num_fewshot}
    return parse(Benchmark, block, "--tasks")


def mtbench_of(options: argparse.Namespace) -> MTBench:
    """Return the settings of --spec, the judge of --judge in them; by default the base model's."""
    spec = yaml_or_json("--spec", options.spec) if options.spec else {}
    if getattr(options, "judge", None):
        judge = yaml_or_json("--judge", options.judge)
        spec = {**spec, "judge": parse_judge(judge, "--judge")}
    elif "judge" not in spec:
        spec = {**spec, "judge": {"provider": "transformers", "model": "base"}}
    return parse(MTBench, spec, "--spec")


def method_of(source: str) -> Method:
    """Return the method of a YAML file or of JSON."""
    return parse_method(yaml_or_json("--method", source))


def yaml_or_json(flag: str, source: str) -> dict[str, Any]:
    """Return the mapping that a flag gives as a YAML file or as JSON."""
    if source.startswith("{"):
        try:
            value = json.loads(source)
        except json.JSONDecodeError as error:
            raise BadInput(f"{flag}: not JSON ({error})") from None
    else:
        value = load_yaml(Path(source))
    if not isinstance(value, dict):
        raise BadInput(f"{flag}: {source}: expected a mapping of keys")
    return value


def study_of(options: argparse.Namespace) -> Study:
    """Return the checked study of --study."""
    if options.study.suffix == ".json":  # written by the workflow from a checked study
        from owlore.core.files import read_json

        return check_study(read_json(options.study), str(options.study))
    return load_study(options.study)


def study_and_root(options: argparse.Namespace) -> tuple[Study, Path]:
    """Return the study and its folder below --results."""
    study = study_of(options)
    return study, options.results / study.study


def device_of(wanted: str) -> str:
    """Return the device, `auto` being a GPU where there is one."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(count: int) -> None:
    """Pin the thread count before torch starts: it changes the last bits of sums."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch
    from transformers.utils import logging

    torch.set_num_threads(count)
    # Loading takes a second; our own bars say what takes long.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def known(flag: str, name: str, allowed: Any) -> None:
    """Refuse a name that is none of the allowed ones; BadInput names them."""
    if name not in allowed:
        raise BadInput(f"{flag}: {name!r}: allowed {', '.join(allowed) or 'none'}")


def needed(options: argparse.Namespace, name: str) -> Any:
    """Return an option's value; BadInput if it was not given."""
    value = getattr(options, name)
    if value is None:
        raise BadInput(f"--{name.replace('_', '-')}: needed here")
    return value
