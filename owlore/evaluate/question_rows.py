"""One row a question, from lm-eval's logged samples, and what they add up to for a task.

A multiple-choice row holds the log-likelihood of each choice; a generated answer (GSM8K) holds the
text. `correct` is acc, or exact_match by lm-eval's strict filter; `correct_norm` is acc_norm (for
generated answers the same as `correct`); `correct_flexible` is exact_match by the flexible filter.
"""

import math
from typing import Any

import numpy as np
from lm_eval.api.metrics import mean, mean_stderr

from owlore.core.errors import BadInput
from owlore.core.files import sha256_text
from owlore.evaluate.metrics import CORRECT, FLEXIBLE, metrics_of
from owlore.evaluate.shared_prefix import SharedPrefixLM
from owlore.records.evaluation import GroupScore, TaskScore
from owlore.study.config import Benchmark

Row = dict[str, Any]
# Columns that several questions may share: BoolQ's passage, Social IQa's story, HellaSwag's video.
PASSAGES = ("passage", "context", "source_id")
STRICT = "strict-match"  # lm-eval's filter of GSM8K


def question_rows(
    lm: SharedPrefixLM, name: str, task: Any, first: int, samples: list[dict[str, Any]]
) -> list[Row]:
    """Turn the logged samples of one lm-eval task into rows.

    Args:
        lm: the model, which knows what it truncated.
        name: the task's name in the benchmark, of itself or of its group.
        task: lm-eval's task.
        first: number of the task's first question within its group.
        samples: as `lm_eval.evaluate` logs them: one a question and filter.

    Raises:
        BadInput: a log-likelihood is not finite, or a gold answer is none of the choices.
    """
    generated = task.OUTPUT_TYPE == "generate_until"
    by_question: dict[int, list[dict[str, Any]]] = {}
    for sample in samples:
        by_question.setdefault(sample["doc_id"], []).append(sample)
    rows = []
    for number, found in by_question.items():
        sample = found[0]
        own = _generated(found) if generated else _chosen(task, sample)
        rows.append(
            {
                "task": name,
                "subject": _subject(name, task),
                "doc_id": first + number,
                "doc_hash": sample["doc_hash"],
                "cluster": _cluster(sample),
                **own,
                "truncated": any(
                    (pair[0], None if generated else pair[1]) in lm.truncated
                    for pair in sample["arguments"]
                ),
            }
        )
    return rows


def _cluster(sample: dict[str, Any]) -> str:
    """Name what a question shares with others: a cluster of ours, or the text it comes from."""
    doc = sample["doc"]
    if doc.get("cluster"):
        return str(doc["cluster"])
    texts = [doc[key] for key in PASSAGES if isinstance(doc.get(key), str) and doc[key].strip()]
    return sha256_text(texts[0])[:16] if texts else str(sample["doc_hash"])


def _subject(name: str, task: Any) -> str:
    """Return which member of a group a task is; empty for a task that stands for itself."""
    return "" if task.task_name == name else str(task.task_name).removeprefix(f"{name}_")


def _chosen(task: Any, sample: dict[str, Any]) -> Row:
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
        "gold": gold,
        "prediction": prediction,
        "prediction_norm": prediction_norm,
        "correct": bool(sample.get("acc", prediction == gold)),
        "correct_norm": bool(sample.get("acc_norm", prediction_norm == gold)),
        "loglikelihoods": likelihoods,
    }


def _generated(found: list[dict[str, Any]]) -> Row:
    by_filter = {sample["filter"]: sample for sample in found}
    strict = by_filter.get(STRICT, found[0])
    flexible = by_filter.get(FLEXIBLE, strict)
    correct = bool(strict["exact_match"])
    return {
        "target": str(strict["target"]),
        "response": str(strict["resps"][0][0]),
        "correct": correct,
        "correct_norm": correct,
        "correct_flexible": bool(flexible["exact_match"]),
    }


def task_summary(name: str, members: list[Any], rows: list[Row], benchmark: Benchmark) -> TaskScore:
    """Aggregate one task, or a group with its subgroups, with lm-eval's mean and standard error."""
    metric = benchmark.tasks[name].metric
    numbers: dict[str, Any] = {}
    for key in _metrics(members):
        numbers |= _mean_and_error(key, rows)
    groups = {_subject(name, member): member.config.metadata.get("group") for member in members}
    of_group: dict[str, GroupScore] = {}
    for group in sorted({group for group in groups.values() if group}):
        own = [row for row in rows if groups[row["subject"]] == group]
        if own:
            scores: dict[str, Any] = _mean_and_error(metric, own)
            of_group[group] = GroupScore(n=len(own), **scores)
    return TaskScore(
        metric=metric,
        value=numbers[metric],
        stderr=numbers[f"{metric}_stderr"],
        **numbers,
        n=len(rows),
        n_available=sum(len(member.eval_docs) for member in members),
        num_fewshot=members[0].config.num_fewshot,
        version=members[0].VERSION,
        revision=members[0].config.metadata.get("revision"),
        split=members[0].config.metadata["split"],
        truncated=sum(row["truncated"] for row in rows),
        groups=of_group or None,
    )


def _metrics(members: list[Any]) -> list[str]:
    """Return the metrics that all members have, in the order of CORRECT."""
    have = set.intersection(*(metrics_of(member) for member in members))
    return [metric for metric in CORRECT if metric in have]


def _mean_and_error(metric: str, rows: list[Row]) -> dict[str, float | None]:
    values = [float(row[CORRECT[metric]]) for row in rows]
    return {
        metric: mean(values),
        f"{metric}_stderr": mean_stderr(values) if len(values) > 1 else None,
    }
