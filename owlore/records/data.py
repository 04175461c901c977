"""A track's training rows: `data/<track>/seed<k>.json`, beside the rows."""

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


class DataRecord(Record):
    """How many rows were drawn, and the hash of their file."""

    track: str
    seed: int
    rows: int = Field(description="how many were drawn")
    sha256: str = Field(description="of the rows' file")
