"""Scoring with shared prefixes against lm-eval's own HFLM, on real benchmark questions.

Questions come from a folder of `<task>_<split>.jsonl` files (see README, "Local data"); without it
only the embedded benchmarks are timed. HFLM runs at its best batch size of those given.

Run as: `python benchmarks/shared_prefix.py --data-dir DIR` (an hour, nearly all of it HFLM's)
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from measuring import MODEL, Table

from owlore import models
from owlore.config import Benchmark
from owlore.evaluate import draw
from owlore.lm_tasks import load_tasks
from owlore.memory import allocated_peak
from owlore.shared_prefix import SharedPrefixLM

SUBJECTS = ["mmlu_high_school_biology", "mmlu_moral_disputes"]
EMBEDDED = ["wordnet_category", "wordnet_definition", "social_iqa_mini", "quartz_mini"]


def requests_of(names: list[str], shots: int, limit: int, data_dir: Path) -> list[Instance]:
    """Build lm-eval's requests of a seeded subset of each task's questions."""
    benchmark = Benchmark.model_validate(
        {"tasks": {name: {"limit": limit} for name in names}, "num_fewshot": shots}
    )
    found: list[Instance] = []
    for name, members in load_tasks(benchmark, data_dir).items():
        sizes = [len(member.eval_docs) for member in members]
        drawn = draw(name, sum(sizes), benchmark)
        first = 0
        for member, size in zip(members, sizes, strict=True):
            own = [index - first for index in drawn if first <= index < first + size]
            first += size
            if own:
                member.build_all_requests(samples=own)
                found += member.instances
    return found


def compare(table: Table, label: str, requests: list[Instance], model: Any, target: str) -> None:
    """Add the rows of one list of requests: wall time, difference, memory."""
    tokenizer = models.load_tokenizer(MODEL)
    spent, answers = {}, {}
    for size in (4, 16):
        plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, max_length=2048)
        started = time.perf_counter()
        answers["plain"] = plain.loglikelihood(requests, disable_tqdm=True)
        spent[size] = time.perf_counter() - started
    best = min(spent, key=lambda size: spent[size])
    shared = SharedPrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=16, max_length=2048)
    assert shared.why_plain is None
    started = time.perf_counter()
    answers["shared"] = shared.loglikelihood(requests, disable_tqdm=True)
    ours = time.perf_counter() - started
    table.add(
        f"{label}: {len(requests)} requests, wall time",
        f"{ours:.1f} s",
        f"{spent[best]:.1f} s (batch {best})",
        f"{spent[best] / ours:.2f}x faster",
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
    some = requests[:64]
    plain = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=best, max_length=2048)
    peaks = [
        allocated_peak(lambda lm=lm: lambda: lm.loglikelihood(some, disable_tqdm=True))
        for lm in (shared, plain)
    ]
    weights = sum(p.nbytes for p in model.parameters())
    table.add(
        f"{label}: peak memory, weights included, first 64 requests",
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
    chosen = parser.parse_args()
    model = models.load(MODEL).eval()
    table = Table("shared_prefix", "SmolLM2-135M in float32; HFLM at its best of two batch sizes.")
    n = chosen.questions
    embedded = requests_of(EMBEDDED, 0, n, chosen.embedded)
    compare(table, "embedded, 0-shot", embedded, model, ">= 1.3x")
    if chosen.data_dir is not None:
        arc = requests_of(["arc_easy", "openbookqa"], 5, n, chosen.data_dir)
        compare(table, "arc_easy + openbookqa, 5-shot", arc, model, ">= 2.5x")
        mmlu = requests_of(SUBJECTS, 5, 10**6, chosen.data_dir)
        compare(table, "mmlu, two subjects, 5-shot", mmlu, model, ">= 5x")
    table.write()


if __name__ == "__main__":
    main()
