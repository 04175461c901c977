"""The peak of allocated bytes, of code whose allocations are known."""

import torch

from owlore.train.memory import Recording, allocated_peak

MEGABYTE = 1 << 20


def room(megabytes: int) -> torch.Tensor:
    return torch.ones(megabytes * MEGABYTE, dtype=torch.uint8)


def near(found: int, megabytes: int) -> bool:
    """Up to what torch itself allocates for small things."""
    return abs(found - megabytes * MEGABYTE) < MEGABYTE // 4


def test_the_peak_is_of_what_lives_at_one_time():
    def prepare():
        kept = room(4)

        def step():
            first = room(8)
            del first
            second = room(6)
            return kept[0] + second[0]

        return step

    assert near(allocated_peak(prepare), 12)


def test_what_is_freed_before_the_step_does_not_count():
    def prepare():
        passing = room(30)
        del passing
        return lambda: room(2)

    assert near(allocated_peak(prepare), 2)


def test_a_recording_counts_what_lived_before_once_a_storage():
    recording, weights = Recording(), room(5)
    recording.start(lambda: [weights, weights[:10], weights.clone()])
    more = room(3)
    del more
    assert near(recording.stop(), 5 + 5 + 3)


def test_a_recording_can_be_made_again():
    """As the training loop makes one after the other."""
    for megabytes in (2, 7):
        recording = Recording()
        recording.start(lambda: [])
        room(megabytes)
        assert near(recording.stop(), megabytes)
