"""Which side a question is on, and in which order they come."""

from collections import Counter

from owlore.questions.splits import shuffled, split_of


def test_split_of_gives_eighths_and_shuffled_depends_on_its_salt():
    counts = Counter(split_of(str(i)) for i in range(8000))
    assert abs(counts["test"] - 2000) < 150
    assert abs(counts["validation"] - 1000) < 120
    assert split_of("w") == split_of("w")
    items = list(range(50))
    assert sorted(shuffled(items, "a")) == items
    assert shuffled(items, "a") == shuffled(reversed(items), "a") != shuffled(items, "b")
