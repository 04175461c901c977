"""Memory: what a piece of code, or a training step, allocates at most."""

import gc
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

MARK = "from here on"


def allocated_peak(prepare: Callable[[], Callable[[], object]]) -> int:
    """Return the peak of allocated CPU bytes, by the allocator's reports to torch's profiler.

    Args:
        prepare: makes what the step needs (it counts too) and returns the step. Both run under the
            profiler: it would not notice that something is freed which it has not seen allocated.
    """
    gc.collect()  # nothing from earlier may be freed meanwhile
    with _profile() as profiler:
        step = prepare()
        with record_function(MARK):
            step()
    return _peak(profiler)[1]


class Recording:
    """The peak of allocated CPU bytes from `start` to `stop`, for code that is called between."""

    def __init__(self) -> None:
        self._profiler = _profile()
        self._live = 0

    def start(self, live: Callable[[], Iterable[Tensor]]) -> None:
        """Begin.

        Args:
            live: returns the tensors that exist at the beginning, those that may be freed before
                the end newly made: only of what it has seen allocated does the profiler notice the
                end. Each storage counts once.
        """
        self._profiler.start()
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in live()}
        self._live = sum(storages.values())
        with record_function(MARK):
            pass

    def stop(self) -> int:
        """End; return the peak in bytes, what lived at the beginning included."""
        self._profiler.stop()
        before, peak = _peak(self._profiler)
        return self._live + peak - before


def _profile() -> profile:
    return profile(activities=[ProfilerActivity.CPU], profile_memory=True)


def _peak(profiler: profile) -> tuple[int, int]:
    """Return the sums of what was allocated and freed until the mark, and the largest from it."""
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events: list[Any] = profiler.profiler.kineto_results.events()
    (start,) = (event.start_ns() for event in events if event.name() == MARK)
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    changes.sort(key=lambda change: change[0])
    before = sum(change for at, change in changes if at < start)
    after = (change for at, change in changes if at >= start)
    return before, max(itertools.accumulate(after, initial=before))
