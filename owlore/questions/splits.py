"""Train, validation or test, and in which order: decided by hashes, so that nothing ever moves.

A question's side depends only on what it is about (its headword, its context), never on the other
questions, the seed or a random number generator: adding a filter can drop questions, but cannot
carry one from test to train.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from owlore.core.files import sha256_text

Item = TypeVar("Item")

SPLITS = ("train", "validation", "test")
EIGHTHS = ("test", "test", "validation", *["train"] * 5)


def split_of(key: str) -> str:
    """Return the side of everything that is about `key`: 5/8 train, 1/8 validation, 1/4 test."""
    return EIGHTHS[draw(key, 8)]


def draw(key: str, n: int) -> int:
    """Return a number in [0, n) that looks random but only depends on `key`."""
    return int(sha256_text(key), 16) % n


def shuffled(items: Iterable[Item], salt: str, name: Callable[[Item], str] = str) -> list[Item]:
    """Order items by a salted hash of their names, so that every prefix is a random subset."""
    return sorted(items, key=lambda item: (sha256_text(f"{salt} {name(item)}"), name(item)))
