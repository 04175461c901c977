"""Simulated peak memory of a model's methods: `memory/<model>.json`, and a CSV beside it."""

from typing import Annotated, Self

from pydantic import Field

from owlore.records.base import Job, Part, Record
from owlore.records.finetune import without_pace
from owlore.study.config import Study
from owlore.study.method import Trained

OneTrained = Annotated[Trained, Field(discriminator="trainable")]


class MemoryJob(Job):
    """Every trained method as it holds for one model, and the seed whose rows give the lengths."""

    model: str
    seed: int
    methods: dict[str, dict[str, OneTrained]]  # track → name → method

    @classmethod
    def of(cls, study: Study, model: str) -> Self:
        """Return the Job of one of a study's models."""
        methods = {
            track: {name: study.method(name, track, model) for name in study.run}
            for track in study.tracks
        }
        return cls(
            model=model,
            seed=study.seeds[0],
            methods={
                track: {
                    name: without_pace(method)
                    for name, method in by_name.items()
                    if isinstance(method, Trained)
                }
                for track, by_name in methods.items()
            },
        )


class MemoryRow(Part):
    """One method's simulated peak, GiB, and the parts that add up to it."""

    method: str
    track: str | None = None
    micro_batch: int = Field(description="sequences")
    seqlen: int = Field(description="tokens of each")
    precision: str | None = None
    peak_gib: float = Field(description="the sum of the parts")
    weights_gib: float
    gradients_gib: float
    optimizer_gib: float
    activations_gib: float
    temporaries_gib: float
    needed_gib: float | None = Field(
        None, description="on a card, with what allocation and context add"
    )
    fits: bool | None = Field(None, description="on the card that was asked for")


class MemoryRecord(Record):
    """The rows of one model."""

    model: str
    rows: list[MemoryRow] = Field(description="a row a track and method")
    versions: dict[str, str] = {}
