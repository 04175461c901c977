"""From a method's block to what trains and how: adapters, frozen parts, optimizer groups."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from owlore.optim.adamw import RoundedAdamW
from owlore.optim.lowrank import LowRankAdamW
from owlore.optim.protocol import OwloreOptimizer
from owlore.optim.sharded_adamw import ShardedAdamW
from owlore.optim.sharded_lowrank import ShardedLowRankAdamW
from owlore.sources import models
from owlore.study.method import Layers, Lora, LowRank, Trained
from owlore.train.precision import rounding_of

Groups = list[dict[str, Any]]  # torch's parameter groups


def trainable_model(model: PreTrainedModel, method: Trained) -> PreTrainedModel:
    """Return the model with the method's trainable part set up, in training mode.

    LoRA and its kin come from peft. With `trainable: layers` the decoder layers stay trainable
    here: the layer switch freezes them, after the optimizer has seen them all.
    """
    if isinstance(method, Lora):
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=method.r,
            lora_alpha=method.lora_alpha,
            lora_dropout=method.lora_dropout,
            target_modules=method.target_modules,
            use_rslora=method.use_rslora,
            use_dora=method.use_dora,
            init_lora_weights=cast("Any", method.init_lora_weights),
        )
        model = cast("PreTrainedModel", get_peft_model(model, config))
    elif isinstance(method, Layers) and not method.train_embeddings:
        inside = {id(p) for p in models.decoder_layers(model).parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in inside)
    if method.gradient_checkpointing:
        inner = models.without_adapter(model)
        inner.activation_checkpointing_enable({"use_reentrant": False})
        # Meant for reentrant checkpoints; it would run backward down to a frozen embedding.
        inner.disable_input_require_grads()  # type: ignore[no-untyped-call]
    model.config.use_cache = False
    model.train()
    return model


def kept_model(model: PreTrainedModel, method: Trained) -> tuple[PreTrainedModel, bool]:
    """Return what is saved of a trained model, and whether that is an adapter on the base model.

    A kind whose adapter does not belong on the base as it lies on disk (one trained on quantised
    weights) merges it here and returns a whole model: what is scored must be what was trained.
    """
    return model, method.adapter


def build_optimizer(model: PreTrainedModel, method: Trained, seed: int = 0) -> OwloreOptimizer:
    """Return the method's optimizer over all that trains now or may be woken later."""
    kind = OPTIMIZERS[_projection(method)]
    sharded = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    return (kind.sharded if sharded else kind.whole)(
        optimizer_groups(model, method),
        lr=method.learning_rate,
        betas=(method.adam_beta1, method.adam_beta2),
        eps=method.adam_epsilon,
        weight_decay=method.weight_decay,
        rounding=rounding_of(method.precision),
        seed=seed,
    )


def optimizer_groups(model: nn.Module, method: Trained) -> Groups:
    """Return the parameter groups of the method's optimizer, over all that trains."""
    return OPTIMIZERS[_projection(method)].groups(model, method)


def _projection(method: Trained) -> str:
    return method.projection if isinstance(method, LowRank) else "none"


def _one_group(model: nn.Module, method: Trained) -> Groups:
    return [{"params": _trained(model)}]


def _projected_apart(model: nn.Module, method: Trained) -> Groups:
    """Return two groups: what is projected, and the rest.

    Projected are the weights of the decoder layers' linear maps whose smaller side exceeds the
    rank; embeddings, norms and biases never are (GaLore, section 5.1: attention and feed-forward
    matrices).
    """
    assert isinstance(method, LowRank) and method.rank is not None
    trained = _trained(model)
    matrices = [
        module.weight
        for layer in models.decoder_layers(model)
        for module in models.linear_modules(layer).values()
        if isinstance(module.weight, nn.Parameter) and min(module.weight.shape) > method.rank
    ]
    projected = {id(matrix) for matrix in matrices}
    return [
        {"params": [(name, p) for name, p in trained if id(p) not in projected]},
        {
            "params": [(name, p) for name, p in trained if id(p) in projected],
            "rank": method.rank,
            "update_proj_gap": method.update_proj_gap,
            "scale": method.scale,
            "side": method.side,
            "refresh": method.refresh,
            "moments": method.moments,
        },
    ]


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


class Kind(NamedTuple):
    """An optimizer as a method names it: its classes and the groups that they take.

    The classes take groups of (name, parameter) pairs and the settings of `RoundedAdamW`.
    """

    whole: Callable[..., OwloreOptimizer]
    sharded: Callable[..., OwloreOptimizer]  # of parameters that FSDP2 has made DTensors
    groups: Callable[[nn.Module, Trained], Groups]


# By the method's `projection`. To add an optimizer, write its module in `owlore.optim`, fulfil the
# contract in `owlore.optim.protocol`, and name it here: nothing else knows one by its name.
OPTIMIZERS = {
    "none": Kind(RoundedAdamW, ShardedAdamW, _one_group),
    "low-rank": Kind(LowRankAdamW, ShardedLowRankAdamW, _projected_apart),
}
