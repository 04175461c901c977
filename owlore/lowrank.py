"""LowRankAdamW: AdamW whose moments live in a low-rank space for chosen matrices (GaLore).

Imports only torch, so that it can be lifted out, with `moments.py`, `projector.py` and
`rounding.py`. For a matrix of a group with a `rank` the gradient G is projected on an orthonormal
basis of its leading subspace, Adam runs on the small projection, and the update is projected back
and scaled (GaLore, arXiv 2403.03507, Algorithm 2):

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

from owlore import moments
from owlore.projector import (
    leading_basis,
    project,
    project_back,
    projects_left,
    rotated_moments,
)
from owlore.rounding import round_stochastically, widened

ROUNDINGS = ("nearest", "stochastic", "master", "lean")
CHUNK = 1 << 22  # entries of a bfloat16 weight that are float32 at one time


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
                moments and bases in bfloat16 too (as published). stochastic: computed in float32,
                rounded up or down at random. master: a float32 copy of the weight is state. Both
                keep float32 moments and bases. lean: as stochastic, but large moments are stored
                in 8 bits. Sums of projections are float32 always.
            seed: of the random sketches that start a basis, and of stochastic rounding.

        Raises:
            ValueError: `rounding` is not known.
            ModuleNotFoundError: lean is asked for and torchao is not installed.
        """
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding: {rounding!r}: allowed {', '.join(ROUNDINGS)}")
        if rounding == "lean":
            moments.prepare()  # missing, torchao stops us here and not at the first step
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
            parameter: self._here(gradient)
            for parameter in self._number
            if (gradient := self._projections.get(parameter, parameter.grad)) is not None
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
        gradient, parameter.grad = parameter.grad, None
        first = parameter not in self._projections
        state = self.state[parameter]
        if first and ("basis" not in state or state["age"] % group["update_proj_gap"] == 0):
            self._refresh(group, parameter, gradient, left)
        projection = self._projection(parameter, gradient, left)
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
        gradient = self._whole_gradient(gradient)
        if not torch.isfinite(torch.stack(gradient.aminmax())).all():
            raise self._not_finite(parameter)
        state = self.state[parameter]
        refreshes = state.get("refreshes", 0)
        old = widened(self._whole_basis(parameter)) if "basis" in state else None
        generator = self._generator_for(parameter, 2 * refreshes)
        new = self._leading_basis(gradient, left, group["rank"], group["refresh"], old, generator)
        if "step" in state and group["moments"] == "reset":
            moments.forget(state)
        elif "step" in state and group["moments"] == "rotate" and old is not None:
            self._rotate(state, parameter, new.T @ old, left)
        basis = self._kept_basis(new.to(self._dtype(parameter)))
        state.update({"basis": basis, "age": state.get("age", 0), "refreshes": refreshes + 1})
        self.projector_refreshes += 1
        self.projector_seconds += time.perf_counter() - started

    def _rotate(self, state: dict[str, Any], parameter: Tensor, turn: Tensor, left: bool) -> None:
        shape, everything = state["exp_avg"].shape, slice(0, state["exp_avg"].numel())
        stored = moments.read(state, everything)
        average, square = (widened(moment).view(shape) for moment in stored.values())
        turned = rotated_moments(average, square, turn, left)
        for moment, new in zip(stored.values(), turned, strict=True):
            moment.copy_(new.reshape(-1))
        moments.write(state, everything, stored)

    def _low_rank_step(self, group: dict[str, Any], parameter: Tensor, projection: Tensor) -> None:
        state = self.state[parameter]
        projection = projection.to(self._dtype(parameter))
        if "step" not in state:
            state.update(self._fresh_moments(parameter, projection))
        # Adam on a zero weight leaves exactly the step it would take.
        update = torch.zeros_like(projection)
        everything = slice(0, projection.numel())
        stored = moments.read(state, everything)
        now = {**stored, "step": state["step"]}
        _adam({**group, "weight_decay": 0.0}, [update.view(-1)], [projection.view(-1)], [now])
        moments.write(state, everything, stored)
        state["age"] += 1
        left = projects_left(parameter.shape, group["side"])
        change = self._change(parameter, update, left)
        here = self._here(parameter)
        weight = self._master(parameter) if self._is_wide(parameter) else here
        if group["weight_decay"] > 0:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(change.to(weight.dtype), alpha=group["scale"])
        if weight is not here:
            here.copy_(self._rounded(weight, self._rounding_generator(parameter)))

    def _plain_step(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        for parameter in trained:
            if "step" not in self.state[parameter]:
                self.state[parameter].update(self._fresh_moments(parameter, self._here(parameter)))
        together = [p for p in trained if not self._is_wide(p)]
        if together:
            weights = [self._here(p) for p in together]
            gradients = [self._here(p.grad) for p in together if p.grad is not None]
            _adam(group, weights, gradients, [self.state[p] for p in together])
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
            _adam(group, [weight], [gradient[chunk].float()], [now])
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
        # Every step of every parameter has its own generator: resuming needs no state.
        steps = self.param_groups[self._group_index[parameter]]["steps"]
        return self._generator_for(parameter, 2 * steps + 1)

    def _generator_for(self, parameter: Tensor, occasion: int) -> torch.Generator:
        number = self._number[parameter]
        seed = (self._seed * 1_000_003 + number) * 1_000_003 + occasion
        return torch.Generator().manual_seed(seed % 2**63)

    def _not_finite(self, parameter: Tensor) -> FloatingPointError:
        what = f"{self._name[parameter]} {tuple(parameter.shape)}"
        return FloatingPointError(f"the gradient of {what} is not finite")

    # Where tensors lie: all here. `owlore.sharded_lowrank` has its own version of what follows.

    def _here(self, tensor: Tensor) -> Tensor:
        """Return this process's part of a weight or of its gradient."""
        return tensor

    def _whole_gradient(self, gradient: Tensor) -> Tensor:
        return gradient

    def _whole_basis(self, parameter: Tensor) -> Tensor:
        basis: Tensor = self.state[parameter]["basis"]
        return basis

    def _leading_basis(self, *arguments: Any) -> Tensor:
        """Return a new basis; the arguments are those of `projector.leading_basis`."""
        return leading_basis(*arguments)

    def _kept_basis(self, basis: Tensor) -> Tensor:
        return basis

    def _projection(self, parameter: Tensor, gradient: Tensor, left: bool) -> Tensor:
        return project(gradient, widened(self.state[parameter]["basis"]), left)

    def _change(self, parameter: Tensor, update: Tensor, left: bool) -> Tensor:
        return project_back(update, self.state[parameter]["basis"], left)

    def _norm_everywhere(self, norm: Tensor) -> Tensor:
        return norm

    def _true_everywhere(self, flags: Tensor) -> Tensor:
        return flags


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


def _move(state: dict[str, Any], device: torch.device) -> None:
    for key, value in state.items():
        if torch.is_tensor(value):
            state[key] = value.to(device)
