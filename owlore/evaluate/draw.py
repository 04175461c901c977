"""Which questions of a task are scored: all, or a seeded subset."""

import random
from collections.abc import Iterator
from typing import Any

from owlore.study.config import Benchmark


def draw(name: str, available: int, benchmark: Benchmark) -> list[int]:
    """Return the indices of the questions of task `name` to score, in order.

    A task's `limit` draws a subset that depends on the seed and the task's name only.
    """
    limit = benchmark.tasks[name].limit
    if limit is None or limit >= available:
        return list(range(available))
    return sorted(random.Random(f"{benchmark.seed} {name}").sample(range(available), limit))


def drawn(
    name: str, members: list[Any], benchmark: Benchmark
) -> Iterator[tuple[Any, int, list[int]]]:
    """Yield (member, number of its first question, its drawn questions), if any are drawn."""
    sizes = [len(member.eval_docs) for member in members]
    chosen = draw(name, sum(sizes), benchmark)
    first = 0
    for member, size in zip(members, sizes, strict=True):
        own = [index - first for index in chosen if first <= index < first + size]
        if own:
            yield member, first, own
        first += size
