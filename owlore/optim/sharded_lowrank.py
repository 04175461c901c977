"""LowRankAdamW over weights that FSDP2 has sharded (DTensors); same arithmetic, state in shards.

Imports only torch, `lowrank.py` and what that needs, so that it can be lifted out with them. Every
weight lies in row shards on the N ranks of one mesh, rank k's rows as `torch.chunk` cuts them, and
so do its moments and its float32 copy. For a projected matrix G (FSDP2 hands each rank its rows of
the averaged gradient):

    side right:  R_k = G_k P           no exchange: its rows are a shard of R
    side left:   R   = Σ_k P_kᵀ G_k    a reduce-scatter: each rank keeps some columns of R

Moments have the shape of that shard. The basis P is kept in row shards too, so that all state of a
rank is 1/N of one process's. What is exchanged for it is small: P (side right) once a micro-batch
and once a step, the projected update (side left) once a step.

The basis is computed once: where one is due the whole gradient of that one matrix is gathered, the
first rank finds the basis with the seed that one process would use, and all get it.

FSDP2 reduces the gradients of a whole layer together, so that a layer's gradients (in whole before
that, this rank's rows after) live side by side until they are projected, not one matrix's alone.

What differs from one process:

- Sums over examples and over rows are added up in another order: equal up to rounding.
- Stochastic rounding draws other random bits (each rank its own).
- `state_dict` is the whole state, in main memory of the first rank alone; all ranks must ask for
  it. `load_state_dict` takes the whole state and keeps this rank's part, so that a checkpoint fits
  any number of ranks.
- Moments in 8 bits (rounding lean) are refused: their blocks do not fall on shards.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Shard

from owlore.optim.lowrank import LowRankAdamW
from owlore.optim.projector import leading_basis, project, project_back, projects_left
from owlore.optim.rounding import widened


class ShardedLowRankAdamW(LowRankAdamW):
    """LowRankAdamW whose parameters are DTensors, row shards on a mesh of one dimension."""

    def __init__(self, *arguments: Any, **keywords: Any):
        """Take the arguments of `LowRankAdamW`.

        Raises:
            ValueError: see there; or the rounding is lean, or a parameter is not in row shards.
        """
        super().__init__(*arguments, **keywords)
        if self._rounding == "lean":
            raise ValueError("rounding: 'lean' is not available for sharded parameters")
        for parameter in self._number:
            if not isinstance(parameter, DTensor) or parameter.placements != (Shard(0),):
                raise ValueError(f"{self._name[parameter]} is not a DTensor in row shards")
        self._mesh: DeviceMesh = cast("DTensor", next(iter(self._number))).device_mesh
        self._rank = self._mesh.get_local_rank()
        if any(group["rank"] is not None for group in self.param_groups):
            for parameter, index in self._group_index.items():
                if self.param_groups[index]["rank"] is None and parameter.requires_grad:
                    cast("Any", parameter).register_post_accumulate_grad_hook(_own_small_gradient)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state on the first rank, on the CPU; elsewhere no tensors."""
        found = super().state_dict()
        state: dict[int, dict[str, Any]] = {}
        for number, parameter in enumerate(self._number):
            for key in sorted(found["state"].get(number, {})):
                value = found["state"][number][key]
                if (dim := self._dim(parameter, key)) is not None:
                    value = self._gathered(value, dim, self._length(parameter, key))
                if self._rank == 0:
                    whole = value.cpu() if torch.is_tensor(value) else value
                    state.setdefault(number, {})[key] = whole
        return {**found, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep this rank's part of a whole state, saved by any number of ranks."""
        state = dict(state_dict["state"])
        saved_numbers = [n for group in state_dict["param_groups"] for n in group["params"]]
        for number, parameter in zip(saved_numbers, self._number, strict=True):
            state[number] = {
                key: value if (dim := self._dim(parameter, key)) is None else self._part(value, dim)
                for key, value in state.get(number, {}).items()
            }
        super().load_state_dict({**state_dict, "state": {n: s for n, s in state.items() if s}})

    def _dim(self, parameter: Tensor, key: str) -> int | None:
        """Return the dimension in which a tensor of the state is cut; None: in none."""
        if key not in ("basis", "master", "exp_avg", "exp_avg_sq"):
            return None
        return 1 if key.startswith("exp_avg") and self._is_left(parameter) else 0

    def _length(self, parameter: Tensor, key: str) -> int:
        """Return the whole length of that dimension."""
        columns = key.startswith("exp_avg") and self._is_left(parameter)
        columns |= key == "basis" and not self._is_left(parameter)
        return parameter.shape[1] if columns else parameter.shape[0]

    def _is_left(self, parameter: Tensor) -> bool:
        group = self.param_groups[self._group_index[parameter]]
        return group["rank"] is not None and projects_left(parameter.shape, group["side"])

    def _gathered(self, part: Tensor, dim: int, length: int) -> Tensor:
        """Return the whole of a tensor that is cut in `dim`, on every rank."""
        part = part.to(self._mesh.device_type).contiguous()
        shape = list(part.shape)
        shape[dim] = length
        stride = torch.empty(shape, device="meta").stride()
        sharded = DTensor.from_local(
            part, self._mesh, [Shard(dim)], run_check=False, shape=torch.Size(shape), stride=stride
        )
        return sharded.full_tensor()

    def _part(self, whole: Tensor, dim: int) -> Tensor:
        """Return this rank's part of a whole tensor, as `torch.chunk` cuts it."""
        length = whole.shape[dim]
        size = -(-length // self._mesh.size())
        start = min(self._rank * size, length)
        return whole.narrow(dim, start, min(size, length - start)).contiguous()

    def _rounding_generator(self, parameter: Tensor) -> torch.Generator:
        generator = super()._rounding_generator(parameter)
        return generator.manual_seed(generator.initial_seed() ^ (self._rank << 48))

    def _here(self, tensor: Tensor) -> Tensor:
        return here(tensor)

    def _refresh(self, group: dict[str, Any], parameter: Tensor, *others: Any) -> None:
        super()._refresh(group, parameter, *others)
        if parameter.is_cuda:
            # FSDP2 calls this on a stream of its own. What was freed here may have been allocated
            # on the default one, whose next work must not write there while this is being read.
            torch.cuda.default_stream().wait_stream(torch.cuda.current_stream())

    def _whole_gradient(self, gradient: Tensor) -> Tensor:
        return cast("DTensor", gradient).full_tensor()

    def _whole_basis(self, parameter: Tensor) -> Tensor:
        basis = self.state[parameter]["basis"]
        return self._gathered(basis, 0, self._length(parameter, "basis"))

    def _leading_basis(self, gradient: Tensor, left: bool, rank: int, *others: Any) -> Tensor:
        if self._rank == 0:
            basis = leading_basis(gradient, left, rank, *others)
        else:
            basis = widened(gradient.new_empty(gradient.shape[0 if left else 1], rank))
        dist.broadcast(basis, group=self._mesh.get_group(), group_src=0)
        return basis

    def _kept_basis(self, basis: Tensor) -> Tensor:
        return self._part(basis, 0).clone()

    def _projection(self, parameter: Tensor, gradient: Tensor, left: bool) -> Tensor:
        rows = here(gradient)
        if not left:
            return project(rows, widened(self._whole_basis(parameter)), left)
        share = project(rows, widened(self.state[parameter]["basis"]), left)
        summed = DTensor.from_local(share, self._mesh, [Partial()], run_check=False)
        return summed.redistribute(placements=[Shard(1)]).to_local().contiguous()

    def _change(self, parameter: Tensor, update: Tensor, left: bool) -> Tensor:
        if not left:
            return project_back(update, self._whole_basis(parameter), left)
        whole = self._gathered(update, 1, parameter.shape[1])
        return project_back(whole, self.state[parameter]["basis"], left)

    def _norm_everywhere(self, norm: Tensor) -> Tensor:
        square = norm.square()
        dist.all_reduce(square, group=self._mesh.get_group())
        return square.sqrt()

    def _true_everywhere(self, flags: Tensor) -> Tensor:
        found = flags.to(torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MIN, group=self._mesh.get_group())
        return found.bool()


def here(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor, sharded or not."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _own_small_gradient(parameter: Tensor) -> None:
    """Copy a small gradient out of the buffer that FSDP2 has made for those of a whole layer.

    They are views of it: a norm's, which waits for the step, would keep the gradients that have
    been projected since.
    """
    gradient = cast("DTensor", parameter.grad)
    part = here(gradient)
    if part.untyped_storage().nbytes() > 8 * part.nbytes:
        parameter.grad = DTensor.from_local(
            part.clone(),
            gradient.device_mesh,
            gradient.placements,
            run_check=False,
            shape=gradient.shape,
            stride=gradient.stride(),
        )
