"""LowRankAdamW: AdamW whose moments live in a low-rank space for chosen matrices (GaLore).

Imports only torch, so that it can be lifted out, with `protocol.py`, `adamw.py`, `moments.py`,
`projector.py` and `rounding.py`. For a matrix of a group with a `rank` the gradient G is projected
on an orthonormal basis of its leading subspace, Adam runs on the small projection, and the update
is projected back and scaled (GaLore, arXiv 2403.03507, Algorithm 2):

    side left:   R = Pᵀ G,  W ← W − lr · scale · P · adam(R)        P: rows × rank
    side right:  R = G P,   W ← W − lr · scale · adam(R) · Pᵀ       P: columns × rank

All other parameters get plain AdamW (`adamw.py`), by the same kernel, so that two methods never
differ by the implementation of Adam. Weight decay is applied to the full weight.

What differs from galore-torch:

- A gradient is projected as soon as backward has made it, added to the projections of the step's
  earlier micro-batches, and freed: full gradients of two matrices never live side by side. A sum
  of projections is the projection of the sum, so accumulation changes nothing.
- *First micro-batch rule*: where a basis is due (at wake-up and every `update_proj_gap` steps), it
  is made of the gradient of the step's first micro-batch, and holds for that whole step. With one
  micro-batch a step this is GaLore's own rule. A basis of the whole step's gradient would need that
  gradient in full, kept over all micro-batches for every matrix: the very memory that is saved.
- Clipping (`clip_grad_norm`) is by the norm of what is used: projections and plain gradients.
- The basis comes from subspace iteration unless an exact SVD is asked for.
- A layer that falls asleep can drop, keep or offload its state; one that wakes up always gets a
  fresh basis.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from owlore.optim import moments
from owlore.optim.adamw import RoundedAdamW, fused_adam
from owlore.optim.projector import (
    leading_basis,
    project,
    project_back,
    projects_left,
    rotated_moments,
)
from owlore.optim.protocol import Statistics
from owlore.optim.rounding import widened

GROUP_KEYS = {
    "rank": None,
    "update_proj_gap": 200,
    "scale": 1.0,
    "side": "std",
    "refresh": "subspace",
    "moments": "reset",
}


class LowRankAdamW(RoundedAdamW):
    """AdamW with optional low-rank projection per parameter group.

    Group keys beyond AdamW's: `rank` (None: plain AdamW), `update_proj_gap` (steps of the
    parameter's own count between two refreshes of its basis), `scale`, `side` (std: project the
    smaller dimension; square matrices on the right), `refresh` (svd, randomized, subspace),
    `moments` at a refresh (reset, keep, rotate into the new basis).
    """

    def __init__(self, params: Iterable[dict[str, Any]], **settings: Any):
        """Prepare the optimizer; projected parameters get a hook that runs in backward.

        Args:
            params: parameter groups, of parameters or (name, parameter) pairs.
            settings: those of `RoundedAdamW`. A basis is kept in bfloat16 where moments are, else
                in float32; sums of projections are float32 always. The seed is that of the random
                sketches that start a basis, too.

        Raises:
            ValueError: see `RoundedAdamW`.
            ModuleNotFoundError: see there.
        """
        super().__init__(params, **settings, group_keys=GROUP_KEYS)
        self._statistics = Statistics()
        self._projections: dict[Tensor, Tensor] = {}  # of this step's micro-batches, summed
        for parameter, index in self._group_index.items():
            if self.param_groups[index]["rank"] is not None and parameter.requires_grad:
                cast("Any", parameter).register_post_accumulate_grad_hook(self._project)

    def sleep(self, parameters: Iterable[Tensor], policy: str = "drop") -> None:
        """Parameters stop training; projections of theirs that wait for `step` go."""
        chosen = list(parameters)
        super().sleep(chosen, policy)
        for parameter in chosen:
            self._projections.pop(parameter, None)

    def wake(self, parameters: Iterable[Tensor]) -> None:
        """Parameters train again; a basis that was kept will be refreshed at the next gradient.

        It is of a gradient from before they slept. What the other layers have learnt meanwhile has
        turned the leading subspace, and an old basis would cut off where the loss now falls.
        """
        chosen = list(parameters)
        super().wake(chosen)
        for parameter in chosen:
            if "basis" in self.state.get(parameter, {}):
                self.state[parameter]["age"] = 0

    def pending_gradients(self) -> Mapping[Tensor, Tensor]:
        """Return the projected gradients that wait for `step`, in float32 or float64."""
        return self._projections

    def made_in_backward(self, parameter: Tensor) -> Iterable[Tensor]:
        """Return the parameter's basis: where it is due, the gradient's hook makes it."""
        state = self.state.get(parameter, {})
        return (state["basis"],) if "basis" in state else ()

    def take_statistics(self) -> Statistics:
        """Hand over the refreshes of bases since this was last called, and begin again."""
        taken, self._statistics = self._statistics, Statistics()
        return taken

    def _prepare(self) -> None:
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
        # Its own generator for every refresh: a resumed run draws the sketch that it would have.
        generator = self._generator_for(parameter, 2 * refreshes)
        new = self._leading_basis(gradient, left, group["rank"], group["refresh"], old, generator)
        # The moments are averages in the old basis's coordinates: entry i of the new projection is
        # the slope in another direction. Unless told to keep or rotate them, begin again from zero.
        if "step" in state and group["moments"] == "reset":
            moments.forget(state)
        elif "step" in state and group["moments"] == "rotate" and old is not None:
            self._rotate(state, parameter, new.T @ old, left)
        basis = self._kept_basis(new.to(self._dtype(parameter)))
        state.update({"basis": basis, "age": state.get("age", 0), "refreshes": refreshes + 1})
        counted = self._statistics
        self._statistics = Statistics(
            counted.projector_refreshes + 1,
            counted.projector_seconds + time.perf_counter() - started,
        )

    def _rotate(self, state: dict[str, Any], parameter: Tensor, turn: Tensor, left: bool) -> None:
        shape, everything = state["exp_avg"].shape, slice(0, state["exp_avg"].numel())
        stored = moments.read(state, everything)
        average, square = (widened(moment).view(shape) for moment in stored.values())
        turned = rotated_moments(average, square, turn, left)
        for moment, new in zip(stored.values(), turned, strict=True):
            moment.copy_(new.reshape(-1))
        moments.write(state, everything, stored)

    def _group_step(self, group: dict[str, Any]) -> None:
        if group["rank"] is None:
            super()._group_step(group)
            return
        for parameter in group["params"]:
            if parameter in self._projections:
                self._low_rank_step(group, parameter, self._projections.pop(parameter))

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
        fused_adam({**group, "weight_decay": 0.0}, [update.view(-1)], [projection.view(-1)], [now])
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

    # Where tensors lie: all here. `sharded_lowrank.py` has its own version of what follows.

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
