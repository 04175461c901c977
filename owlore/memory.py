"""Memory: what a process has used."""

import resource
import sys

import torch


def peak_bytes(device: str) -> int:
    """Return this process's peak memory in bytes.

    On cuda the allocator's peak, on cpu the peak resident set of the whole process, libraries
    included.
    """
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
