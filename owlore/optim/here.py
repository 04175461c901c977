"""This rank's part of a tensor. Imports only torch."""

from torch import Tensor
from torch.distributed.tensor import DTensor


def here(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor that is sharded (a DTensor), else the tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
