"""The base model as a plain checkpoint: `resources/models/<model>/model.json`."""

from typing import Any, Self

from pydantic import Field

from owlore.records.base import Job, Record
from owlore.study.config import Archive, Model, Study


class ModelJob(Job):
    """Where a model comes from, with the hash of its archive."""

    model: str
    source: Model
    archive: Archive | None = None

    @classmethod
    def of(cls, study: Study, model: str) -> Self:
        """Return the Job of one of a study's models."""
        source = study.models[model]
        archive = study.archives[source.archive] if source.archive else None
        return cls(model=model, source=source, archive=archive)


class ModelRecord(Record):
    """What the checkpoint is: its hash, its sizes, its shape."""

    model: str
    source: dict[str, Any] = Field(description="where it comes from")
    weights_sha256: str = Field(description="of the safetensors files")
    parameters: int
    decoder_layers: int
    hidden_size: int
    max_position_embeddings: int | None = Field(None, description="null: no limit")
    architecture: str | None = None
    bytes: int = Field(description="of the safetensors files")
