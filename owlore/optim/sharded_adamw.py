"""RoundedAdamW over weights that FSDP2 has sharded (DTensors); same arithmetic, state in shards.

Imports only torch, `adamw.py` and what that needs, so that it can be lifted out with them. Every
weight lies in row shards on the N ranks of one mesh, rank k's rows as `torch.chunk` cuts them, and
so do its gradient (FSDP2 hands each rank its rows of the averaged one), its moments and its float32
copy: Adam works entry by entry, so that each rank steps its own rows and nothing is exchanged but
the norm to clip by.

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
from torch.distributed.tensor import DTensor, Shard

from owlore.optim.adamw import RoundedAdamW
from owlore.optim.here import here


class ShardedAdamW(RoundedAdamW):
    """RoundedAdamW whose parameters are DTensors, row shards on a mesh of one dimension."""

    def __init__(self, *arguments: Any, **keywords: Any):
        """Take the arguments of the optimizer that works on whole parameters.

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

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state on the first rank, on the CPU; elsewhere no tensors."""
        found = super().state_dict()
        state: dict[int, dict[str, Any]] = {}
        for number, parameter in enumerate(self._number):
            # Gathering is done by all ranks together: all must go through the keys in one order.
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
        return 0 if key in ("master", "exp_avg", "exp_avg_sq") else None

    def _length(self, parameter: Tensor, key: str) -> int:
        """Return the whole length of that dimension."""
        return parameter.shape[0]

    def _gathered(self, part: Tensor, dim: int, length: int) -> Tensor:
        """Return the whole of a tensor that is cut in `dim`, on every rank."""
        part = part.to(self._mesh.device_type).contiguous()
        shape = list(part.shape)
        shape[dim] = length
        # Told only its part, DTensor would take all parts to be equally long; the last may be
        # shorter, or empty where a tensor has fewer rows than there are ranks.
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
        # With one seed for all, rows that lie at the same place of two shards would be rounded by
        # the same bits. The rank goes into bits of the seed that counting does not reach.
        generator = super()._rounding_generator(parameter)
        return generator.manual_seed(generator.initial_seed() ^ (self._rank << 48))

    def _here(self, tensor: Tensor) -> Tensor:
        return here(tensor)

    def _norm_everywhere(self, norm: Tensor) -> Tensor:
        square = norm.square()
        dist.all_reduce(square, group=self._mesh.get_group())
        return square.sqrt()

    def _true_everywhere(self, flags: Tensor) -> Tensor:
        found = flags.to(torch.int32)
        dist.all_reduce(found, dist.ReduceOp.MIN, group=self._mesh.get_group())
        return found.bool()
