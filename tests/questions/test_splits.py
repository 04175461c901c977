"""Which side a question is on, and in which order they come."""

import hashlib
from collections import Counter

from owlore.questions.splits import draw, shuffled, split_of


def test_split_of_gives_eighths_and_shuffled_depends_on_its_salt():
    counts = Counter(split_of(str(i)) for i in range(8000))
    assert abs(counts["test"] - 2000) < 150
    assert abs(counts["validation"] - 1000) < 120
    assert split_of("w") == split_of("w")
    items = list(range(50))
    assert sorted(shuffled(items, "a")) == items
    assert shuffled(items, "a") == shuffled(reversed(items), "a") != shuffled(items, "b")


def test_a_side_depends_on_the_key_alone():
    """SHA-256 modulo 8, whatever else there is: a test question never becomes a training one."""
    for key in ("water", "Al ran.", "é", ""):
        number = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 8
        assert split_of(key) == ("test" if number < 2 else "validation" if number == 2 else "train")
        assert draw(key, 8) == number


def test_a_new_item_moves_no_other():
    before = shuffled(range(40), "salt")
    after = shuffled(range(60), "salt")
    assert [item for item in after if item < 40] == before
    counts = Counter(draw(str(number), 5) for number in range(5000))
    assert set(counts) == set(range(5)) and min(counts.values()) > 850


def test_items_are_ordered_by_their_names():
    rows = [{"name": str(number)} for number in range(20)]
    named = shuffled(rows, "salt", lambda row: row["name"])
    assert [row["name"] for row in named] == shuffled([row["name"] for row in rows], "salt")
