"""What torchrun's variables say, and what their absence does."""

import pytest

from owlore.core import ranks


@pytest.mark.parametrize(
    ("size", "rank", "count", "first"),
    [(None, None, 1, True), ("1", "0", 1, True), ("3", "0", 3, True), ("3", "2", 3, False)],
)
def test_count_and_first(size, rank, count, first, monkeypatch):
    for name, value in (("WORLD_SIZE", size), ("RANK", rank)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert ranks.count() == count
    assert ranks.is_first() == first
