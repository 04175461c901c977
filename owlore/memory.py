"""Memory: what a process has used, and what a piece of code allocates at most."""

import gc
import itertools
import resource
import sys
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile, record_function


def peak_bytes(device: str) -> int:
    """Return this process's peak memory in bytes.

    On cuda the allocator's peak, on cpu the peak resident set of the whole process, libraries
    included.
    """
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def allocated_peak(prepare: Callable[[], Callable[[], object]]) -> int:
    """Return the peak of allocated CPU bytes, by the allocator's reports to torch's profiler.

    Args:
        prepare: makes what the step needs (it counts too) and returns the step. Both run under the
            profiler: it would not notice that something is freed which it has not seen allocated.
    """
    gc.collect()  # nothing from earlier may be freed meanwhile
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = prepare()
        with record_function("the step"):
            step()
    assert profiler.profiler is not None
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    (start,) = (event.start_ns() for event in events if event.name() == "the step")
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    totals = itertools.accumulate(change for _, change in changes)
    return max(int(total) for (at, _), total in zip(changes, totals, strict=True) if at >= start)
