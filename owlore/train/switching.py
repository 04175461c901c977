"""Layer switching: every `interval_steps` steps draw gamma decoder layers, freeze the others.

The optimizer is built over all parameters before the first draw, so that every layer can be trained
later; a frozen layer has no gradient and is passed over. What a sleeping layer's optimizer state
becomes is the method's `state`. The embedding, the head and the final norm train always or never
(`train_embeddings`).
"""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from owlore.optim.protocol import OwloreOptimizer
from owlore.train.sampling import LayerSampler


class LayerSwitch(TrainerCallback):
    """Trainer callback that draws the active layers; its state is part of every checkpoint."""

    def __init__(
        self,
        layers: nn.ModuleList,
        sampler: LayerSampler,
        interval_steps: int,
        policy: str,
    ):
        """Prepare the switch; nothing is frozen before the first step.

        Args:
            layers: the model's decoder layers, all of them trainable.
            sampler: draws the layers that train.
            interval_steps: optimizer steps from one draw to the next.
            policy: what becomes of a sleeping layer's state: drop, keep or offload.
        """
        self.layers = layers
        self.active: list[int] = []
        self.switches = 0
        self.activations = [0] * len(layers)
        self._sampler = sampler
        self._interval_steps = interval_steps
        self._policy = policy
        self._optimizer: OwloreOptimizer | None = None

    def attach(self, optimizer: OwloreOptimizer) -> None:
        """Tell which optimizer holds the layers' state; it is made after the callbacks."""
        self._optimizer = optimizer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freeze what slept when the checkpoint was written; the optimizer holds all by now."""
        if not self.switches:
            return
        assert self._optimizer is not None, "attach() comes before training"
        for index, layer in enumerate(self.layers):
            layer.requires_grad_(index in self.active)
            if index not in self.active:
                # Loading put its state on the layer's device, also if it had been offloaded.
                self._optimizer.sleep(layer.parameters(), self._policy)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw at every multiple of the interval; optimizer steps count, not micro-batches."""
        if state.global_step % self._interval_steps == 0:
            self._switch_to(self._sampler.draw())
            self.switches += 1
        for layer in self.active:
            self.activations[layer] += 1

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed run needs, as plain JSON values."""
        return {
            "active": self.active,
            "switches": self.switches,
            "activations": self.activations,
            "sampler": self._sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the same layers awake, also in the middle of an interval."""
        self.active = list(state["active"])
        self.switches = state["switches"]
        self.activations = list(state["activations"])
        self._sampler.load_state_dict(state["sampler"])

    def _switch_to(self, drawn: list[int]) -> None:
        # Before the first draw no layer is frozen: those drawn are woken then as if they had slept,
        # and all others are sent to sleep.
        awake = set(self.active) if self.switches else set(range(len(self.layers)))
        assert self._optimizer is not None, "attach() comes before training"
        for index, layer in enumerate(self.layers):
            parameters = list(layer.parameters())
            if index in drawn:
                layer.requires_grad_(True)
                if index not in awake or not self.switches:
                    self._optimizer.wake(parameters)
            elif index in awake:
                layer.requires_grad_(False)
                for parameter in parameters:
                    parameter.grad = None
                self._optimizer.sleep(parameters, self._policy)
        self.active = list(drawn)
