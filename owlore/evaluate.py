"""Score a checkpoint on a benchmark with lm-eval, and keep every question.

lm-eval builds the prompts, asks for the log-likelihood of each choice and decides what is correct;
this module loads the model, draws the questions, and writes two files: the aggregates as JSON, and
one row a question as Parquet, so that methods can be compared question by question.

    owlore evaluate --model DIR --tasks wordnet_antonym,quartz_mini --data-dir DIR \\
        --output commonsense.json --samples samples/

Nothing is cached between models: lm-eval's own caches do not know which model filled them.
"""

import logging
import math
import random
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pandas as pd
import torch
from lm_eval.api.metrics import mean, mean_stderr
from transformers import PreTrainedModel

from owlore import models, provenance
from owlore.config import Benchmark
from owlore.errors import BadInput
from owlore.files import replacing, write_json
from owlore.lm_tasks import load_tasks
from owlore.shared_prefix import SharedPrefixLM

ENGINES = ("shared-prefix", "plain")

Row = dict[str, Any]


def evaluate(
    model_dir: Path,
    adapter: Path | None,
    benchmark: Benchmark,
    output: Path,
    samples: Path,
    *,
    data_dir: Path | None,
    weights_sha256: str,
    engine: str = "shared-prefix",
    dtype: str = "float32",
    device: str = "cpu",
) -> None:
    """Score one model on one benchmark.

    Args:
        model_dir: folder of the checkpoint.
        adapter: folder of a peft adapter to merge into it.
        benchmark: the tasks, metrics, subsets and few-shot settings.
        output: the aggregates, `<benchmark's name>.json`; written last.
        samples: folder of the rows, `<benchmark's name>.parquet`.
        data_dir: local copies of the questions; default: the benchmark's own `data_dir`.
        weights_sha256: of what is scored; copied into the result.
        engine: `shared-prefix` reads each context once, `plain` is lm-eval's own `HFLM`.
        dtype: of the weights while scoring, `float32` or `bfloat16`.
        device: in torch's notation.

    Raises:
        BadInput: see `load_tasks`; an unknown engine or dtype; no checkpoint or adapter in a
            folder; a log-likelihood that is not finite.
    """
    for key, value, allowed in (("engine", engine, ENGINES), ("dtype", dtype, models.DTYPES)):
        if value not in allowed:
            raise BadInput(f"{key}: {value}: allowed: {', '.join(allowed)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"device: {device}: this machine has no CUDA device; allowed: cpu")
    if data_dir is None and benchmark.data_dir is not None:
        data_dir = Path(benchmark.data_dir)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns about each override
    started, clock = provenance.now(), time.monotonic()

    tasks = load_tasks(benchmark, data_dir)
    lm = _language_model(model_dir, adapter, benchmark, engine, dtype, device)
    if engine == "shared-prefix" and lm.why_plain is not None:
        print(f"{output.stem}: contexts are not shared: {lm.why_plain}")
        engine = "plain"
    rows = _score(lm, tasks, benchmark)

    results = {
        name: _summary(name, members, rows[name], benchmark) for name, members in tasks.items()
    }
    errors = [result["stderr"] for result in results.values()]
    record = {
        "benchmark": output.stem,
        "weights_sha256": weights_sha256,
        "tasks": results,
        "average": mean([result["value"] for result in results.values()]),
        "average_stderr": None if None in errors else math.hypot(*errors) / len(errors),
        "split": benchmark.split,
        "seed": benchmark.seed,
        "engine": engine,
        "lm_eval_version": version("lm_eval"),
        "dtype": dtype,
        "device": device,
        "max_length": lm.max_length,
        "batch_size": benchmark.batch_size,
        "started": started,
        "ended": provenance.now(),
        "seconds": round(time.monotonic() - clock, 3),
        "versions": provenance.versions(),
        "git": provenance.git_state(),
    }
    _write_rows(samples / f"{output.stem}.parquet", rows)
    write_json(output, record)
    _report(record)


def draw(name: str, available: int, benchmark: Benchmark) -> list[int]:
    """Return the indices of the questions of task `name` to score, in order.

    A task's `limit` draws a subset that depends on the seed and the task's name only.
    """
    limit = benchmark.tasks[name].limit
    if limit is None or limit >= available:
        return list(range(available))
    return sorted(random.Random(f"{benchmark.seed} {name}").sample(range(available), limit))


def _language_model(
    model_dir: Path,
    adapter: Path | None,
    benchmark: Benchmark,
    engine: str,
    dtype: str,
    device: str,
) -> SharedPrefixLM:
    model: PreTrainedModel = models.load(model_dir, dtype)
    if adapter is not None:
        model = models.merged(model, adapter)
    positions = models.positions(model.config) or benchmark.max_length
    return SharedPrefixLM(
        pretrained=model.to(device),  # type: ignore[arg-type]
        tokenizer=models.load_tokenizer(model_dir),
        batch_size=benchmark.batch_size,
        max_length=min(benchmark.max_length, positions),
        share=engine == "shared-prefix",
    )


def _score(
    lm: SharedPrefixLM, tasks: dict[str, list[Any]], benchmark: Benchmark
) -> dict[str, list[Row]]:
    """Run lm-eval on the drawn questions; return the rows of each task in order of doc_id.

    A group's questions are numbered through over its members.
    """
    places: dict[str, tuple[str, int]] = {}  # member -> (name in the benchmark, its first doc_id)
    chosen: dict[str, list[int]] = {}
    scored: dict[str, Any] = {}
    for name, members in tasks.items():
        sizes = [len(member.eval_docs) for member in members]
        drawn = draw(name, sum(sizes), benchmark)
        first = 0
        for member, size in zip(members, sizes, strict=True):
            own = [index - first for index in drawn if first <= index < first + size]
            if own:
                places[member.task_name] = (name, first)
                scored[member.task_name] = member
            if 0 < len(own) < size:
                chosen[member.task_name] = own
            first += size

    # `evaluate` and not `simple_evaluate`, which reseeds the global generators and runs git.
    results = lm_eval.evaluate(
        lm=lm,
        task_dict={"tasks": scored},
        samples=chosen,
        log_samples=True,
        bootstrap_iters=2,  # of metrics that are not read here; acc and acc_norm need none
    )
    rows: dict[str, list[Row]] = {name: [] for name in tasks}
    for member, logged in results["samples"].items():
        name, first = places[member]
        for sample in logged:
            rows[name].append(_row(lm, name, first, scored[member], sample))
    return {name: sorted(found, key=lambda row: row["doc_id"]) for name, found in rows.items()}


def _row(lm: SharedPrefixLM, name: str, first: int, task: Any, sample: dict[str, Any]) -> Row:
    """Turn one of lm-eval's logged samples into a row."""
    doc = sample["doc"]
    choices = task.doc_to_choice(doc)
    likelihoods = [float(value) for value, _ in sample["filtered_resps"][: len(choices)]]
    if not all(map(math.isfinite, likelihoods)):
        raise BadInput(
            f"model: the log-likelihoods of {task.task_name}, question {sample['doc_id']}, are not "
            f"finite: {likelihoods}"
        )
    # Tasks such as winogrande put the choices into the context; the answer is then doc_to_text.
    gold = task.doc_to_text(doc) if task.multiple_input else sample["target"]
    gold = choices.index(gold) if isinstance(gold, str) and gold in choices else gold
    if not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise BadInput(
            f"data: {task.task_name}, question {sample['doc_id']}: answer {gold!r} is not one of "
            f"its {len(choices)} choices"
        )
    prediction = int(np.argmax(likelihoods))
    prediction_norm = int(np.argmax(np.array(likelihoods) / [len(choice) for choice in choices]))
    return {
        "task": name,
        "doc_id": first + sample["doc_id"],
        "doc_hash": sample["doc_hash"],
        "cluster": str(doc.get("cluster") or sample["doc_hash"]),
        "gold": gold,
        "prediction": prediction,
        "prediction_norm": prediction_norm,
        "correct": bool(sample.get("acc", prediction == gold)),
        "correct_norm": bool(sample.get("acc_norm", prediction_norm == gold)),
        "loglikelihoods": likelihoods,
        "truncated": any(tuple(pair) in lm.truncated for pair in sample["arguments"]),
    }


def _summary(name: str, members: list[Any], rows: list[Row], benchmark: Benchmark) -> Row:
    """Aggregate one task with lm-eval's own mean and standard error."""
    metric = benchmark.tasks[name].metric
    scores = {"acc": [float(row["correct"]) for row in rows]}
    if all("acc_norm" in member.aggregation() for member in members):
        scores["acc_norm"] = [float(row["correct_norm"]) for row in rows]
    numbers: dict[str, float | None] = {}
    for key in ("acc", "acc_norm"):
        values = scores.get(key)
        numbers[key] = mean(values) if values else None
        numbers[f"{key}_stderr"] = mean_stderr(values) if values and len(values) > 1 else None
    return {
        "metric": metric,
        "value": numbers[metric],
        "stderr": numbers[f"{metric}_stderr"],
        **numbers,
        "n": len(rows),
        "n_available": sum(len(member.eval_docs) for member in members),
        "num_fewshot": members[0].config.num_fewshot,
        "version": members[0].VERSION,
        "split": members[0].config.metadata["split"],
        "truncated": sum(row["truncated"] for row in rows),
    }


def _write_rows(path: Path, rows: dict[str, list[Row]]) -> None:
    table = pd.DataFrame([row for name in sorted(rows) for row in rows[name]])
    with replacing(path) as partial:
        table.drop(columns="truncated").to_parquet(partial, index=False)


def _report(record: Row) -> None:
    for name, task in record["tasks"].items():
        error = "" if task["stderr"] is None else f" ± {100 * task['stderr']:.1f}"
        notes = [f"{task['n']} questions"]
        if task["split"] != record["split"]:
            notes.append(f"{task['split']} split")
        if task["truncated"]:
            notes.append(f"{task['truncated']} truncated")
        print(f"{name}: {task['metric']} {100 * task['value']:.1f} %{error} ({', '.join(notes)})")
    print(f"{record['benchmark']}: average {100 * record['average']:.1f} %")
