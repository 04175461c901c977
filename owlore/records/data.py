"""A track's training rows: `data/<track>/seed<k>.json`, beside the rows."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field

from owlore.records.base import Job, Record
from owlore.study.config import HubPool, Study


class DataJob(Job):
    """A track's mixture, where its pools come from if they are not embedded, and the seed."""

    track: str
    seed: int
    train: dict[str, int]
    files: dict[str, str] = {}
    hub: dict[str, HubPool] = {}

    @classmethod
    def of(cls, study: Study, track: str, seed: int) -> Self:
        """Return the Job of one seed of a track."""
        train, given = study.tracks[track].train, study.questions
        return cls(
            track=track,
            seed=seed,
            train=dict(train),
            files={name: file for name, file in given.files.items() if name in train},
            hub={name: pool for name, pool in given.hub.items() if name in train},
        )

    def in_order_of(self, names: Iterable[str]) -> Self:
        """Return the Job with its pools in the order of a study's file, which its text leaves out.

        The order decides how rows lie before they are shuffled, so it is a part of the draw as the
        seed is. A study whose keys are merely put in another order is not drawn again for it.
        """
        ordered = {name: self.train[name] for name in names if name in self.train}
        return self.model_copy(update={"train": ordered | self.train})


class DataRecord(Record):
    """How many rows were drawn, and the hash of their file."""

    track: str
    seed: int
    rows: int = Field(description="how many were drawn")
    sha256: str = Field(description="of the rows' file")
