"""What each command does: turn its options into a call of one stage.

Heavy modules are imported by the command that needs them, so that `--help` and `check` are quick.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from owlore.config import (
    TRANSPORT,
    Benchmark,
    Cell,
    Judge,
    MTBench,
    Study,
    Task,
    check_study,
    load_study,
)
from owlore.errors import BadInput
from owlore.method import Method
from owlore.parsing import load_yaml, parse


def check(options: argparse.Namespace) -> None:
    """Validate a study and say what it would run and need; load no model."""
    from owlore import pinning, planning
    from owlore.fit import check_models

    study = load_study(Path(options.study))
    check_models(study, options.resources)
    missing = pinning.unpinned(study)
    if missing:
        print(f"not pinned yet, `owlore pin {options.study}` does it: {', '.join(missing)}")
    print(planning.describe(study, options.results / study.study, options.resources), flush=True)
    if options.gpu_memory is None:
        return
    _use_threads(1)
    from owlore import card_plan

    plan = card_plan.make(study, options.resources, options.gpu_memory, options.cache)
    print(card_plan.text(plan, study, options.tflops, options.gpu_memory))
    if options.write is not None:
        card_plan.write(Path(options.study), plan, options.gpu_memory, options.write)
        print(f"written: {options.write}, which fits: owlore run --configfile {options.write}")
        return
    card_plan.refuse(plan, options.gpu_memory)


def pin(options: argparse.Namespace) -> None:
    """Write the hub's current commits into a study, where it says `revision: unpinned`."""
    from owlore import pinning

    pinned = pinning.pin(options.study)
    if not pinned:
        print(f"pin: {options.study}: nothing is unpinned")
    for place, repository, commit in pinned:
        print(f"pin: {place}: {repository} at {commit}")


def assets(options: argparse.Namespace) -> None:
    """Download the study's archives and check their hashes."""
    from owlore.assets import fetch
    from owlore.files import write_text

    study = _study(options)
    names = list(study.archives) if options.only is None else [options.only]
    for name in names:
        if name not in study.archives:
            raise BadInput(f"--only: {name!r}: allowed {', '.join(study.archives) or 'none'}")
        path = fetch(name, study.archives[name], options.output)
        receipt = f"{study.archives[name].sha256}  {path.name}\n"
        write_text(path.with_name(f"{path.name}.sha256"), receipt)  # as sha256sum writes it
        print(f"assets: {path} is there and has the right hash", flush=True)


def model(options: argparse.Namespace) -> None:
    """Save a base model as a plain checkpoint."""
    from owlore import models, pinning
    from owlore.files import read_json
    from owlore.fit import check_cells

    study = _study(options)
    pinning.require(study)
    if options.model_name not in study.models:
        raise BadInput(f"--name: {options.model_name!r}: allowed {', '.join(study.models)}")
    source = study.models[options.model_name]
    filename = study.archives[source.archive].filename if source.archive else None
    models.build(options.model_name, source, options.archives, filename, options.output)
    check_cells(study, options.model_name, read_json(options.output / "model.json"))
    print(f"model {options.model_name}: saved in {options.output}", flush=True)


def questions(options: argparse.Namespace) -> None:
    """Write the embedded questions, calibration text and MT-Bench files."""
    from owlore.questions import build

    build(_study(options), options.archives, options.output)


def data(options: argparse.Namespace) -> None:
    """Draw a track's training examples."""
    from owlore import pinning
    from owlore.data import training_rows
    from owlore.files import write_jsonl

    study = _study(options)
    pinning.require(study)
    _known("--track", options.track, study.tracks)
    rows = training_rows(study, options.track, options.seed, options.questions)
    write_jsonl(options.output, rows)
    print(f"data {options.track} seed {options.seed}: {len(rows)} training examples", flush=True)


def contamination(options: argparse.Namespace) -> None:
    """Look for a track's benchmark questions in its training examples."""
    _use_threads(1)
    from owlore import contamination as stage

    study = _study(options)
    _known("--track", options.track, study.tracks)
    stage.check(study, options.track, options.data, options.questions, options.output)


def outliers(options: argparse.Namespace) -> None:
    """Score every decoder layer of a model."""
    _use_threads(options.threads)
    from owlore import score_layers as stage

    stage.run(
        options.model,
        options.text,
        options.output,
        samples=options.samples,
        seqlen=options.seqlen,
        seed=options.seed,
        threshold=options.threshold,
        thresholds=options.thresholds,
        name=options.model_name or options.model.name,
    )


def finetune(options: argparse.Namespace) -> None:
    """Train one cell; resumes by itself after it was killed."""
    _use_threads(options.threads)
    method = _method(options.method)
    cell = json.loads(options.cell) if options.cell else None
    from owlore import finetune as stage
    from owlore.progress import line

    if method.trainable == "none":
        stage.describe_base(options.model, options.output, cell or {})
        return
    stage.finetune(
        options.model,
        options.data,
        method,
        options.output,
        seed=options.seed,
        outliers=options.outliers,
        device=_device(options.device),
        cell=cell,
    )
    label = Cell(**cell).path if cell else str(options.output)
    line(f"finetune {label}: {method.max_steps} steps done")


def evaluate(options: argparse.Namespace) -> None:
    """Score a model on lm-eval tasks, keeping every question."""
    _use_threads(options.threads)
    benchmark = _benchmark(options)
    model_dir, adapter, weights_sha256 = _weights(options)
    from owlore import evaluate as stage

    stage.evaluate(
        model_dir,
        adapter,
        benchmark,
        options.output,
        options.samples,
        data_dir=options.data_dir,
        weights_sha256=weights_sha256,
        engine=options.engine,
        dtype=options.dtype or benchmark.dtype,
        device=_device(options.device),
    )


def answer(options: argparse.Namespace) -> None:
    """Let a model answer MT-Bench's questions."""
    _use_threads(options.threads)
    spec = _mtbench(options)
    model_dir, adapter, weights_sha256 = _weights(options)
    from owlore import mtbench

    mtbench.answer(
        model_dir,
        adapter,
        options.questions,
        options.output,
        spec=spec,
        model_id=options.model_id,
        weights_sha256=weights_sha256,
        device=_device(options.device),
        dtype=options.dtype or spec.dtype,
    )


def judge(options: argparse.Namespace) -> None:
    """Grade MT-Bench answers."""
    _use_threads(options.threads)
    spec = _mtbench(options)
    from owlore import judging
    from owlore.files import read_json

    described = read_json(options.cell_file) if options.cell_file else {"weights_sha256": ""}
    who = spec.judge
    if options.study is not None:  # the caps and the pace, which change no result
        _needed(options, "cell_file")
        asked = _study(options).tracks[described["track"]].mtbench
        judges = asked.judges if asked is not None else {}
        _known("--name", options.judge_name, judges)
        pace = {key: getattr(judges[options.judge_name], key) for key in TRANSPORT}
        who = who.model_copy(update=pace)
    judging.judge(
        options.questions,
        options.prompts,
        options.references,
        options.answers,
        options.output,
        judge=who,
        spec=spec,
        base_model=options.base_model,
        weights_sha256=described["weights_sha256"],
        scores=options.scores or options.output.with_suffix(".scores.json"),
        device=_device(options.device),
    )


def memory(options: argparse.Namespace) -> None:
    """Simulate methods' peak memory, without weights and without a GPU."""
    _use_threads(1)
    from owlore import simulation

    if options.data is not None:  # the workflow's: lengths as in the training data
        study = _study(options)
        _known("--name", _needed(options, "model_name"), study.models)
        simulation.run_study(
            study, options.model_name, Path(options.model), options.data, options.output
        )
        return
    from owlore import memory_plan, shapes
    from owlore.progress import Progress

    name, config = shapes.configuration(options.model)
    wanted = _asked(options)
    cache = options.cache or options.output.with_suffix(".cache")
    rows = memory_plan.rows(config, wanted, cache, options.gpu_memory)
    found = list(Progress(rows, desc="memory", unit="method", total=len(wanted)))
    memory_plan.write(name, found, options.output, options.gpu_memory)
    print(memory_plan.table(found, options.gpu_memory))
    if options.gpu_memory is not None:
        print(memory_plan.answer(found, options.gpu_memory))


def _asked(options: argparse.Namespace) -> list[Any]:
    """The methods of the command line with their sizes; equal ones of several tracks are one."""
    from owlore.memory_plan import Asked

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
        study = _study(options)
        for track in study.tracks:
            for name in study.run:
                blocks[name] = study.method(name, track, options.model_name)
    for source in options.method or []:
        label = "method" if source.startswith("{") else Path(source).stem
        blocks[label] = _method(source)
    if not blocks:
        raise BadInput("--method: needed here, or --study")
    asked = []
    for name, method in blocks.items():
        if method.trainable == "none":
            continue
        own = {k: v for k, v in changes.items() if k != "state" or method.trainable == "layers"}
        changed = parse(Method, {**method.model_dump(), **own}, name)
        micro_batch = options.micro_batch or changed.per_device_train_batch_size
        asked.append(Asked(name, changed, micro_batch, options.seqlen or changed.max_length))
    return asked


def tables(options: argparse.Namespace) -> None:
    """Write the comparison tables and figures."""
    from owlore import figures, lineage
    from owlore import tables as stage
    from owlore.results import load

    study, root = _study_and_root(options)
    results = load(study, root)
    stage.write_tables(results)
    lineage.write_sources(results)
    figures.write_figures(results)
    print(f"tables: {root / 'tables'}", flush=True)


def explain(options: argparse.Namespace) -> int:
    """Walk from a table's cell back to samples, weights, data and code; 1 if a file was altered."""
    from owlore import lineage
    from owlore.explanation import explain
    from owlore.progress import line
    from owlore.results import load

    study, root = _study_and_root(options)
    changed = lineage.altered(root)
    try:
        return explain(load(study, root), options.table, options.cell)
    except Exception as error:
        if not changed:
            raise
        # An altered file may break the reading of it in any way.
        line(f"cannot be explained: {error!r}")
        line(f"not what was recorded: {', '.join(map(str, changed))}")
        return 1


def report(options: argparse.Namespace) -> None:
    """Write the offline report page."""
    from owlore.report import write_report

    study, root = _study_and_root(options)
    write_report(study, root)
    print(f"report: {root / 'report' / 'index.html'}", flush=True)


def track(options: argparse.Namespace) -> None:
    """Log result files to MLflow."""
    from owlore import tracking

    study, root = _study_and_root(options)
    if options.rebuild:
        tracking.rebuild(study, root)
    elif options.initialise:
        tracking.initialise(study, root, _needed(options, "output"))
    elif options.cell:
        cell = Cell(**json.loads(options.cell))
        tracking.track_cell(study, root, cell, _needed(options, "output"))
    else:
        tracking.track_study(study, root, options.output or root / "receipts" / "study.json")


def schema(options: argparse.Namespace) -> None:
    """Print the JSON schema of a study."""
    from owlore.schema import text

    print(text())


def run(options: argparse.Namespace) -> int:
    """Run Snakemake, clearing a stale lock and respecting a live run."""
    from owlore import launch

    return launch.run(options.arguments)


def _weights(options: argparse.Namespace) -> tuple[Path, Path | None, str]:
    """Return model folder, adapter folder and hash of the weights to score."""
    from owlore import models
    from owlore.files import read_json

    if options.cell_file is None:
        model_dir, adapter = _needed(options, "model"), options.adapter
        return model_dir, adapter, models.weights_sha256(adapter or model_dir)
    cell = read_json(options.cell_file)
    folder = Path(cell["model_dir"])
    if not folder.is_dir():
        raise BadInput(
            f"{options.cell_file}: its weights are gone from {folder}; "
            f"make them again: snakemake -R finetune {options.cell_file}"
        )
    if cell["adapter"]:
        return _needed(options, "model"), folder, cell["weights_sha256"]
    return folder, None, cell["weights_sha256"]


def _benchmark(options: argparse.Namespace) -> Benchmark:
    if options.benchmark:
        return parse(Benchmark, _yaml_or_json("--benchmark", options.benchmark), "--benchmark")
    tasks = {name: Task(limit=options.limit) for name in _needed(options, "tasks").split(",")}
    block = {"tasks": tasks, "num_fewshot": options.num_fewshot}
    return parse(Benchmark, block, "--tasks")


def _mtbench(options: argparse.Namespace) -> MTBench:
    spec = _yaml_or_json("--spec", options.spec) if options.spec else {}
    if getattr(options, "judge", None):
        judge = _yaml_or_json("--judge", options.judge)
        spec = {**spec, "judge": parse(Judge, judge, "--judge")}
    elif "judge" not in spec:
        spec = {**spec, "judge": {"provider": "transformers", "model": "base"}}
    return parse(MTBench, spec, "--spec")


def _method(source: str) -> Method:
    return parse(Method, _yaml_or_json("--method", source), "method")


def _yaml_or_json(flag: str, source: str) -> dict[str, Any]:
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


def _study(options: argparse.Namespace) -> Study:
    if options.study.suffix == ".json":  # written by the workflow from a checked study
        from owlore.files import read_json

        return check_study(read_json(options.study), str(options.study))
    return load_study(options.study)


def _study_and_root(options: argparse.Namespace) -> tuple[Study, Path]:
    study = _study(options)
    return study, options.results / study.study


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _use_threads(count: int) -> None:
    """Pin the thread count before torch starts: it changes the last bits of sums."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch
    from transformers.utils import logging

    torch.set_num_threads(count)
    # Loading takes a second; our own bars say what takes long.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _known(flag: str, name: str, known: Any) -> None:
    if name not in known:
        raise BadInput(f"{flag}: {name!r}: allowed {', '.join(known)}")


def _needed(options: argparse.Namespace, name: str) -> Any:
    value = getattr(options, name)
    if value is None:
        raise BadInput(f"--{name.replace('_', '-')}: needed here")
    return value
