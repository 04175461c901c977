"""LowRankAdamW: AdamW whose moments live in a low-rank space for chosen matrices (GaLore).

Imports only torch, so that it can be lifted out. For a matrix of a group with a `rank` the gradient
G is projected on an orthonormal basis of its leading subspace, Adam runs on the small projection,
and the update is projected back and scaled (GaLore, arXiv 2403.03507, Algorithm 2):

    side left:   R = Pᵀ G,  W ← W − lr · scale · P · adam(R)        P: rows × rank
    side right:  R = G P,   W ← W − lr · scale · adam(R) · Pᵀ       P: columns × rank

All other parameters get plain AdamW. Both use torch's own AdamW kernel, so that two methods never
differ by the implementation of Adam. Weight decay is decoupled and applied to the full weight.

What differs from galore-torch: the basis comes from subspace iteration (warm-started) unless an
exact SVD is asked for; state is plain tensors and numbers, so a checkpoint loads with
`weights_only=True`; a layer that falls asleep can drop, keep or offload its state; a layer that
wakes up always gets a fresh basis.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.adamw import adamw

OVERSAMPLING = 8  # extra columns of the sketch; Halko et al. 2011, section 4.2, recommend 5 to 10
COLD_ITERATIONS = 2
WARM_ITERATIONS = 1


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
        seed: int = 0,
    ):
        """Prepare the optimizer.

        Args:
            params: parameter groups.
            lr: learning rate.
            betas: decay rates of the two moments.
            eps: added to the root of the second moment, after bias correction as torch does.
            weight_decay: decoupled, applied to the full weight.
            seed: of the random sketches that start a basis.
        """
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
        }
        self.projector_seconds = 0.0
        self.projector_refreshes = 0
        super().__init__(params, defaults)
        self._seed = seed
        every = [parameter for group in self.param_groups for parameter in group["params"]]
        self._number = {parameter: index for index, parameter in enumerate(every)}

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        Raises:
            FloatingPointError: a gradient to be projected is not finite; its number is named.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if not trained:
                continue
            if group["rank"] is None:
                self._plain_step(group, trained)
            else:
                for parameter in trained:
                    self._low_rank_step(group, parameter)
        return loss

    def sleep(self, parameters: Iterable[Tensor], policy: str = "drop") -> None:
        """Parameters stop training: drop, keep or offload (to main memory) their state."""
        for parameter in parameters:
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state in the dtype it had; torch alone would cast it to the parameter's."""
        super().load_state_dict(state_dict)
        saved_numbers = [n for group in state_dict["param_groups"] for n in group["params"]]
        for number, parameter in zip(saved_numbers, self._number, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if torch.is_tensor(value):
                    device = "cpu" if value.dim() == 0 and key == "step" else parameter.device
                    self.state[parameter][key] = value.to(device, copy=True)

    def _plain_step(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        for parameter in trained:
            if not self.state[parameter]:
                self.state[parameter] = _fresh_moments(parameter)
        _adam(group, trained, [p.grad for p in trained], [self.state[p] for p in trained])

    def _low_rank_step(self, group: dict[str, Any], parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.float()
        state = self.state[parameter]
        left = projects_left(parameter.shape, group["side"])
        if not state or state["age"] % group["update_proj_gap"] == 0:
            self._refresh(group, parameter, gradient, left)
        basis = state["basis"]
        projected = basis.T @ gradient if left else gradient @ basis
        if "exp_avg" not in state:
            state.update(_fresh_moments(projected))
        # Adam on a zero weight leaves exactly the step it would take.
        update = torch.zeros_like(projected)
        _adam({**group, "weight_decay": 0.0}, [update], [projected], [state])
        state["age"] += 1
        if group["weight_decay"] > 0:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        change = basis @ update if left else update @ basis.T
        parameter.add_(change.to(parameter.dtype), alpha=group["scale"])

    def _refresh(
        self, group: dict[str, Any], parameter: Tensor, gradient: Tensor, left: bool
    ) -> None:
        """Give the parameter a new basis and treat its moments as the group says."""
        started = time.perf_counter()
        if not torch.isfinite(gradient).all():
            raise FloatingPointError(
                f"the gradient of parameter {self._number[parameter]} "
                f"({tuple(parameter.shape)}) is not finite"
            )
        state = self.state[parameter]
        refreshes = state.get("refreshes", 0)
        old = state.get("basis")
        generator = torch.Generator().manual_seed(
            (self._seed * 1_000_003 + self._number[parameter]) * 1_000_003 + refreshes
        )
        new = leading_basis(gradient, left, group["rank"], group["refresh"], old, generator)
        if "exp_avg" in state:
            if group["moments"] == "reset":
                for key in ("exp_avg", "exp_avg_sq", "step"):
                    del state[key]
            elif group["moments"] == "rotate" and old is not None:
                _rotate(state, new.T @ old, left)
        state.update({"basis": new, "age": state.get("age", 0), "refreshes": refreshes + 1})
        self.projector_refreshes += 1
        self.projector_seconds += time.perf_counter() - started


def projects_left(shape: torch.Size, side: str) -> bool:
    """Return whether a matrix's rows are projected (side std: the smaller dimension)."""
    if side == "std":
        return shape[0] < shape[1]
    return side == "left"


def leading_basis(
    gradient: Tensor,
    left: bool,
    rank: int,
    refresh: str,
    warm: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """Return an orthonormal basis of a matrix's leading left or right singular subspace.

    Args:
        gradient: finite, shape (rows, columns), float32.
        left: whether the left subspace is wanted (d = rows), or the right (d = columns).
        rank: columns wanted, at most min(rows, columns).
        refresh: svd (exact), randomized (a new random sketch), subspace (start from `warm`).
        warm: the former basis, shape (d, rank), or None.
        generator: of the random sketch, on the CPU so that every device draws the same.

    Returns:
        Shape (d, rank). A zero matrix gives some orthonormal basis.
    """
    if refresh == "svd":
        u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
        exact: Tensor = u[:, :rank] if left else vh[:rank].T
        return exact.contiguous()
    matrix = gradient if left else gradient.T
    if refresh == "subspace" and warm is not None:
        sketch, iterations = warm, WARM_ITERATIONS
    else:
        width = min(rank + OVERSAMPLING, *matrix.shape)
        random = torch.randn(matrix.shape[1], width, generator=generator)
        sketch, iterations = matrix @ random.to(matrix), COLD_ITERATIONS
        sketch = torch.linalg.qr(sketch).Q
    for _ in range(iterations):
        sketch = torch.linalg.qr(matrix @ (matrix.T @ sketch)).Q
    if sketch.shape[1] == rank:
        return sketch.contiguous()
    # Rayleigh-Ritz: keep the best `rank` directions of the wider sketch.
    small = sketch.T @ matrix
    vectors = torch.linalg.eigh(small @ small.T).eigenvectors  # ascending
    best: Tensor = sketch @ vectors[:, -rank:].flip(1)
    return best.contiguous()


def _adam(
    group: dict[str, Any],
    weights: list[Tensor],
    gradients: list[Tensor | None],
    states: list[dict[str, Any]],
) -> None:
    """Run torch's fused AdamW on these weights; `states` hold the moments and step counts."""
    adamw(
        weights,
        [gradient for gradient in gradients if gradient is not None],
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


def _rotate(state: dict[str, Any], turn: Tensor, left: bool) -> None:
    """Carry the moments into the new basis; `turn` = newᵀ old, shape (rank, rank).

    The first moment turns like a gradient. The second is a mean of squares: entries mix with the
    squared coefficients (LDAdam, arXiv 2410.16103, drops the same cross terms).
    """
    average, square = state["exp_avg"], state["exp_avg_sq"]
    if left:
        state["exp_avg"], state["exp_avg_sq"] = turn @ average, turn.square() @ square
    else:
        state["exp_avg"], state["exp_avg_sq"] = average @ turn.T, square @ turn.T.square()


def _move(state: dict[str, Any], device: torch.device) -> None:
    for key, value in state.items():
        if torch.is_tensor(value):
            state[key] = value.to(device)
