"""AdamW by torch's kernel, and what becomes of an update that a bfloat16 weight cannot hold.

Imports only torch, `protocol.py`, `moments.py` and `rounding.py`. A bfloat16 weight keeps 8 bits,
so that most updates are lost where they are added in bfloat16; `rounding` says how they are not.
Weight decay is decoupled. All state is plain tensors and numbers, so a checkpoint loads with
`weights_only=True`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from owlore.optim import moments
from owlore.optim.protocol import OwloreOptimizer
from owlore.optim.rounding import round_stochastically

ROUNDINGS = ("nearest", "stochastic", "master", "lean")
CHUNK = 1 << 22  # entries of a bfloat16 weight that are float32 at one time


class RoundedAdamW(OwloreOptimizer):
    """AdamW whose updates of bfloat16 weights are rounded as asked for."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        rounding: str = "nearest",
        seed: int = 0,
        group_keys: Mapping[str, Any] | None = None,
    ):
        """Prepare the optimizer.

        Args:
            params: parameter groups, of parameters or (name, parameter) pairs.
            lr: learning rate.
            betas: decay rates of the two moments.
            eps: added to the root of the second moment, after bias correction as torch does.
            weight_decay: decoupled, applied to the full weight.
            rounding: what becomes of an update of a bfloat16 weight. nearest: added in bfloat16,
                moments in bfloat16 too (as published). stochastic: computed in float32, rounded up
                or down at random. master: a float32 copy of the weight is state. Both keep float32
                moments. lean: as stochastic, but large moments are stored in 8 bits.
            seed: of stochastic rounding.
            group_keys: keys that a group may have besides, with their defaults.

        Raises:
            ValueError: `rounding` is not known.
            ModuleNotFoundError: lean is asked for and torchao is not installed.
        """
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding: {rounding!r}: allowed {', '.join(ROUNDINGS)}")
        if rounding == "lean":
            moments.prepare()  # missing, torchao stops us here and not at the first step
        defaults: dict[str, Any] = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        defaults |= {**(group_keys or {}), "steps": 0}  # steps: taken by the group
        super().__init__(params, defaults)
        self._rounding = rounding
        self._seed = seed
        self._number: dict[Tensor, int] = {}
        self._name: dict[Tensor, str] = {}
        self._group_index: dict[Tensor, int] = {}
        for index, group in enumerate(self.param_groups):
            for place, parameter in enumerate(group["params"]):
                number = self._number[parameter] = len(self._number)
                names = group.get("param_names")
                self._name[parameter] = names[place] if names else f"parameter {number}"
                self._group_index[parameter] = index

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; see the contract."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._prepare()
        for group in self.param_groups:
            self._group_step(group)
            group["steps"] += 1
        return loss

    @torch.no_grad()
    def clip_grad_norm(self, max_norm: float) -> Tensor:
        """Scale this step's gradients so that their norm is at most `max_norm`; return the norm.

        Raises:
            FloatingPointError: a gradient is not finite; its parameter is named.
        """
        self._prepare()
        pending = self.pending_gradients()
        gradients = {
            parameter: self._here(gradient)
            for parameter in self._number
            if (gradient := pending.get(parameter, parameter.grad)) is not None
        }
        found = list(gradients.values())
        norm = self._norm_everywhere(torch.nn.utils.get_total_norm(found).float())
        if not torch.isfinite(norm):
            finite = torch.stack([torch.isfinite(gradient).all() for gradient in found])
            for parameter, fine in zip(gradients, self._true_everywhere(finite), strict=True):
                if not fine:
                    raise self._not_finite(parameter)
        if norm > max_norm:
            torch._foreach_mul_(found, max_norm / (norm + 1e-6))
        return norm

    def _prepare(self) -> None:
        """Make ready what clipping and a step use; gradients are."""

    def _group_step(self, group: dict[str, Any]) -> None:
        trained = [p for p in group["params"] if p.grad is not None]
        for parameter in trained:
            if "step" not in self.state[parameter]:
                self.state[parameter].update(self._fresh_moments(parameter, self._here(parameter)))
        together = [p for p in trained if not self._is_wide(p)]
        if together:
            weights = [self._here(p) for p in together]
            gradients = [self._here(p.grad) for p in together if p.grad is not None]
            fused_adam(group, weights, gradients, [self.state[p] for p in together])
        for parameter in trained:
            if self._is_wide(parameter):
                self._wide_step(group, parameter)

    def _wide_step(self, group: dict[str, Any], parameter: Tensor) -> None:
        """Update a bfloat16 weight in float32, chunk by chunk: wide copies are small."""
        assert parameter.grad is not None
        state, flat = self.state[parameter], self._here(parameter).view(-1)
        gradient = self._here(parameter.grad).view(-1)
        master = self._master(parameter).view(-1) if self._rounding == "master" else None
        generator = self._rounding_generator(parameter)
        steps = state["step"]
        for start in range(0, flat.numel(), CHUNK):
            chunk = slice(start, start + CHUNK)
            weight = flat[chunk].float() if master is None else master[chunk]
            stored = moments.read(state, chunk)
            now = {**stored, "step": steps.clone()}
            fused_adam(group, [weight], [gradient[chunk].float()], [now])
            moments.write(state, chunk, stored)
            flat[chunk] = self._rounded(weight, generator)
        state["step"] = steps + 1

    def _fresh_moments(self, parameter: Tensor, like: Tensor) -> dict[str, Tensor]:
        return moments.fresh(like, self._dtype(parameter), self._rounding == "lean")

    def _dtype(self, parameter: Tensor) -> torch.dtype:
        """Of a parameter's moments (if they are not in 8 bits) and basis."""
        return torch.float32 if self._is_wide(parameter) else parameter.dtype

    def _is_wide(self, parameter: Tensor) -> bool:
        """Return whether the weight is bfloat16 but its update is made in float32."""
        return self._rounding != "nearest" and parameter.dtype == torch.bfloat16

    def _master(self, parameter: Tensor) -> Tensor:
        """Return a float32 copy of the weight: a new one, or with rounding master the state's."""
        if self._rounding != "master":
            return self._here(parameter).float()
        state = self.state[parameter]
        if "master" not in state:
            state["master"] = self._here(parameter).float()
        master: Tensor = state["master"]
        return master

    def _rounded(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        return weight if self._rounding == "master" else round_stochastically(weight, generator)

    def _rounding_generator(self, parameter: Tensor) -> torch.Generator:
        # Every step of every parameter has its own generator, seeded by its number and the step:
        # resuming needs no random state, and which other layers were awake changes no bit here.
        steps = self.param_groups[self._group_index[parameter]]["steps"]
        return self._generator_for(parameter, 2 * steps + 1)  # even occasions are projectors'

    def _generator_for(self, parameter: Tensor, occasion: int) -> torch.Generator:
        number = self._number[parameter]
        seed = (self._seed * 1_000_003 + number) * 1_000_003 + occasion
        return torch.Generator().manual_seed(seed % 2**63)

    def _not_finite(self, parameter: Tensor) -> FloatingPointError:
        what = f"{self._name[parameter]} {tuple(parameter.shape)}"
        return FloatingPointError(f"the gradient of {what} is not finite")

    # Where tensors lie: all here. `sharded_adamw.py` has its own version of what follows.

    def _here(self, tensor: Tensor) -> Tensor:
        """Return this process's part of a weight or of its gradient."""
        return tensor

    def _norm_everywhere(self, norm: Tensor) -> Tensor:
        return norm

    def _true_everywhere(self, flags: Tensor) -> Tensor:
        return flags


def fused_adam(
    group: dict[str, Any],
    weights: list[Tensor],
    gradients: list[Tensor],
    states: list[dict[str, Any]],
) -> None:
    """Run torch's fused AdamW on these weights; `states` hold the moments and step counts."""
    adamw(
        weights,
        gradients,
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        fused=True,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
