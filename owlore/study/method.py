"""A method: one row of the comparison, as a block of a study.

A method is data: what trains, how layers are drawn, how gradients are projected, and the usual
knobs in the terms of transformers and peft. What trains (`trainable`) tells the kinds apart.
"""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from owlore.core.errors import BadInput
from owlore.core.parsing import OneOf, parse
from owlore.study.blocks import Kind, Name, PositiveInt, Strict


class Override(Strict):
    """Values of a method that hold for one track, one model, or one of each."""

    track: Name | None = None
    model: Name | None = None
    values: Annotated[dict[str, Any], Field(min_length=1)]


class MethodKind(Kind):
    """What every method has, and what its readers may ask of any."""

    tag: ClassVar[str] = "trainable"
    trains: ClassVar[bool] = True
    adapter: ClassVar[bool] = False  # what is kept is an adapter, not a whole model

    overrides: list[Override] = Field(default_factory=list)

    @classmethod
    def kinds(cls) -> tuple[type[Kind], ...]:
        """All kinds of methods."""
        return METHODS

    @classmethod
    def refusal(cls, key: str, value: Any) -> str:
        """Say why another kind's key is not allowed here; a projection's own keys go by it."""
        if key in LOW_RANK:
            return f"{key} is only allowed with projection: low-rank"
        if key == "projection":
            return f"{key}: {value} is only allowed with {cls.owners(key)}"
        return super().refusal(key, value)

    @property
    def needs_outliers(self) -> bool:
        """Whether the layer draw uses the model's outlier scores."""
        return False

    @property
    def projected(self) -> bool:
        """Whether gradients are projected to low rank."""
        return False

    @property
    def ranks(self) -> dict[str, int]:
        """Ranks by their key; none may exceed the model's hidden size."""
        return {}


class Base(MethodKind):
    """The base model as it is: the floor of every table."""

    trains: ClassVar[bool] = False

    trainable: Literal["none"]


class TrainedKind(MethodKind):
    """The knobs of training, in transformers' terms."""

    learning_rate: float = Field(gt=0, le=1)
    max_steps: PositiveInt = 30
    per_device_train_batch_size: PositiveInt = 16
    gradient_accumulation_steps: PositiveInt = 1
    max_length: Annotated[int, Field(ge=8)] = 512
    too_long: Literal["error", "cut", "drop"] = Field(
        "error", description="what becomes of training examples longer than max_length"
    )
    padding_free: bool = Field(False, description="examples end to end in one row, masked apart")
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: float = Field(0.0, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, gt=0)
    gradient_checkpointing: bool = False
    precision: Literal[
        "float32", "bfloat16", "bfloat16-master", "bfloat16-stochastic", "bfloat16-lean"
    ] = Field(
        "float32",
        description="of the weights; bfloat16: optimizer state too, as published; -master: float32 "
        "copies of what trains now; -stochastic: updates rounded up or down at random; -lean: the "
        "same with moments in 8 bits (needs torchao)",
    )
    mixed_precision: Literal["none", "bfloat16"] = Field(
        "none",
        description="only on several ranks (FSDP2); bfloat16: forward and backward in bfloat16; "
        "weights, sums of gradients and optimizer in float32",
    )
    checkpoint_steps: PositiveInt = 10

    @model_validator(mode="after")
    def mixed_precision_has_float32_weights(self) -> "TrainedKind":
        if self.mixed_precision != "none" and self.precision != "float32":
            raise ValueError("mixed_precision is only allowed with precision: float32")
        return self

    @property
    def examples_per_step(self) -> int:
        """Training examples in one optimizer step, over all ranks."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @property
    def steps_between_draws(self) -> int:
        """Steps in which the same parameters train."""
        return self.max_steps

    def awake(self, layers: int) -> int:
        """Return how many of so many decoder layers train at a time."""
        return layers


class LowRank(TrainedKind):
    """Mixed into the kinds that train whole matrices: gradients may be projected to low rank."""

    projection: Literal["none", "low-rank"] = "none"
    rank: PositiveInt | None = None
    update_proj_gap: PositiveInt = 200
    scale: float = Field(1.0, gt=0)
    side: Literal["std", "left", "right"] = "std"
    refresh: Literal["svd", "randomized", "subspace"] = "subspace"
    moments: Literal["reset", "keep", "rotate"] = "reset"

    @model_validator(mode="after")
    def projection_keys_need_a_projection(self) -> "LowRank":
        if self.projected:
            if self.rank is None:
                raise ValueError("rank is needed with projection: low-rank")
            return self
        for key in LOW_RANK:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is only allowed with projection: low-rank")
        return self

    @property
    def projected(self) -> bool:
        """Whether gradients are projected to low rank."""
        return self.projection == "low-rank"

    @property
    def ranks(self) -> dict[str, int]:
        """The projection's rank, if there is one."""
        return {} if self.rank is None else {"rank": self.rank}


# Keys that say how gradients are projected, if they are
LOW_RANK = ("moments", "rank", "refresh", "scale", "side", "update_proj_gap")


class Full(LowRank):
    """All parameters train."""

    trainable: Literal["all"]


class Lora(TrainedKind):
    """An adapter trains, in peft's terms."""

    adapter: ClassVar[bool] = True

    trainable: Literal["lora"]
    r: PositiveInt
    lora_alpha: PositiveInt
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: bool | str = True

    @property
    def ranks(self) -> dict[str, int]:
        """The adapter's rank."""
        return {"r": self.r}


class Layers(LowRank):
    """Some decoder layers train at a time, drawn anew every `interval_steps`."""

    trainable: Literal["layers"]
    sampling: Literal["uniform", "outlier", "outlier-reversed", "decrease", "increase"] = Field(
        description="weights of the layer draw"
    )
    law: Literal["successive", "marginal"] = "successive"
    gamma: PositiveInt = Field(description="decoder layers trained at a time")
    interval_steps: PositiveInt = Field(description="K: steps between two draws")
    train_embeddings: bool = Field(True, description="embedding, head and final norm train too")
    state: Literal["drop", "keep", "offload"] = Field(
        "drop", description="what becomes of a layer's optimizer state when it falls asleep"
    )

    @property
    def needs_outliers(self) -> bool:
        """Whether the layer draw uses the model's outlier scores."""
        return self.sampling in ("outlier", "outlier-reversed")

    @property
    def steps_between_draws(self) -> int:
        """Steps in which the same parameters train."""
        return self.interval_steps

    def awake(self, layers: int) -> int:
        """Return how many of so many decoder layers train at a time."""
        return self.gamma


METHODS = (Base, Full, Lora, Layers)
Trained: TypeAlias = Full | Lora | Layers
Method: TypeAlias = Annotated[Base | Full | Lora | Layers, Field(discriminator="trainable")]
ANY_METHOD: OneOf[Method] = OneOf(Method)


def parse_method(block: Any, where: str = "method") -> Method:
    """Check a method's block, `training:` and overrides already merged into it.

    Raises:
        BadInput: one line that names the key, the value and what is allowed.
    """
    return parse(ANY_METHOD, block, where)


def require_trained(method: Method, purpose: str) -> Trained:
    """Return a method that trains something.

    Args:
        method: the method.
        purpose: what it is wanted for, a verb.

    Raises:
        BadInput: it trains nothing.
    """
    if not isinstance(method, Base):
        return method
    allowed = ", ".join(kind.tag_value() for kind in METHODS if kind.trains)
    raise BadInput(f"method.trainable: none: nothing to {purpose}; allowed: {allowed}")
