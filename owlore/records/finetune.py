"""One trained cell: `finetune.json`, and a row of `history.jsonl`."""

from typing import Any, Self, TypeVar

from owlore.records.base import Job, Made, Part
from owlore.study.config import Cell, Study
from owlore.study.method import Method, MethodKind

AnyMethod = TypeVar("AnyMethod", bound=MethodKind)


class FinetuneJob(Job):
    """A method with all its settings, and the seed.

    `checkpoint_steps` decides no result: it is always at its default here, see `Pace`.
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


def names_of(job: FinetuneJob) -> dict[str, Any]:
    """Return the fields of a Record that say which cell it is."""
    return job.cell.model_dump() if job.cell is not None else {"seed": job.seed}


class MemoryBytes(Part):
    """Most bytes of a kind at one time, on the rank that had most."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int | None = None  # what the forward pass keeps for backward


class FinetuneRecord(Made):
    """What a training cost and gave; of the base model nothing is trained."""

    track: str | None = None
    model: str | None = None
    method: str | None = None
    seed: int | None = None
    status: str = "done"
    model_dir: str
    adapter: bool
    weights_sha256: str
    base_sha256: str
    data_sha256: str | None = None
    outliers_sha256: str | None = None
    ranks: int = 1
    seconds: float = 0.0
    tokens: int = 0
    tokens_per_second: float | None = None
    examples: int = 0
    steps: int = 0
    first_loss: float | None = None
    final_loss: float | None = None
    trainable_parameters: int = 0
    total_parameters: int
    memory_bytes: MemoryBytes
    peak_bytes: int | None = None
    optimizer_bytes: int = 0
    decoder_optimizer_bytes: int = 0
    checkpoint_bytes: int
    layer_activations: list[int] | None = None
    switches: int = 0
    projector_refreshes: int = 0
    projector_seconds: float = 0.0
    resumed_from_step: int | None = None
    config: dict[str, Any]
    threads: int
    device: str


class HistoryRow(Part):
    """One logging step of a training."""

    step: int
    loss: float
    learning_rate: float | None = None
    grad_norm: float | None = None
    active_layers: list[int] | None = None
    tokens: int | None = None
    tokens_per_second: float | None = None
    seconds: float | None = None
    optimizer_bytes: int | None = None
