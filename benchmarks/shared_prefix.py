"""Scoring with shared prefixes against lm-eval's own HFLM, on real benchmark questions.

Questions come from a folder of `<task>_<split>.jsonl` files (see README, "Local data"); without it
only the embedded benchmarks are timed. HFLM runs at its best batch size of those given.

Run as: `python benchmarks/shared_prefix.py --data-dir DIR` (most of it HFLM's)
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from measuring import MODEL, Table

from owlore.evaluate.lm_tasks import load_tasks
from owlore.evaluate.lm_tasks import members as members_of
from owlore.evaluate.shared_prefix import SharedPrefixLM
from owlore.evaluate.stage import drawn
from owlore.sources import models
from owlore.study.config import Benchmark
from owlore.train.memory import allocated_peak

MMLU = sorted(members_of("mmlu", TaskManager()))
BATCH_SIZES = (1, 4, 16)  # of HFLM
EMBEDDED = ["wordnet_category", "wordnet_definition", "social_iqa_mini", "quartz_mini"]


def requests_of(names: list[str], shots: int, limit: int, data_dir: Path) -> list[Instance]:
    """Build lm-eval's requests of a seeded subset of each task's questions."""
    benchmark = Benchmark.model_validate(
        {"tasks": {name: {"limit": limit} for name in names}, "num_fewshot": shots}
    )
    found: list[Instance] = []
    for name, members in load_tasks(benchmark, data_dir).items():
        for member, _, own in drawn(name, members, benchmark):
            member.build_all_requests(samples=own)
            found += member.instances
    return found


def few(requests: list[Instance]) -> list[Instance]:
    """Return the requests of about 16 questions, spread over all."""
    questions = list(dict.fromkeys((r.task_name, r.doc_id) for r in requests))
    chosen = set(questions[:: max(1, len(questions) // 16)])
    return [request for request in requests if (request.task_name, request.doc_id) in chosen]


def compare(table: Table, label: str, requests: list[Instance], model: Any, target: str) -> None:
    """Add the rows of one list of requests: wall time, difference, memory."""
    tokenizer = models.load_tokenizer(MODEL)

    def plain(size: int) -> HFLM:
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, max_length=2048)

    def timed(lm: HFLM, chosen: list[Instance]) -> tuple[float, list[tuple[float, bool]]]:
        started = time.perf_counter()
        found = lm.loglikelihood(chosen, disable_tqdm=True)
        return time.perf_counter() - started, found

    some = few(requests)
    best = min(BATCH_SIZES, key=lambda size: min(timed(plain(size), some)[0] for _ in range(2)))
    shared = SharedPrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=16, max_length=2048)
    assert shared.why_plain is None
    answers: dict[str, list[tuple[float, bool]]] = {}
    theirs, answers["plain"] = timed(plain(best), requests)
    ours, answers["shared"] = timed(shared, requests)
    questions = len({(request.task_name, request.doc_id) for request in requests})
    table.add(
        f"{label}: {questions} questions, {len(requests)} requests, wall time",
        f"{ours:.1f} s",
        f"{theirs:.1f} s (batch {best})",
        f"{theirs / ours:.2f}x faster",
        target,
    )
    pairs = list(zip(answers["shared"], answers["plain"], strict=True))
    largest = max(abs(mine - theirs) for (mine, _), (theirs, _) in pairs)
    table.add(f"{label}: largest difference", f"{largest:.1e}", "", "", "<= 1e-3")
    best_of: dict[str, list[int]] = {}
    for key, found in answers.items():
        by_question: dict[Any, list[float]] = {}
        for request, (value, _) in zip(requests, found, strict=True):
            by_question.setdefault((request.task_name, request.doc_id), []).append(value)
        best_of[key] = [int(torch.tensor(values).argmax()) for values in by_question.values()]
    same = sum(a == b for a, b in zip(best_of["shared"], best_of["plain"], strict=True))
    table.add(f"{label}: same answer", f"{same} of {len(best_of['plain'])}", "", "", "all")
    peaks = [
        allocated_peak(lambda lm=lm: lambda: lm.loglikelihood(some, disable_tqdm=True))
        for lm in (shared, plain(best))
    ]
    weights = sum(p.nbytes for p in model.parameters())
    table.add(
        f"{label}: peak memory, weights included, {len(some)} requests",
        f"{(peaks[0] + weights) / 2**20:.0f} MiB",
        f"{(peaks[1] + weights) / 2**20:.0f} MiB",
        f"{(peaks[0] + weights) / (peaks[1] + weights):.2f}x",
        "<= 1.2x",
    )


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="files <task>_<split>.jsonl of real tasks")
    parser.add_argument("--embedded", type=Path, default=Path("results/embedded/questions"))
    parser.add_argument("--questions", type=int, default=40, help="a task")
    parser.add_argument("--every", type=int, default=8, help="of MMLU's subjects; 1: all of them")
    chosen = parser.parse_args()
    model = models.load(MODEL).eval()
    table = Table(
        "shared_prefix",
        "With `--data-dir DIR` for the real questions. SmolLM2-135M in float32; HFLM at the best "
        f"of the batch sizes {', '.join(map(str, BATCH_SIZES))}.",
    )
    n = chosen.questions
    embedded = requests_of(EMBEDDED, 0, n, chosen.embedded)
    compare(table, "embedded, 0-shot", embedded, model, ">= 1.3x")
    if chosen.data_dir is not None:
        arc = requests_of(["arc_easy", "openbookqa"], 5, n, chosen.data_dir)
        compare(table, "arc_easy + openbookqa, 5-shot", arc, model, ">= 2.5x")
        subjects = MMLU[2 :: chosen.every] if chosen.every > 1 else MMLU
        mmlu = requests_of(subjects, 5, 10**6, chosen.data_dir)
        compare(table, f"mmlu, {len(subjects)} subjects, 5-shot", mmlu, model, ">= 5x")
    table.write()


if __name__ == "__main__":
    main()
