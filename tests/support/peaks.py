"""What a step allocates at most: of all bytes, and of those that tensors hold."""

import gc
from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile, record_function


class Peaks(NamedTuple):
    """The largest sums of bytes while a step ran: of tensors, and of all that was allocated."""

    tensors: int
    allocated: int


def peaks(prepare: Callable[[], Callable[[], object]]) -> Peaks:
    """Like `allocated_peak`, and beside it the peak of what tensors hold.

    A kernel may take work space: how much follows from the CPU's instructions and the number of
    threads (without native bfloat16, copies in float32). It is given back before the kernel ends
    and never is a tensor, so the simulator, which knows no CPU, does not count it. Here it cancels
    out because the sum is looked at between kernels only.
    """
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = prepare()
        with record_function("the step"):
            step()
    events = profiler.profiler.kineto_results.events()
    (start,) = (event.start_ns() for event in events if event.name() == "the step")
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    spans = [(e.start_ns(), e.start_ns() + e.duration_ns()) for e in events if is_kernel(e.name())]
    between, end = [], 0
    for first, last in sorted(spans):
        if first >= end:  # else inside of another
            between.append((first, last))
            end = last
    firsts = [first for first, _ in between]

    def kernels_end(at: int) -> int:
        first, last = between[max(0, bisect_right(firsts, at) - 1)]
        return last if first <= at <= last else at

    return Peaks(
        highest([(kernels_end(at), change) for at, change in changes], start),
        highest(changes, start),
    )


def highest(changes: list[tuple[int, int]], start: int) -> int:
    """Return the largest sum of changes from a time on; those of one moment are one change."""
    at_once: dict[int, int] = {}
    for at, change in sorted(changes):
        at_once[at] = at_once.get(at, 0) + change
    before = sum(change for at, change in at_once.items() if at < start)
    return max(accumulate((c for at, c in at_once.items() if at >= start), initial=before))


@cache
def is_kernel(event: str) -> bool:
    """Return whether an event is an operator that is not written in terms of others."""
    name = event.removeprefix("aten::")
    if name == event or not hasattr(torch.ops.aten, name):
        return False
    overloads = [
        event if overload == "default" else f"{event}.{overload}"
        for overload in getattr(torch.ops.aten, name).overloads()
    ]
    return not any(
        torch._C._dispatch_has_kernel_for_dispatch_key(overload, "CompositeImplicitAutograd")
        for overload in overloads
        if torch._C._dispatch_has_kernel(overload)
    )
