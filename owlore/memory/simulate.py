"""Memory of a training step, simulated: no weights, no GPU, any model size.

The model is built from its configuration alone. Its tensors are fake: they have shapes, dtypes and
storages, but no bytes. One real training step runs on them (our loss, autograd, gradient
checkpointing, our optimizer), and torch's `MemTracker` adds up the live storages.

The result is what the allocator hands out. A GPU shows more: its context (0.3 to 0.6 GiB), work
space of its libraries, and fragmentation (a few percent).

`owlore.memory.plan` asks for many methods and remembers; `owlore memory` is its command.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from owlore.core.errors import BadInput
from owlore.data import examples as data
from owlore.optim.protocol import OwloreOptimizer
from owlore.sources import models
from owlore.study.fit import check_method
from owlore.study.method import Layers, Method, Trained, require_trained
from owlore.train.loss import answer_loss
from owlore.train.methods import build_optimizer, trainable_model
from owlore.train.precision import dtype_of

GIB = 2**30
aten = torch.ops.aten


def simulate(
    config: PretrainedConfig, method: Method, micro_batch: int, seqlen: int
) -> dict[str, float]:
    """Return the peak memory of one training step, allocated, in GiB, and what it consists of.

    The step is a full batch without padding in which every token is labelled, with all optimizer
    state in place; see `train`. With `trainable: layers` the draw is the costliest (see
    `_sleeping_layers`); with `state: keep` all layers have state, as after many draws; offloaded
    state is elsewhere and does not count.

    Returns:
        peak_gib and its parts, which add up to it: weights_gib (buffers included), gradients_gib,
        optimizer_gib, activations_gib (made by the forward pass or its recomputation),
        temporaries_gib (the rest: gradients of activations, work space of the optimizer, inputs).

    Raises:
        BadInput: the method trains nothing, or method and sizes do not fit the model.
    """
    method = require_trained(method, "simulate")
    _check(config, method, seqlen)
    model = meta_model(config, method)
    # What an optimizer computes once, such as the tables of 8-bit moments, fake tensors cannot.
    build_optimizer(model, method)
    batch = full_batch(method, micro_batch, seqlen)
    with FakeTensorMode(allow_non_fake_inputs=True):
        materialise(model)
        with Tracker():  # for its answers alone
            optimizer = optimizer_in_mid_training(model, method)
        tracker = Tracker()
        tracker.track_external(model, optimizer, *batch.values())
        tracker.track_gradients_of(model, optimizer)
        with tracker:
            train(model, optimizer, batch, method, tracker.reset_mod_stats)
    return _split(tracker, optimizer)


def optimizer_in_mid_training(model: PreTrainedModel, method: Trained) -> OwloreOptimizer:
    """Freeze what sleeps and return the optimizer with its state, as it is after many steps."""
    optimizer = build_optimizer(model, method)
    asleep = _sleeping_layers(model, method)
    resting = {p for layer in asleep for p in layer.parameters()}
    keep = isinstance(method, Layers) and method.state == "keep"
    for parameter in model.parameters():
        # State that is dropped or offloaded is not here: it is never made.
        if parameter.requires_grad and (keep or parameter not in resting):
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for layer in asleep:
        layer.requires_grad_(False)
    optimizer.wake(model.parameters())  # every basis is due for its refresh
    return optimizer


def train(
    model: PreTrainedModel,
    optimizer: OwloreOptimizer,
    batch: dict[str, Tensor],
    method: Trained,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Take the steps that show the peak; `before` is called before each micro-batch.

    With a projection, one that renews the bases (and may reset the moments) and one that does not.
    With accumulation, two micro-batches: from the second on, the gradients of earlier ones lie
    beside the activations.
    """
    for _ in range(2 if method.projected else 1):
        for _ in range(min(2, method.gradient_accumulation_steps)):
            before()
            answer_loss(model, batch, None).backward()  # type: ignore[no-untyped-call]
        optimizer.clip_grad_norm(method.max_grad_norm)
        optimizer.step()
        model.zero_grad()


class Tracker(MemTracker):
    """MemTracker for models with frozen parameters, and the answers that fake tensors lack.

    A step asks whether the mask masks nothing, which rows are labelled, whether gradients are
    finite. With a full batch and finite gradients: yes, all, yes.
    """

    def track_gradients_of(self, model: nn.Module, optimizer: OwloreOptimizer) -> None:
        """Count gradients, or what the optimizer's hooks leave of them until the step, as such.

        State that the hooks make counts as the optimizer's.
        """

        def track(parameter: Tensor) -> None:
            kept = optimizer.pending_gradients().get(parameter, parameter.grad)
            assert kept is not None
            self._update_and_maybe_create_winfos(kept, _MemRefType.GRAD)
            for made in optimizer.made_in_backward(parameter):
                self._update_and_maybe_create_winfos(made, _MemRefType.OPT)

        for parameter in model.parameters():
            if parameter.requires_grad:  # after the optimizer's own hook
                parameter.register_post_accumulate_grad_hook(track)  # type: ignore[no-untyped-call]

    def _track_module_params_and_buffers(
        self, module: nn.Module, install_grad_hooks: bool = True
    ) -> tuple[int, int]:
        # Its own hooks fail on frozen parameters; ours are where a gradient will come.
        return super()._track_module_params_and_buffers(module, install_grad_hooks=False)

    def _update_peak_stats(self, peak_state: Any) -> None:
        # A peak for each module, which nobody reads here, would take most of the time.
        for device, now in self._curr_mem_snap.items():
            if now["Total"] > self._peak_mem.get(device, 0):
                self._peak_mem[device], self._peak_mem_snap[device] = now["Total"], dict(now)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is aten._local_scalar_dense.default and args[0].dtype == torch.bool:
            return True
        if func is aten.add.Tensor and _sums_gradients_of_a_tied_head(*args):
            func = aten.add_.Tensor
        if func is aten.index.Tensor:
            tensor, indices = args
            args = (tensor, [index for mask in indices for index in _as_rows(mask)])
        return super().__torch_dispatch__(func, types, args, kwargs)  # type: ignore[no-untyped-call]


def _sums_gradients_of_a_tied_head(one: Any, other: Any) -> bool:
    """Return whether autograd adds the gradients of a matrix's two uses, embedding and head.

    It does so in place, except where a tensor is fake. No other sum of two like it is made in the
    backward pass: gradients of hidden states have three dimensions.
    """
    in_backward = torch._C._current_graph_task_id() >= 0
    return in_backward and torch.is_tensor(other) and one.dim() == 2 and one.shape == other.shape


def _as_rows(index: Tensor | None) -> list[Tensor | None]:
    """Replace a mask by as many row numbers as it has entries, one tensor a dimension."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return [torch.zeros(index.numel(), dtype=torch.int64) for _ in range(index.dim())]


def _check(config: PretrainedConfig, method: Trained, seqlen: int) -> None:
    shape = models.shape(config)
    window = shape["max_position_embeddings"]
    # The window limits this batch, whatever the method's max_length.
    check_method({**shape, "max_position_embeddings": None}, method, "method")
    if not 2 <= seqlen <= (window or seqlen):
        raise BadInput(f"--seqlen: {seqlen}: at least 2, at most the model's window ({window})")


def meta_model(config: PretrainedConfig, method: Trained) -> PreTrainedModel:
    """Build the model without storage: peft cannot replace modules of fake tensors."""
    config = copy.deepcopy(config)  # building a model writes into its configuration
    dtype = models.DTYPES[dtype_of(method.precision)]
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, dtype=dtype, attn_implementation="sdpa"
            )
            model = trainable_model(model, method)
    except ValueError as error:  # no causal language model, one without SDPA, no target modules
        raise BadInput(f"model: {str(error).splitlines()[0]}") from None
    return model


def full_batch(method: Trained, micro_batch: int, seqlen: int) -> dict[str, Tensor]:
    """Return a batch, not fake, as training makes it of examples that are all `seqlen` long."""
    examples = [data.Example([0] * seqlen, [0] * seqlen)] * micro_batch
    if method.padding_free:
        return data.flat_batch(examples)
    batch = data.padded_batch(examples, pad_token_id=0)
    # Whether a mask masks anything is asked of real tensors only; a bool goes through as it is.
    return batch | {"attention_mask": batch["attention_mask"].bool()}


def materialise(model: nn.Module) -> None:
    """Turn meta tensors into fake CPU tensors; tied weights stay tied, frozen ones frozen."""
    made: dict[Tensor, Tensor] = {}
    for module in model.modules():
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in own:
            if tensor not in made:
                made[tensor] = torch.empty_like(tensor, device="cpu", requires_grad=False)
                if isinstance(tensor, nn.Parameter):
                    made[tensor] = nn.Parameter(made[tensor], tensor.requires_grad)
            setattr(module, name, made[tensor])


def _sleeping_layers(model: PreTrainedModel, method: Trained) -> list[nn.Module]:
    """Return the decoder layers that do not train, so that the others cost most of all draws.

    The backward pass reaches the last layers first: their gradients then lie beside all the
    activations. But if the embeddings are frozen, layers before the first that is awake save no
    activations; that matters more, unless checkpointing keeps them small.
    """
    if not isinstance(method, Layers):
        return []
    layers = list(models.decoder_layers(model))
    sleeping = len(layers) - method.gamma
    first = 0 if method.train_embeddings or method.gradient_checkpointing else 1
    return layers[first : first + sleeping]


def _split(tracker: Tracker, optimizer: OwloreOptimizer) -> dict[str, float]:
    """Return the tracker's peak by kind, in GiB."""
    (snapshot,) = tracker.get_tracker_snapshot("peak").values()
    parts = {
        "weights_gib": snapshot[_MemRefType.PARAM] + snapshot[_MemRefType.BUFFER],
        "gradients_gib": snapshot[_MemRefType.GRAD],
        # The tracker counts all that is made during the optimizer's step as its state.
        "optimizer_gib": min(snapshot[_MemRefType.OPT], optimizer.state_bytes()),
        "activations_gib": snapshot[_MemRefType.ACT],
    }
    parts["temporaries_gib"] = snapshot["Total"] - sum(parts.values())
    return {"peak_gib": snapshot["Total"] / GIB} | {k: v / GIB for k, v in parts.items()}
