"""A method: one row of the comparison, as a block of a study.

A method is data: what trains, how layers are drawn, how gradients are projected, and the usual
knobs in the terms of transformers and peft.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
PositiveInt = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Base of all blocks: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Override(Strict):
    """Values of a method that hold for one track, one model, or one of each."""

    track: Name | None = None
    model: Name | None = None
    values: Annotated[dict[str, Any], Field(min_length=1)]


class Method(Strict):
    """One row of the table: trainable × sampling × projection × state, and the usual knobs."""

    trainable: Literal["none", "all", "lora", "layers"]

    # Which decoder layers train now (trainable: layers)
    sampling: Literal["uniform", "outlier", "outlier-reversed", "decrease", "increase"] | None = (
        Field(None, description="weights of the layer draw")
    )
    law: Literal["successive", "marginal"] = "successive"
    gamma: PositiveInt | None = Field(None, description="decoder layers trained at a time")
    interval_steps: PositiveInt | None = Field(None, description="K: steps between two draws")
    train_embeddings: bool = Field(True, description="embedding, head and final norm train too")
    state: Literal["drop", "keep", "offload"] = Field(
        "drop", description="what becomes of a layer's optimizer state when it falls asleep"
    )

    # Low-rank gradient projection
    projection: Literal["none", "low-rank"] = "none"
    rank: PositiveInt | None = None
    update_proj_gap: PositiveInt = 200
    scale: float = Field(1.0, gt=0)
    side: Literal["std", "left", "right"] = "std"
    refresh: Literal["svd", "randomized", "subspace"] = "subspace"
    moments: Literal["reset", "keep", "rotate"] = "reset"

    # LoRA, in peft's terms
    r: PositiveInt | None = None
    lora_alpha: PositiveInt | None = None
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: bool | str = True

    # Training, in transformers' terms
    learning_rate: float | None = Field(None, gt=0, le=1)
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

    overrides: list[Override] = Field(default_factory=list)

    @model_validator(mode="after")
    def keys_fit(self) -> "Method":
        # A default spelt out is as good as left out: recorded blocks have every key.
        fields = type(self).model_fields
        given = {key for key in fields if getattr(self, key) != fields[key].default}
        layered = {"sampling", "law", "gamma", "interval_steps", "train_embeddings", "state"}
        projected = {"rank", "update_proj_gap", "scale", "side", "refresh", "moments"}
        adapter = {"r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora"}
        adapter.add("init_lora_weights")

        def refuse(keys: set[str], condition: str) -> None:
            for key in sorted(keys & given):
                raise ValueError(f"{key} is only allowed with {condition}")

        def require(keys: tuple[str, ...], condition: str) -> None:
            for key in keys:
                if getattr(self, key) is None:
                    raise ValueError(f"{key} is needed with {condition}")

        if self.trainable == "layers":
            require(("sampling", "gamma", "interval_steps"), "trainable: layers")
        else:
            refuse(layered, "trainable: layers")
        if self.trainable == "lora":
            require(("r", "lora_alpha"), "trainable: lora")
        else:
            refuse(adapter, "trainable: lora")
        if self.projection == "low-rank":
            if self.trainable not in ("all", "layers"):
                raise ValueError("projection: low-rank is only allowed with trainable: all, layers")
            require(("rank",), "projection: low-rank")
        else:
            refuse(projected, "projection: low-rank")
        if self.precision != "float32":
            refuse({"mixed_precision"}, "precision: float32")
        if self.trainable != "none":
            require(("learning_rate",), f"trainable: {self.trainable}")
        return self

    @property
    def examples_per_step(self) -> int:
        """Training examples in one optimizer step, over all ranks."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    @property
    def dtype(self) -> str:
        """Of the weights: float32 or bfloat16."""
        return self.precision.split("-")[0]

    @property
    def rounding(self) -> str:
        """What `LowRankAdamW` does with an update of a bfloat16 weight."""
        return self.precision.partition("-")[2] or "nearest"

    @property
    def needs_outliers(self) -> bool:
        """Whether the layer draw uses the model's outlier scores."""
        return self.sampling in ("outlier", "outlier-reversed")
