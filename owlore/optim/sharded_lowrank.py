"""LowRankAdamW over weights that FSDP2 has sharded (DTensors); same arithmetic, state in shards.

Imports only torch, `lowrank.py`, `sharded_adamw.py` and what they need, so that it can be lifted
out with them. What lies where, and what differs from one process, says `sharded_adamw.py`. For a
projected matrix G (FSDP2 hands each rank its rows of the averaged gradient):

    side right:  R_k = G_k P           no exchange: its rows are a shard of R
    side left:   R   = Σ_k P_kᵀ G_k    a reduce-scatter: each rank keeps some columns of R

Moments have the shape of that shard. The basis P is kept in row shards too, so that all state of a
rank is 1/N of one process's. What is exchanged for it is small: P (side right) once a micro-batch
and once a step, the projected update (side left) once a step.

The basis is computed once: where one is due the whole gradient of that one matrix is gathered, the
first rank finds the basis with the seed that one process would use, and all get it.

FSDP2 reduces the gradients of a whole layer together, so that a layer's gradients (in whole before
that, this rank's rows after) live side by side until they are projected, not one matrix's alone.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Shard

from owlore.optim.here import here
from owlore.optim.lowrank import LowRankAdamW
from owlore.optim.projector import leading_basis, project, project_back, projects_left
from owlore.optim.rounding import widened
from owlore.optim.sharded_adamw import ShardedAdamW


class ShardedLowRankAdamW(ShardedAdamW, LowRankAdamW):
    """LowRankAdamW whose parameters are DTensors, row shards on a mesh of one dimension.

    Where tensors lie comes from `ShardedAdamW`, the projection from `LowRankAdamW`; what is here
    is what the two mean together: where a basis and a projection lie.
    """

    def __init__(self, *arguments: Any, **keywords: Any):
        """Take the arguments of `LowRankAdamW`.

        Raises:
            ValueError: see there and `ShardedAdamW`.
        """
        super().__init__(*arguments, **keywords)
        if any(group["rank"] is not None for group in self.param_groups):
            for parameter, index in self._group_index.items():
                if self.param_groups[index]["rank"] is None and parameter.requires_grad:
                    cast("Any", parameter).register_post_accumulate_grad_hook(_own_small_gradient)

    def _dim(self, parameter: Tensor, key: str) -> int | None:
        if key == "basis":
            return 0
        if key.startswith("exp_avg") and self._is_left(parameter):
            return 1
        return super()._dim(parameter, key)

    def _length(self, parameter: Tensor, key: str) -> int:
        columns = key.startswith("exp_avg") and self._is_left(parameter)
        columns |= key == "basis" and not self._is_left(parameter)
        return parameter.shape[1] if columns else parameter.shape[0]

    def _is_left(self, parameter: Tensor) -> bool:
        group = self.param_groups[self._group_index[parameter]]
        return group["rank"] is not None and projects_left(parameter.shape, group["side"])

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
        # Equal inputs do not give equal bases on different machines: an eigenvector's sign, or the
        # order of two that are as large, is the library's whim. So one rank's answer holds for all.
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


def _own_small_gradient(parameter: Tensor) -> None:
    """Copy a small gradient out of the buffer that FSDP2 has made for those of a whole layer.

    FSDP2 reduces all gradients of a layer in one flat buffer, and each parameter's gradient is a
    view of it. A norm's, which waits for the step, would keep the whole buffer alive, matrices that
    have been projected and freed since included; its own copy keeps a few numbers.
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
