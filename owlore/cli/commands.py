"""What each command does: turn its options into a call of one stage.

Heavy modules are imported by the command that needs them, so that `--help` and `check` are quick.
"""

import argparse
import json
from pathlib import Path

from owlore.cli.options import (
    asked_methods,
    benchmark_of,
    device_of,
    known,
    method_of,
    mtbench_of,
    needed,
    study_and_root,
    study_of,
    use_threads,
    weights_of,
)
from owlore.core import ranks
from owlore.study.config import TRANSPORT, Cell, load_study


def check(options: argparse.Namespace) -> None:
    """Validate a study and say what it would run and need; load no model."""
    from owlore.plan import check as planning
    from owlore.plan import pin as pinning
    from owlore.study.fit import check_models

    study = load_study(Path(options.study))
    check_models(study, options.resources)
    missing = pinning.unpinned(study)
    if missing:
        print(f"not pinned yet, `owlore pin {options.study}` does it: {', '.join(missing)}")
    print(planning.describe(study, options.results / study.study, options.resources), flush=True)
    if options.gpu_memory is None:
        return
    use_threads(1)
    from owlore.plan import card as card_plan

    plan = card_plan.make(study, options.resources, options.gpu_memory, options.cache)
    print(card_plan.text(plan, study, options.tflops, options.gpu_memory))
    if options.write is not None:
        card_plan.write(Path(options.study), plan, options.gpu_memory, options.write)
        print(f"written: {options.write}, which fits: owlore run --configfile {options.write}")
        return
    card_plan.refuse(plan, options.gpu_memory)


def pin(options: argparse.Namespace) -> None:
    """Write the hub's current commits into a study, where it says `revision: unpinned`."""
    from owlore.plan import pin as pinning

    pinned = pinning.pin(options.study)
    if not pinned:
        print(f"pin: {options.study}: nothing is unpinned")
    for place, repository, commit in pinned:
        print(f"pin: {place}: {repository} at {commit}")


def assets(options: argparse.Namespace) -> None:
    """Download the study's archives and check their hashes."""
    from owlore.core.files import write_text
    from owlore.sources.assets import fetch

    study = study_of(options)
    names = list(study.archives) if options.only is None else [options.only]
    for name in names:
        known("--only", name, study.archives)
        path = fetch(name, study.archives[name], options.output)
        receipt = f"{study.archives[name].sha256}  {path.name}\n"
        write_text(path.with_name(f"{path.name}.sha256"), receipt)  # as sha256sum writes it
        print(f"assets: {path} is there and has the right hash", flush=True)


def model(options: argparse.Namespace) -> None:
    """Save a base model as a plain checkpoint."""
    from owlore.core.files import read_json
    from owlore.plan import pin as pinning
    from owlore.sources.base_model import build
    from owlore.study.fit import check_cells

    study = study_of(options)
    pinning.require(study)
    known("--name", options.model_name, study.models)
    source = study.models[options.model_name]
    filename = study.archives[source.archive].filename if source.archive else None
    build(options.model_name, source, options.archives, filename, options.output)
    check_cells(study, options.model_name, read_json(options.output / "model.json"))
    print(f"model {options.model_name}: saved in {options.output}", flush=True)


def questions(options: argparse.Namespace) -> None:
    """Write the embedded questions, calibration text and MT-Bench files."""
    from owlore.questions.stage import build

    build(study_of(options), options.archives, options.output)


def data(options: argparse.Namespace) -> None:
    """Draw a track's training examples."""
    from owlore.core.files import write_jsonl
    from owlore.data.mixture import training_rows
    from owlore.plan import pin as pinning

    study = study_of(options)
    pinning.require(study)
    known("--track", options.track, study.tracks)
    rows = training_rows(study, options.track, options.seed, options.questions)
    write_jsonl(options.output, rows)
    print(f"data {options.track} seed {options.seed}: {len(rows)} training examples", flush=True)


def contamination(options: argparse.Namespace) -> None:
    """Look for a track's benchmark questions in its training examples."""
    use_threads(1)
    from owlore.contamination import stage

    study = study_of(options)
    known("--track", options.track, study.tracks)
    stage.check(study, options.track, options.data, options.questions, options.output)


def outliers(options: argparse.Namespace) -> None:
    """Score every decoder layer of a model."""
    use_threads(options.threads)
    from owlore.outliers import stage

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
        device=device_of(options.device),
    )


def finetune(options: argparse.Namespace) -> None:
    """Train one cell; resumes by itself after it was killed."""
    use_threads(max(1, options.threads // ranks.count()))
    method = method_of(options.method)
    cell = json.loads(options.cell) if options.cell else None
    from owlore.core.progress import line
    from owlore.train import stage

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
        device=device_of(options.device),
        cell=cell,
    )
    label = Cell(**cell).path if cell else str(options.output)
    line(f"finetune {label}: {method.max_steps} steps done")


def evaluate(options: argparse.Namespace) -> None:
    """Score a model on lm-eval tasks, keeping every question."""
    use_threads(options.threads)
    benchmark = benchmark_of(options)
    model_dir, adapter, weights_sha256 = weights_of(options)
    from owlore.evaluate import stage

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
        device=device_of(options.device),
    )


def answer(options: argparse.Namespace) -> None:
    """Let a model answer MT-Bench's questions."""
    use_threads(options.threads)
    spec = mtbench_of(options)
    model_dir, adapter, weights_sha256 = weights_of(options)
    from owlore.mtbench import answer as mtbench

    mtbench.answer(
        model_dir,
        adapter,
        options.questions,
        options.output,
        spec=spec,
        model_id=options.model_id,
        weights_sha256=weights_sha256,
        device=device_of(options.device),
        dtype=options.dtype or spec.dtype,
    )


def judge(options: argparse.Namespace) -> None:
    """Grade MT-Bench answers."""
    use_threads(options.threads)
    spec = mtbench_of(options)
    from owlore.core.files import read_json
    from owlore.mtbench import judge as judging

    described = read_json(options.cell_file) if options.cell_file else {"weights_sha256": ""}
    who = spec.judge
    if options.study is not None:  # the caps and the pace, which change no result
        needed(options, "cell_file")
        asked = study_of(options).tracks[described["track"]].mtbench
        judges = asked.judges if asked is not None else {}
        known("--name", options.judge_name, judges)
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
        device=device_of(options.device),
    )


def memory(options: argparse.Namespace) -> None:
    """Simulate methods' peak memory, without weights and without a GPU."""
    use_threads(1)
    from owlore.memory import simulate as simulation

    if options.data is not None:  # the workflow's: lengths as in the training data
        study = study_of(options)
        known("--name", needed(options, "model_name"), study.models)
        simulation.run_study(
            study, options.model_name, Path(options.model), options.data, options.output
        )
        return
    from owlore.core.progress import Progress
    from owlore.memory import plan as memory_plan
    from owlore.sources import shapes

    name, config = shapes.configuration(options.model)
    wanted = asked_methods(options)
    cache = options.cache or options.output.with_suffix(".cache")
    rows = memory_plan.rows(config, wanted, cache, options.gpu_memory)
    found = list(Progress(rows, desc="memory", unit="method", total=len(wanted)))
    memory_plan.write(name, found, options.output, options.gpu_memory)
    print(memory_plan.table(found, options.gpu_memory))
    if options.gpu_memory is not None:
        print(memory_plan.answer(found, options.gpu_memory))


def tables(options: argparse.Namespace) -> None:
    """Write the comparison tables and figures."""
    from owlore.compare import figures, lineage
    from owlore.compare import tables as stage
    from owlore.compare.results import load

    study, root = study_and_root(options)
    results = load(study, root)
    stage.write_tables(results)
    lineage.write_sources(results)
    figures.write_figures(results)
    print(f"tables: {root / 'tables'}", flush=True)


def explain(options: argparse.Namespace) -> int:
    """Walk from a table's cell back to samples, weights, data and code; 1 if a file was altered."""
    from owlore.report.explanation import explain

    study, root = study_and_root(options)
    return explain(study, root, options.table, options.cell)


def report(options: argparse.Namespace) -> None:
    """Write the offline report page."""
    from owlore.report.page import write_report

    study, root = study_and_root(options)
    write_report(study, root)
    print(f"report: {root / 'report' / 'index.html'}", flush=True)


def track(options: argparse.Namespace) -> None:
    """Log result files to MLflow."""
    from owlore.tracking import stage as tracking

    study, root = study_and_root(options)
    if options.rebuild:
        tracking.rebuild(study, root)
    elif options.initialise:
        tracking.initialise(study, root, needed(options, "output"))
    elif options.cell:
        cell = Cell(**json.loads(options.cell))
        tracking.track_cell(study, root, cell, needed(options, "output"))
    else:
        tracking.track_study(study, root, options.output or root / "receipts" / "study.json")


def schema(options: argparse.Namespace) -> None:
    """Print the JSON schema of a study."""
    from owlore.study.schema import text

    print(text())
