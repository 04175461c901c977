"""The contract of an optimizer of this project: all that training may ask of one.

Imports only torch. Training, metering, layer switching and the simulator use what is written here
and look nowhere else, so that another optimizer is one module beside this one and one line in the
table of `owlore.train.methods`.

It is a base class and no `typing.Protocol`: torch's learning-rate schedulers take only instances of
`torch.optim.Optimizer`. What is not abstract suits an optimizer that keeps all it has in `state`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

POLICIES = ("drop", "keep", "offload")  # what becomes of the state of parameters that sleep


@dataclass(frozen=True)
class Statistics:
    """What an optimizer has done since it was last asked, besides its steps."""

    projector_refreshes: int = 0  # bases computed
    projector_seconds: float = 0.0  # wall time that took


class OwloreOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer whose parameters can sleep and whose memory can be told.

    `state` holds, for each parameter that has any, a dict of plain tensors and numbers: sleeping,
    counting bytes and checkpoints are written once, here, because of it. A gradient lies in
    `parameter.grad` until `step`, or is taken from there in the backward pass and is *pending*.
    """

    @overload
    @abstractmethod
    def step(self, closure: None = None) -> None: ...
    @overload
    @abstractmethod
    def step(self, closure: Callable[[], float]) -> float: ...
    @abstractmethod
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient, pending or not, and pass over the others.

        Afterwards nothing is pending; `parameter.grad` is the caller's to free. A closure is run
        first, with gradients, and what it returns is returned.

        Raises:
            FloatingPointError: where a kind of optimizer looks at gradients, one is not finite.
        """

    @abstractmethod
    def clip_grad_norm(self, max_norm: float) -> Tensor:
        """Scale this step's gradients so that their norm is at most `max_norm`; return the norm.

        Called after all micro-batches of a step. The norm is that of what `step` will use, over all
        parameters (of a sharded model: over all ranks) together, before it is scaled.

        Returns:
            A scalar, float32.

        Raises:
            FloatingPointError: a gradient is not finite; its parameter is named.
        """

    def pending_gradients(self) -> Mapping[Tensor, Tensor]:
        """Return the gradients that wait for `step` elsewhere than in `.grad`, by parameter.

        They are what the optimizer will use and may have another shape than the parameter; of a
        sharded parameter, this rank's part.
        """
        return {}

    def sleep(self, parameters: Iterable[Tensor], policy: str = "drop") -> None:
        """Parameters stop training: nothing of theirs is pending any more, and their state goes.

        Args:
            parameters: any of this optimizer's; those without state are passed over.
            policy: drop forgets the state, keep leaves it where it is, offload moves it to main
                memory.

        Raises:
            ValueError: the policy is not known.
        """
        if policy not in POLICIES:
            raise ValueError(f"policy: {policy!r}: allowed {', '.join(POLICIES)}")
        for parameter in parameters:
            if policy == "drop":
                self.state.pop(parameter, None)
            elif policy == "offload" and parameter in self.state:
                _move(self.state[parameter], torch.device("cpu"))

    def wake(self, parameters: Iterable[Tensor]) -> None:
        """Parameters train again: state that is there comes back to the parameter's device.

        Parameters without state start anew at their next step. To wake one that is awake is allowed
        (the first draw of layers wakes all that it has drawn).
        """
        for parameter in parameters:
            if parameter in self.state:
                _move(self.state[parameter], parameter.device)

    def state_bytes(self, parameters: Iterable[Tensor] | None = None) -> int:
        """Return the bytes of all state tensors (of the given parameters only), on this rank."""
        chosen = self.state if parameters is None else parameters
        return sum(
            value.numel() * value.element_size()
            for parameter in chosen
            for value in self.state.get(parameter, {}).values()
            if torch.is_tensor(value)
        )

    def made_in_backward(self, parameter: Tensor) -> Iterable[Tensor]:
        """Return the state tensors that a backward pass may have made anew for the parameter.

        The simulator asks after each gradient, to count them as state and not as work space.
        """
        return ()

    def renewed_state(self) -> Iterator[Tensor]:
        """Replace each state tensor by a copy, one after another, and yield the copy.

        A memory profiler notices that a tensor is freed only if it has seen it allocated; state
        from before it was started may be freed in the step that it records.
        """
        for state in self.state.values():
            for key, value in state.items():
                if torch.is_tensor(value):
                    state[key] = value.clone()
                    yield state[key]

    def take_statistics(self) -> Statistics:
        """Hand over what was counted since this was last called, and begin again from zero."""
        return Statistics()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: plain tensors and numbers, for `weights_only=True`.

        With a sharded model every rank must ask; the first gets the whole state, in main memory,
        the others get no tensors. It does not say how many ranks there were.
        """
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, to the last bit, on the parameters' devices.

        With a sharded model every rank is given the whole state and keeps its part.

        Raises:
            ValueError: the groups or their parameters are not as many as here.
        """
        super().load_state_dict(state_dict)
        # torch casts floating-point state to the parameter's dtype: float32 moments of a bfloat16
        # weight would lose their bits. So every tensor is put in again as it was saved.
        saved_numbers = [n for group in state_dict["param_groups"] for n in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, parameter in zip(saved_numbers, parameters, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if torch.is_tensor(value):
                    self.state[parameter][key] = value.to(parameter.device, copy=True)


def _move(state: dict[str, Any], device: torch.device) -> None:
    for key, value in state.items():
        if torch.is_tensor(value):
            state[key] = value.to(device)
