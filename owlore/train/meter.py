"""What is measured while training: time, tokens, bytes by kind, and the bar that shows it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from owlore.core.progress import Progress
from owlore.data.examples import TrainingOrder
from owlore.optim.here import here
from owlore.optim.protocol import OwloreOptimizer
from owlore.sources import models
from owlore.study.method import Trained
from owlore.train.memory import Recording
from owlore.train.switching import LayerSwitch

# Bytes of a training step; activations are what the forward pass keeps for backward.
KINDS = ("weights", "gradients", "optimizer", "activations")
# And of optimizer state the decoder's; and of all allocated bytes the peak, see `recorded_steps`.
MEASURED = (*KINDS, "decoder", "peak")
RECORDED_AT_MOST = 64  # steps; each costs time, and torch's profiler 70 KB that it never frees


@dataclass
class Meter:
    """What is measured while training; part of every checkpoint, so that a resumed run adds up.

    Bytes are of this rank, tokens and seconds of the whole step.
    """

    seconds: float = 0.0
    tokens: int = 0
    trained_parameters: int = 0
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MEASURED, 0))
    projector: dict[str, float] = field(default_factory=lambda: {"refreshes": 0, "seconds": 0.0})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `vars()` of another meter, as a checkpoint holds them."""
        vars(self).update(state)

    def highest(self, kind: str, found: int) -> None:
        """Keep the highest number of bytes seen of a kind."""
        self.bytes[kind] = max(self.bytes[kind], found)

    @contextmanager
    def activations(self, model: nn.Module) -> Iterator[None]:
        """Add up what the forward pass inside keeps for backward; weights do not count."""
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            yield
        # A weight that FSDP2 had gathered is empty again, or the model's parameter still.
        weights = {here(p).untyped_storage().data_ptr() for p in model.parameters()}
        found = sum(storage.nbytes() for at, storage in kept.items() if at not in weights)
        kept.clear()  # autograd keeps `keep`, and so would keep what backward is to free
        self.highest("activations", found)


class Measuring(TrainerCallback):
    """Trainer callback that times steps, counts tokens and bytes, and adds them to the log."""

    def __init__(
        self,
        meter: Meter,
        model: PreTrainedModel,
        order: TrainingOrder,
        method: Trained,
        switch: LayerSwitch | None,
        optimizer: Callable[[], OwloreOptimizer],
        device: str,
    ):
        """Prepare to measure; nothing is measured before training begins.

        Args:
            meter: where all that is measured is added up.
            model: the model that trains.
            order: the examples of all steps, in the order in which they come.
            method: says how many examples a step has, and how they are cut into micro-batches.
            switch: says which layers are awake; None where there are none to switch.
            optimizer: returns the optimizer, which the Trainer makes after its callbacks.
            device: cpu or cuda, where the peak of allocated bytes is taken.
        """
        self._meter, self._model, self._order, self._method = meter, model, order, method
        self._switch, self._optimizer, self._device = switch, optimizer, device
        self._started = 0.0
        self._bar: Progress | None = None
        self._recording: Recording | None = None
        self._recorded_steps: set[int] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._recorded_steps = recorded_steps(self._order, self._method)
        self._bar = Progress(
            total=state.max_steps, initial=state.global_step, desc="finetune", unit="step"
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._device == "cpu" and state.global_step in self._recorded_steps:
            self._recording = Recording()
            self._recording.start(self._live_tensors)
        self._started = time.perf_counter()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        meter, parameters = self._meter, list(self._model.parameters())
        meter.highest("weights", sum(here(p).nbytes for p in parameters))
        gradients = [p.grad for p in parameters if p.grad is not None]
        gradients += self._optimizer().pending_gradients().values()
        storages = [here(g).untyped_storage() for g in gradients]  # views may share one
        meter.highest("gradients", sum({s.data_ptr(): s.nbytes() for s in storages}.values()))
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        meter.trained_parameters = max(meter.trained_parameters, trained)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        meter, optimizer = self._meter, self._optimizer()
        meter.highest("optimizer", optimizer.state_bytes())
        layers = models.decoder_layers(self._model)
        meter.highest("decoder", optimizer.state_bytes(layers.parameters()))
        statistics = optimizer.take_statistics()
        meter.projector["refreshes"] += statistics.projector_refreshes
        meter.projector["seconds"] += statistics.projector_seconds
        per_step = self._method.examples_per_step
        first = (state.global_step - 1) * per_step
        self._tokens = sum(len(self._order[i].input_ids) for i in range(first, first + per_step))
        meter.tokens += self._tokens
        self._seconds = time.perf_counter() - self._started
        meter.seconds += self._seconds
        self._note_peak()

    def _note_peak(self) -> None:
        """Keep the highest peak of allocated bytes; the recording's own work is not timed."""
        found = 0
        if self._recording is not None:
            found, self._recording = self._recording.stop(), None
        elif self._device == "cuda":
            found = torch.cuda.max_memory_allocated()
        self._meter.highest("peak", found)

    def _live_tensors(self) -> Iterator[Tensor]:
        """Yield what lives between two steps; what the step may free is made anew."""
        yield from map(here, self._model.parameters())
        yield from self._model.buffers()
        yield from self._optimizer().renewed_state()

    def abandon(self) -> None:
        """End a recording that a failed step has left."""
        if self._recording is not None:
            self._recording.stop()
            self._recording = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        row = state.log_history[-1]
        if "loss" not in row:
            return
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            self._bar.update()
        measured: dict[str, Any] = {
            "active_layers": list(self._switch.active) if self._switch else None,
            "tokens": self._meter.tokens,
            "tokens_per_second": round(self._tokens / self._seconds, 2),
            "seconds": round(self._meter.seconds, 3),
            "optimizer_bytes": self._optimizer().state_bytes(),
        }
        row.update(measured)


def recorded_steps(order: TrainingOrder, method: Trained) -> set[int]:
    """Return the steps, from 0, whose peak of allocated memory is measured on a CPU.

    Recording costs time, so only the step that is likely to set the peak is: of every draw of
    layers (without layers: of the training) the one with the largest micro-batch, the first of
    equals. If that is the draw's first step, the largest of the others too: a layer that has just
    woken up has no moments until the step's end. Of too many the largest are chosen.
    """
    size, per_step = method.per_device_train_batch_size, method.examples_per_step
    lengths = [len(order[i].input_ids) for i in range(len(order))]

    def tokens(step: int) -> int:
        starts = range(step * per_step, (step + 1) * per_step, size)
        batches = [lengths[start : start + size] for start in starts]
        return max(sum(b) if method.padding_free else size * max(b) for b in batches)

    together = method.steps_between_draws
    found = set()
    for first in range(0, method.max_steps, together):
        steps = range(first, min(first + together, method.max_steps))
        found |= {max(steps, key=tokens), max(steps[1:], key=tokens, default=first)}
    return set(sorted(found, key=tokens, reverse=True)[:RECORDED_AT_MOST])
