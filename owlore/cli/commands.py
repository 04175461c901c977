"""What each command does: turn its options into a call of one stage.

Heavy modules are imported by the command that needs them, so that `--help` and `check` are quick.
"""

import argparse
import json
from pathlib import Path

from owlore.cli.options import (
    asked_methods,
    benchmark_of,
    checkpoint_steps_of,
    device_of,
    job_of,
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
from owlore.core.parsing import parse
from owlore.study.config import Calibration, Cell, load_study
from owlore.study.judge import TRANSPORT
from owlore.study.method import Base


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
    from owlore.plan import pin as pinning
    from owlore.records.sources import ModelJob
    from owlore.sources import base_model as stage
    from owlore.study.fit import check_cells

    study = study_of(options)
    pinning.require(study)
    known("--name", options.model_name, study.models)
    job = job_of(options, ModelJob) or ModelJob.of(study, options.model_name)
    record = stage.run(job, options.archives, options.output)
    check_cells(study, options.model_name, record.model_dump())
    print(f"model {options.model_name}: saved in {options.output}", flush=True)


def questions(options: argparse.Namespace) -> None:
    """Write the embedded questions, calibration text and MT-Bench files."""
    from owlore.data.pools import require_files
    from owlore.questions import stage
    from owlore.records.questions import QuestionsJob

    study = study_of(options)
    require_files(study.questions)
    job = job_of(options, QuestionsJob) or QuestionsJob.of(study)
    stage.run(job, options.archives, options.output)


def data(options: argparse.Namespace) -> None:
    """Draw a track's training examples."""
    from owlore.data import mixture as stage
    from owlore.plan import pin as pinning
    from owlore.records.data import DataJob

    study = study_of(options)
    pinning.require(study)
    known("--track", options.track, study.tracks)
    job = job_of(options, DataJob) or DataJob.of(study, options.track, options.seed)
    job = job.in_order_of(study.tracks[options.track].train)
    record = stage.run(job, options.questions, options.output)
    print(f"data {job.track} seed {job.seed}: {record.rows} training examples", flush=True)


def contamination(options: argparse.Namespace) -> None:
    """Look for a track's benchmark questions in its training examples."""
    use_threads(1)
    from owlore.contamination import stage
    from owlore.records.contamination import ContaminationJob

    study = study_of(options)
    known("--track", options.track, study.tracks)
    job = job_of(options, ContaminationJob) or ContaminationJob.of(study, options.track)
    stage.run(job, options.data, options.questions, options.output)


def outliers(options: argparse.Namespace) -> None:
    """Score every decoder layer of a model."""
    use_threads(options.threads)
    from owlore.outliers import stage
    from owlore.records.outliers import OutliersJob

    keys = ("samples", "seqlen", "seed", "threshold", "thresholds")
    block = {"text": str(options.text), **{key: getattr(options, key) for key in keys}}
    job = job_of(options, OutliersJob) or OutliersJob(
        model=options.model_name or options.model.name,
        calibration=parse(Calibration, block, "--text"),
    )
    stage.run(job, options.model, options.text, options.output, device_of(options.device))


def finetune(options: argparse.Namespace) -> None:
    """Train one cell; resumes by itself after it was killed."""
    use_threads(max(1, options.threads // ranks.count()))
    from owlore.core.progress import line
    from owlore.records.finetune import FinetuneJob

    job = job_of(options, FinetuneJob)
    if job is None:
        cell = Cell(**json.loads(options.cell)) if options.cell else None
        method = method_of(needed(options, "method"))
        job = FinetuneJob(cell=cell, method=method, seed=options.seed)
    if isinstance(job.method, Base):
        from owlore.train import base

        base.run(job, options.model, options.output)
        return
    from owlore.train import stage

    inputs = stage.Inputs(options.model, needed(options, "data"), options.outliers)
    device = device_of(options.device)
    record = stage.run(job, inputs, options.output, device, checkpoint_steps_of(options, job))
    if record is not None and record.steps:
        label = job.cell.path if job.cell is not None else str(options.output)
        line(f"finetune {label}: {record.steps} steps done")


def evaluate(options: argparse.Namespace) -> None:
    """Score a model on lm-eval tasks, keeping every question."""
    use_threads(options.threads)
    from owlore.records.evaluation import EvaluationJob

    job = job_of(options, EvaluationJob)
    if job is None:
        settings = benchmark_of(options)
        if options.dtype is not None:
            settings = settings.model_copy(update={"dtype": options.dtype})
        job = EvaluationJob(benchmark=options.output.stem, settings=settings, engine=options.engine)
    weights = weights_of(options)
    from owlore.evaluate import stage

    stage.run(
        job,
        weights,
        options.output,
        options.samples,
        data_dir=options.data_dir,
        device=device_of(options.device),
    )


def answer(options: argparse.Namespace) -> None:
    """Let a model answer MT-Bench's questions."""
    use_threads(options.threads)
    from owlore.records.mtbench import AnswerJob

    job = job_of(options, AnswerJob)
    if job is None:
        job = AnswerJob.of_settings(mtbench_of(options), options.model_id)
        if options.dtype is not None:
            job = job.model_copy(update={"dtype": options.dtype})
    weights = weights_of(options)
    from owlore.mtbench import answer as stage

    stage.run(job, weights, options.questions, options.output, device_of(options.device))


def judge(options: argparse.Namespace) -> None:
    """Grade MT-Bench answers."""
    use_threads(options.threads)
    from owlore.mtbench import judge as stage
    from owlore.records.finetune import FinetuneRecord
    from owlore.records.mtbench import JudgeJob

    cell = FinetuneRecord.load(options.cell_file) if options.cell_file else None
    job, pace = job_of(options, JudgeJob), None
    if job is None:
        asked = mtbench_of(options)
        job, pace = JudgeJob.of_settings(asked, asked.judge), asked.judge
    if options.study is not None:  # the caps and the pace, which change no result
        needed(options, "cell_file")
        study = study_of(options)
        track = (cell.track if cell is not None else None) or ""
        known("--cell-file", track, study.tracks)
        study_asks = study.tracks[track].mtbench
        judges = study_asks.judges if study_asks is not None else {}
        known("--name", options.judge_name, judges)
        own = judges[options.judge_name].model_dump(include=set(TRANSPORT))
        pace = job.judge.model_copy(update=own)
    stage.run(
        job,
        stage.Inputs(
            questions=options.questions,
            prompts=options.prompts,
            references=options.references,
            answers=options.answers,
            base_model=options.base_model,
            weights_sha256=cell.weights_sha256 if cell is not None else "",
        ),
        options.output,
        options.scores or options.output.with_suffix(".scores.json"),
        pace=pace,
        device=device_of(options.device),
    )


def memory(options: argparse.Namespace) -> None:
    """Simulate methods' peak memory, without weights and without a GPU."""
    use_threads(1)
    from owlore.core.progress import Progress
    from owlore.records.memory import MemoryJob

    if options.data is not None:  # the workflow's: lengths as in the training data
        from owlore.memory import stage

        job = job_of(options, MemoryJob)
        if job is None:
            study = study_of(options)
            known("--name", needed(options, "model_name"), study.models)
            job = MemoryJob.of(study, options.model_name)
        stage.run(job, Path(options.model), options.data, options.output)
        return
    from owlore.memory import plan as memory_plan
    from owlore.sources import shapes

    name, config = shapes.configuration(options.model)
    wanted = asked_methods(options)
    cache = options.cache or options.output.with_suffix(".cache")
    rows = memory_plan.rows(config, wanted, cache, options.gpu_memory)
    simulated = list(Progress(rows, desc="memory", unit="method", total=len(wanted)))
    memory_plan.write(name, simulated, options.output, options.gpu_memory)
    print(memory_plan.table(simulated, options.gpu_memory))
    if options.gpu_memory is not None:
        print(memory_plan.answer(simulated, options.gpu_memory))


def tables(options: argparse.Namespace) -> None:
    """Write the comparison tables and figures."""
    from owlore.compare import stage

    study, root = study_and_root(options)
    stage.run(study, root)
    print(f"tables: {root / 'tables'}", flush=True)


def accept(options: argparse.Namespace) -> None:
    """Take results of other code as they are; the reason is shown in every table."""
    from owlore.compare.accept import accept

    study, root = study_and_root(options)
    taken = accept(study, root, options.resources, options.names, options.because)
    for result in taken:
        print(f"accepted: {result.path} ({result.why})")
    if not taken:
        print("accept: no result is of other code")


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
