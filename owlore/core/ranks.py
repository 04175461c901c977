"""The processes that torchrun has started to train together."""

import os


def count() -> int:
    """Return how many processes train together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this process is the one that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"
