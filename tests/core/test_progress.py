"""Bars in the log, a line now and then on stdout, and both from the first rank only."""

import pytest

from owlore.core import progress
from owlore.core.progress import Progress, line


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves on; tqdm keeps its own."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_is_said_at_most_every_twenty_seconds_and_never_at_the_end(clock, capsys):
    with Progress(total=100, desc="train", unit="step") as bar:
        said = []
        for step in range(1, 101):
            clock[0] += 7.0
            bar.update()
            said += [(step, text) for text in capsys.readouterr().out.splitlines()]
    steps = [step for step, _ in said]
    assert steps == list(range(3, 100, 3))
    assert all(text.startswith(f"train: {step} %, ") for step, text in said)
    assert all(text.endswith(" left") for _, text in said)


def test_a_bar_without_an_end_says_nothing(clock, capsys):
    with Progress(desc="read") as bar:
        clock[0] += 100.0
        bar.update(5)
        assert bar.n == 5
    assert capsys.readouterr().out == ""


def test_other_ranks_are_silent(clock, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    line("nothing")
    bar = Progress(total=4, desc="train")
    clock[0] += 100.0
    bar.update()
    bar.close()
    assert list(Progress([1, 2, 3], desc="train")) == [1, 2, 3]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_line_is_there_at_once(capsys):
    line("done")
    assert capsys.readouterr().out == "done\n"
