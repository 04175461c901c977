"""Score a checkpoint on a benchmark with lm-eval, and keep every question.

lm-eval builds the prompts, asks for the log-likelihood of each choice and decides what is correct;
this module loads the model, draws the questions, and writes two files: the aggregates as JSON, and
one row a question as Parquet, so that methods can be compared question by question.

    owlore evaluate --model DIR --tasks wordnet_antonym,quartz_mini --data-dir DIR \\
        --output commonsense.json --samples samples/

Nothing is cached between models: lm-eval's own caches do not know which model filled them. A killed
evaluation goes on behind the tasks that it had finished.
"""

import logging
import math
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval
import pandas as pd
import torch
from lm_eval.api.metrics import mean
from transformers import PreTrainedModel

from owlore.core import provenance
from owlore.core.errors import BadInput
from owlore.core.files import replacing, sha256_file, sha256_text
from owlore.core.progress import Progress, line
from owlore.evaluate import questions_read
from owlore.evaluate.draw import drawn
from owlore.evaluate.finished_tasks import FinishedTasks
from owlore.evaluate.lm_tasks import load_tasks
from owlore.evaluate.question_rows import Row, question_rows, task_summary
from owlore.evaluate.shared_prefix import SharedPrefixLM
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.evaluation import EvaluationJob, EvaluationRecord
from owlore.sources import models
from owlore.study.config import Benchmark

ENGINES = ("shared-prefix", "plain")


def run(
    job: EvaluationJob,
    weights: models.Weights,
    output: Path,
    samples: Path,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
) -> EvaluationRecord:
    """Score one model on one benchmark.

    Args:
        job: the tasks, metrics, subsets and few-shot settings; with engine `shared-prefix` each
            context is read once, `plain` is lm-eval's own `HFLM`.
        weights: what is scored.
        output: the aggregates, `<benchmark's name>.json`; written last.
        samples: folder of the rows, `<benchmark's name>.parquet`.
        data_dir: local copies of the questions; default: the benchmark's own `data_dir`.
        device: in torch's notation.

    Raises:
        BadInput: see `load_tasks`; an unknown engine or dtype; no checkpoint or adapter in a
            folder; a log-likelihood that is not finite.
    """
    settings = job.settings
    for key, value, allowed in (
        ("engine", job.engine, ENGINES),
        ("dtype", settings.dtype, models.DTYPES),
    ):
        if value not in allowed:
            raise BadInput(f"{key}: {value}: allowed: {', '.join(allowed)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device: {device}: this machine has no CUDA device; allowed: cpu")
    if data_dir is None and settings.data_dir is not None:
        data_dir = Path(settings.data_dir)
    read = {"weights": weights.sha256}
    if data_dir is not None:  # a hub's commits stand in the Job
        read["questions"] = questions_read.digest(data_dir, settings.tasks)
    asked = proof.of(job, __name__, read)
    record = proof.kept(EvaluationRecord, output, asked, f"evaluate {output}")
    if record is None:
        record = _scored(job, weights, output, samples, data_dir, device, asked)
        _report(record)
    return record


def _scored(
    job: EvaluationJob,
    weights: models.Weights,
    output: Path,
    samples: Path,
    data_dir: Path | None,
    device: str,
    asked: Proof,
) -> EvaluationRecord:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns about each override
    started, clock = provenance.now(), time.monotonic()
    settings, engine = job.settings, job.engine
    tasks = load_tasks(settings, data_dir)
    lm = _language_model(weights, settings, engine, device)
    if engine == "shared-prefix" and lm.why_plain is not None:
        print(f"{output.stem}: contexts are not shared: {lm.why_plain}")
        engine = "plain"
    decides = {"job": asked.job, "code": asked.code, "weights": weights.sha256}
    decides |= {"engine": engine, "device": device, "lm_eval": version("lm_eval")}
    finished = FinishedTasks(samples / f".{output.stem}.parts", decides)
    rows = _score_all(lm, tasks, settings, finished)

    results = {
        name: task_summary(name, members, rows[name], settings) for name, members in tasks.items()
    }
    errors = [result.stderr for result in results.values() if result.stderr is not None]
    whole = len(errors) == len(results)
    parquet = samples / f"{output.stem}.parquet"
    _write_rows(parquet, rows)
    made = {os.path.relpath(parquet, output.parent): sha256_file(parquet)}
    record = EvaluationRecord(
        benchmark=output.stem,
        weights_sha256=weights.sha256,
        tasks=results,
        average=mean([result.value for result in results.values()]),
        average_stderr=math.hypot(*errors) / len(errors) if whole else None,
        split=settings.split,
        seed=settings.seed,
        engine=engine,
        lm_eval_version=version("lm_eval"),
        dtype=settings.dtype,
        device=device,
        max_length=lm.max_length,
        batch_size=settings.batch_size,
        proof=asked.model_copy(update={"made": made}),
        **provenance.stamp(started, clock),
    )
    record.save(output)
    finished.forget()
    return record


def _language_model(
    weights: models.Weights, benchmark: Benchmark, engine: str, device: str
) -> SharedPrefixLM:
    model: PreTrainedModel = models.load(weights.model, benchmark.dtype)
    if weights.adapter is not None:
        model = models.merged(model, weights.adapter)
    positions = models.positions(model.config) or benchmark.max_length
    return SharedPrefixLM(
        pretrained=model.to(device),  # type: ignore[arg-type]
        tokenizer=models.load_tokenizer(weights.model),
        batch_size=benchmark.batch_size,
        max_length=min(benchmark.max_length, positions),
        share=engine == "shared-prefix",
    )


def _score_all(
    lm: SharedPrefixLM, tasks: dict[str, list[Any]], benchmark: Benchmark, finished: FinishedTasks
) -> dict[str, list[Row]]:
    """Score every task that is not finished yet, under one bar; return the rows of each."""
    asked = {
        name: sum(_requests(member, own) for member, _, own in drawn(name, members, benchmark))
        for name, members in tasks.items()
    }
    rows: dict[str, list[Row]] = {}
    with Progress(total=sum(asked.values()), desc="scoring", unit="request") as bar:
        for name, members in tasks.items():
            questions = _questions(name, members, benchmark)
            kept = finished.rows(name, questions)
            before = bar.n
            if kept is not None:
                rows[name] = kept
                line(f"{name}: was finished before")
            else:
                lm.bar = bar
                rows[name] = _score(lm, name, members, benchmark)
                finished.keep(name, questions, rows[name])
            bar.update(before + asked[name] - bar.n)  # what the model has not reported itself
    return rows


def _requests(task: Any, questions: list[int]) -> int:
    if task.OUTPUT_TYPE == "generate_until":
        return len(questions)
    return sum(len(task.doc_to_choice(task.eval_docs[index])) for index in questions)


def _score(lm: SharedPrefixLM, name: str, members: list[Any], benchmark: Benchmark) -> list[Row]:
    """Run lm-eval on one task's drawn questions; return their rows in order of doc_id.

    A group's questions are numbered through over its members.
    """
    first_of: dict[str, int] = {}
    scored: dict[str, Any] = {}
    chosen: dict[str, list[int]] = {}
    for member, first, own in drawn(name, members, benchmark):
        first_of[member.task_name], scored[member.task_name] = first, member
        if len(own) < len(member.eval_docs):
            chosen[member.task_name] = own
    # `evaluate` and not `simple_evaluate`, which reseeds the global generators and runs git.
    results = lm_eval.evaluate(
        lm=lm,
        task_dict={"tasks": scored},
        samples=chosen,
        log_samples=True,
        bootstrap_iters=2,  # of metrics that are not read here; acc and exact_match need none
    )
    rows = [
        row
        for member, logged in results["samples"].items()
        for row in question_rows(lm, name, scored[member], first_of[member], logged)
    ]
    return sorted(rows, key=lambda row: row["doc_id"])


def _questions(name: str, members: list[Any], benchmark: Benchmark) -> list[Any]:
    """Return what decides a task's rows besides the model: the questions, their shots."""
    decides = []
    for member, _, own in drawn(name, members, benchmark):
        shots = member.config.num_fewshot
        examples = repr(list(member.fewshot_docs())) if shots else ""
        decides.append([member.task_name, member.VERSION, shots, sha256_text(examples)])
        decides[-1] += [repr(member.eval_docs[index]) for index in own]
    return decides


def _write_rows(path: Path, rows: dict[str, list[Row]]) -> None:
    table = pd.DataFrame([row for name in sorted(rows) for row in rows[name]])
    for column in table.columns.intersection(["gold", "prediction", "prediction_norm"]):
        if table[column].hasnans:  # generated answers beside multiple choice
            table[column] = table[column].astype("Int64")
    with replacing(path) as partial:
        table.drop(columns="truncated").to_parquet(partial, index=False)


def _report(record: EvaluationRecord) -> None:
    for name, task in record.tasks.items():
        error = "" if task.stderr is None else f" ± {100 * task.stderr:.1f}"
        notes = [f"{task.n} questions"]
        if task.split != record.split:
            notes.append(f"{task.split} split")
        if task.truncated:
            notes.append(f"{task.truncated} truncated")
        print(f"{name}: {task.metric} {100 * task.value:.1f} %{error} ({', '.join(notes)})")
    print(f"{record.benchmark}: average {100 * record.average:.1f} %")
