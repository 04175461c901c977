"""One trained cell: `finetune.json`, and a row of `history.jsonl`."""

from typing import Annotated, Any, NamedTuple, Self, TypedDict, TypeVar

from pydantic import Field

from owlore.records.base import Job, Made, Part
from owlore.study.config import Cell, Study
from owlore.study.method import Method, MethodKind

AnyMethod = TypeVar("AnyMethod", bound=MethodKind)


class FinetuneJob(Job):
    """A method with all its settings, and the seed.

    `checkpoint_steps` decides no result: it is always at its default here (see `without_pace`).
    """

    cell: Cell | None = None  # None: not a study's
    method: Method
    seed: int = 0

    @classmethod
    def of(cls, study: Study, cell: Cell) -> Self:
        """Return the Job of one of a study's cells."""
        method = study.method(cell.method, cell.track, cell.model)
        return cls(cell=cell, method=without_pace(method), seed=cell.seed or 0)


def without_pace(method: AnyMethod) -> AnyMethod:
    """Return the method with what decides no result at its default."""
    if not hasattr(method, "checkpoint_steps"):
        return method
    return method.model_copy(
        update={"checkpoint_steps": type(method).model_fields["checkpoint_steps"].default}
    )


def names_of(job: FinetuneJob) -> "Names":
    """Return which cell a Job is of; none has names that is not a study's."""
    cell = job.cell
    if cell is None:
        return {"track": None, "model": None, "method": None, "seed": job.seed}
    return {"track": cell.track, "model": cell.model, "method": cell.method, "seed": cell.seed}


class Shown(NamedTuple):
    """How the table of costs shows a number: its header, what it is divided by, its decimals."""

    label: str
    unit: int = 1
    digits: int = 0


class MemoryBytes(Part):
    """Most bytes of a kind at one time, on the rank that had most."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int | None = Field(None, description="what the forward pass keeps for backward")


class FinetuneRecord(Made):
    """What a training cost and gave; of the base model nothing is trained."""

    track: str | None = None
    model: str | None = None
    method: str | None = None
    seed: int | None = None
    status: str = "done"
    model_dir: str = Field(description="folder of the weights, or of the adapter")
    adapter: bool = Field(description="whether that holds an adapter only")
    weights_sha256: str = Field(description="of the trained weights")
    base_sha256: str = Field(description="of the base model's")
    data_sha256: str | None = Field(None, description="of the training rows")
    outliers_sha256: str | None = Field(None, description="of the scores that layers were drawn by")
    ranks: int = Field(1, description="processes")
    # What the table of costs shows, in its order: a new column is a field here.
    seconds: Annotated[float, Shown("seconds", digits=1)] = 0.0
    tokens_per_second: Annotated[float | None, Shown("tokens/s")] = None
    peak_bytes: Annotated[int | None, Shown("peak GiB (measured)", 2**30, 2)] = Field(
        None, description="most that torch's allocator had handed out; null where not measured"
    )
    optimizer_bytes: Annotated[int, Shown("optimizer MiB", 2**20, 1)] = Field(
        0, description="most at one time"
    )
    decoder_optimizer_bytes: Annotated[int, Shown("of it decoder layers, MiB", 2**20, 1)] = Field(
        0, description="of it the decoder layers'"
    )
    trainable_parameters: Annotated[int, Shown("trainable, millions", 10**6, 2)] = Field(
        0, description="most at one time"
    )
    checkpoint_bytes: Annotated[int, Shown("checkpoint MiB", 2**20, 1)] = Field(
        description="of the safetensors files"
    )
    tokens: int = Field(0, description="that were trained on")
    examples: int = Field(0, description="that were trained on")
    steps: int = 0
    first_loss: float | None = None
    final_loss: float | None = None
    total_parameters: int
    memory_bytes: MemoryBytes = Field(description="most at one time, by kind")
    layer_activations: list[int] | None = Field(
        None, description="decoder layer → steps in which it was trained"
    )
    switches: int = Field(0, description="draws of layers")
    projector_refreshes: int = Field(0, description="new subspaces of low-rank gradients")
    projector_seconds: float = Field(0.0, description="time that they took")
    resumed_from_step: int | None = Field(None, description="null where it ran through")
    config: dict[str, Any] = Field(description="the method with all its settings")
    threads: int
    device: str


class TrainingNumbers(TypedDict):
    """The fields of a Record that the training loop fills."""

    ranks: int
    seconds: float
    tokens: int
    tokens_per_second: float | None
    examples: int
    steps: int
    first_loss: float
    final_loss: float
    trainable_parameters: int
    total_parameters: int
    memory_bytes: MemoryBytes
    peak_bytes: int
    optimizer_bytes: int
    decoder_optimizer_bytes: int
    layer_activations: list[int] | None
    switches: int
    projector_refreshes: int
    projector_seconds: float


class Names(TypedDict):
    """The fields of a Record that say which cell it is."""

    track: str | None
    model: str | None
    method: str | None
    seed: int | None


class HistoryRow(Part):
    """One logging step of a training."""

    step: int
    loss: float = Field(description="mean over the steps since the row before")
    learning_rate: float | None = None
    grad_norm: float | None = None
    active_layers: list[int] | None = Field(
        None, description="decoder layers that were trained; null where all are"
    )
    tokens: int | None = Field(None, description="so far")
    tokens_per_second: float | None = None
    seconds: float | None = Field(None, description="so far")
    optimizer_bytes: int | None = Field(None, description="at this step")


def shown() -> dict[str, Shown]:
    """Return the fields of a Record that the table of costs shows, in its order."""
    return {
        name: how
        for name, field in FinetuneRecord.model_fields.items()
        for how in field.metadata
        if isinstance(how, Shown)
    }
