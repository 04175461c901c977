"""LowRankAdamW: AdamW whose moments live in a low-rank space for chosen matrices (GaLore).

Imports only torch, so that it can be lifted out, with `projector.py` and `rounding.py`. For a
matrix of a group with a `rank` the gradient G is projected on an orthonormal basis of its leading
subspace, Adam runs on the small projection, and the update is projected back and scaled (GaLore,
arXiv 2403.03507, Algorithm 2):

    side left:   R = Pᵀ G,  W ← W − lr · scale · P · adam(R)        P: rows × rank
    side right:  R = G P,   W ← W − lr · scale · adam(R) · Pᵀ       P: columns × rank

All other parameters get plain AdamW. Both use torch's own AdamW kernel, so that two methods never
differ by the implementation of Adam. Weight decay is decoupled and applied to the full weight.

What differs from galore-torch:

- A gradient is projected as soon as backward has made it, added to the projections of the step's
  earlier micro-batches, and freed: full gradients of two matrices never live side by side. A sum
  of projections is the projection of the sum, so accumulation changes nothing.
- *First micro-batch rule*: where a basis is due (at wake-up and every `update_proj_gap` steps), it
  is made of the gradient of the step's first micro-batch, and holds for that whole step. With one
  micro-batch a step this is GaLore's own rule.
- Clipping (`clip_grad_norm`) is by the norm of what is used: projections and plain gradients.
- The basis comes from subspace iteration unless an exact SVD is asked for.
- State is plain tensors and numbers, so a checkpoint loads with `weights_only=True`.
- A layer that falls asleep can drop, keep or offload its state; one that wakes up always gets a
  fresh basis.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from owlore.projector import (
    leading_basis,
    project,
    project_back,
    projects_left,
    rotated_moments,
)
from owlore.rounding import round_stochastically, widened


class LowRankAdamW(torch.optim.Optimizer):
    """AdamW with optional low-rank projection per parameter group.

    Group keys beyond AdamW's: `rank` (None: plain AdamW), `update_proj_gap` (steps of the
    parameter's own count between two refreshes of its basis), `scale`, `side` (std: project the
    smaller dimension; square matrices on the right), `refresh` (svd, randomized, subspace),
    `moments` at a refresh (reset, keep, rotate into the new basis).
    """

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
    ):
        """Prepare the optimizer; projected parameters get a hook that runs in backward.

        Args:
            params: parameter groups, of parameters or (name, parameter) pairs.
            lr: learning rate.
            betas: decay rates of the two moments.
            eps: added to the root of the second moment, after bias correction as torch does.
            weight_decay: decoupled, applied to the full weight.
            rounding: what becomes of an update of a bfloat16 weight. nearest: added in bfloat16,
                moments in bfloat16 too (as published). stochastic: computed in float32, rounded
                up or down at random. master: a float32 copy of the weight is state. The last two
                keep float32 moments. Low-rank moments and bases are float32 always.
            seed: of the random sketches that start a basis, and of stochastic rounding.

        Raises:
            ValueError: `rounding` is not known.
        """
        if rounding not in ("nearest", "stochastic", "master"):
            raise ValueError(f"rounding: {rounding!r}: allowed nearest, stochastic, master")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "rank": None,
            "update_proj_gap": 200,
            "scale": 1.0,
            "side": "std",
            "refresh": "subspace",
            "moments": "reset",
            "steps": 0,  # taken by this group
        }
        self.projector_seconds = 0.0
        self.projector_refreshes = 0
        super().__init__(params, defaults)
        self._rounding = rounding
        self._seed = seed
        self._projections: dict[Tensor, Tensor] = {}  # of this step's micro-batches, summed
        self._number: dict[Tensor, int] = {}
        self._name: dict[Tensor, str] = {}
        self._group_index: dict[Tensor, int] = {}
        for index, group in enumerate(self.param_groups):
            for place, parameter in enumerate(group["params"]):
                number = self._number[parameter] = len(self._number)
                names = group.get("param_names")
                self._name[parameter] = names[place] if names else f"parameter {number}"
                self._group_index[parameter] = index
                if group["rank"] is not None and parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(self._project)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; projected gradients are used up.

        Raises:
            FloatingPointError: see `_refresh`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._project_all()
        for group in self.param_groups:
            if group["rank"] is None:
                self._plain_step(group, [p for p in group["params"] if p.grad is not None])
            else:
                for parameter in group["params"]:
                    if parameter in self._projections:
                        self._low_rank_step(group, parameter, self._projections.pop(parameter))
            group["steps"] += 1
        return loss

    @torch.no_grad()
    def clip_grad_norm(self, max_norm: float) -> Tensor:
        """Scale this step's gradients so that their norm is at most `max_norm`; return the norm.

        The norm is taken over plain gradients and projections together, after all micro-batches.

        Raises:
            FloatingPointError: a gradient is not finite; its parameter is named.
        """
        self._project_all()
        gradients = {
            parameter: gradient
            for parameter in self._number
            if (gradient := self._projections.get(parameter, parameter.grad)) is not None
        }
        found = list(gradients.values())
        norm = torch.nn.utils.get_total_norm(found).float()
        if not torch.isfinite(norm):
            for parameter, gradient in gradients.items():
                if not torch.isfinite(gradient).all():
                    raise self._not_finite(parameter)
        if norm > max_norm:
            torch._foreach_mul_(found, max_norm / (norm + 1e-6))
        return norm

    def sleep(self, parameters: Iterable[Tensor], policy: str = "drop") -> None:
        """Parameters stop training: drop, keep or offload (to main memory) their state."""
        for parameter in parameters:
            self._projections.pop(parameter, None)
            if policy == "drop":
                self.state.pop(parameter, None)
            elif policy == "offload" and parameter in self.state:
                _move(self.state[parameter], torch.device("cpu"))

    def wake(self, parameters: Iterable[Tensor]) -> None:
        """Parameters train again: state that was kept comes back, a basis will be refreshed."""
        for parameter in parameters:
            if parameter in self.state:
                state = self.state[parameter]
                _move(state, parameter.device)
                if "basis" in state:
                    state["age"] = 0

    def state_bytes(self, parameters: Iterable[Tensor] | None = None) -> int:
        """Return the bytes of all state tensors (of the given parameters only)."""
        chosen = self.state if parameters is None else parameters
        return sum(
            value.numel() * value.element_size()
            for parameter in chosen
            for value in self.state.get(parameter, {}).values()
            if torch.is_tensor(value)
        )

    def projections(self) -> dict[Tensor, Tensor]:
        """Return the projected gradients that wait for `step`, by parameter."""
        return self._projections

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state in the dtype it had; torch alone would cast it to the parameter's."""
        super().load_state_dict(state_dict)
        saved_numbers = [n for group in state_dict["param_groups"] for n in group["params"]]
        for number, parameter in zip(saved_numbers, self._number, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if torch.is_tensor(value):
                    self.state[parameter][key] = value.to(parameter.device, copy=True)

    def _project_all(self) -> None:
        """Project what backward's hooks have not seen: gradients that were set by hand."""
        for group in self.param_groups:
            if group["rank"] is not None:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._project(parameter)

    @torch.no_grad()
    def _project(self, parameter: Tensor) -> None:
        """Add the projection of a micro-batch's gradient to its sum and free the gradient."""
        group = self.param_groups[self._group_index[parameter]]
        left = projects_left(parameter.shape, group["side"])
        assert parameter.grad is not None
        gradient = widened(parameter.grad)
        parameter.grad = None
        first = parameter not in self._projections
        state = self.state[parameter]
        if first and ("basis" not in state or state["age"] % group["update_proj_gap"] == 0):
            self._refresh(group, parameter, gradient, left)
        projection = project(gradient, state["basis"], left)
        self._projections[parameter] = (
            projection if first else self._projections[parameter].add_(projection)
        )

    def _refresh(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, left: bool
    ) -> None:
        """Give the parameter a new basis and treat its moments as the group says.

        Raises:
            FloatingPointError: the gradient is not finite; the parameter is named.
        """
        started = time.perf_counter()
        if not torch.isfinite(gradient).all():
            raise self._not_finite(parameter)
        state = self.state[parameter]
        refreshes = state.get("refreshes", 0)
        old = state.get("basis")
        generator = self._generator_for(parameter, 2 * refreshes)
        new = leading_basis(gradient, left, group["rank"], group["refresh"], old, generator)
        if "exp_avg" in state:
            if group["moments"] == "reset":
                for key in ("exp_avg", "exp_avg_sq", "step"):
                    del state[key]
            elif group["moments"] == "rotate" and old is not None:
                state["exp_avg"], state["exp_avg_sq"] = rotated_moments(
                    state["exp_avg"], state["exp_avg_sq"], new.T @ old, left
                )
        state.update({"basis": new, "age": state.get("age", 0), "refreshes": refreshes + 1})
        self.projector_refreshes += 1
        self.projector_seconds += time.perf_counter() - started

    def _low_rank_step(self, group: dict[str, Any], parameter: Tensor, projection: Tensor) -> None:
        state = self.state[parameter]
        if "exp_avg" not in state:
            state.update(_fresh_moments(projection))
        # Adam on a zero weight leaves exactly the step it would take.
        update = torch.zeros_like(projection)
        _adam({**group, "weight_decay": 0.0}, [update], [projection], [state])
        state["age"] += 1
        left = projects_left(parameter.shape, group["side"])
        change = project_back(update, state["basis"], left)
        weight = self._weight_to_update(parameter)
        if group["weight_decay"] > 0:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(change.to(weight.dtype), alpha=group["scale"])
        self._write_back(parameter, weight)

    def _plain_step(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        if not trained:
            return
        # One call for all weights; but wide copies are made one at a time.
        for parameters in [trained] if self._rounding == "nearest" else [[p] for p in trained]:
            weights = [self._weight_to_update(p) for p in parameters]
            gradients = [
                p.grad.to(weight.dtype)
                for p, weight in zip(parameters, weights, strict=True)
                if p.grad is not None
            ]
            for parameter, weight in zip(parameters, weights, strict=True):
                if "exp_avg" not in self.state[parameter]:
                    self.state[parameter].update(_fresh_moments(weight))
            _adam(group, weights, gradients, [self.state[p] for p in parameters])
            for parameter, weight in zip(parameters, weights, strict=True):
                self._write_back(parameter, weight)

    def _weight_to_update(self, parameter: Tensor) -> Tensor:
        """Return the weight itself or, for rounding stochastic and master, a float32 copy."""
        if self._rounding == "nearest" or parameter.dtype != torch.bfloat16:
            return parameter
        if self._rounding == "stochastic":
            return parameter.float()
        state = self.state[parameter]
        if "master" not in state:
            state["master"] = parameter.float()
        master: Tensor = state["master"]
        return master

    def _write_back(self, parameter: Tensor, weight: Tensor) -> None:
        if weight is parameter:
            return
        if self._rounding == "stochastic":
            # Every step of every parameter has its own generator: resuming needs no state.
            steps = self.param_groups[self._group_index[parameter]]["steps"]
            weight = round_stochastically(weight, self._generator_for(parameter, 2 * steps + 1))
        parameter.copy_(weight)

    def _generator_for(self, parameter: Tensor, occasion: int) -> torch.Generator:
        number = self._number[parameter]
        seed = (self._seed * 1_000_003 + number) * 1_000_003 + occasion
        return torch.Generator().manual_seed(seed % 2**63)

    def _not_finite(self, parameter: Tensor) -> FloatingPointError:
        what = f"{self._name[parameter]} {tuple(parameter.shape)}"
        return FloatingPointError(f"the gradient of {what} is not finite")


def _adam(
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


def _fresh_moments(like: Tensor) -> dict[str, Any]:
    return {
        "step": torch.zeros((), dtype=torch.float32, device=like.device),
        "exp_avg": torch.zeros_like(like),
        "exp_avg_sq": torch.zeros_like(like),
    }


def _move(state: dict[str, Any], device: torch.device) -> None:
    for key, value in state.items():
        if torch.is_tensor(value):
            state[key] = value.to(device)
