"""bfloat16 arithmetic: widening, and rounding that loses nothing on average. Imports only torch."""

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """Return the tensor in at least float32; float32 and float64 are returned as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def round_stochastically(wide: Tensor, generator: torch.Generator) -> Tensor:
    """Round float32 to bfloat16, up or down at random, so that the expectation is exact.

    bfloat16 keeps 8 bits: rounding to nearest loses every update below about 0.2 % of the weight.
    The chance to go up is the distance from the lower neighbour (Gupta et al. 2015, section 4).

    Args:
        wide: finite, float32.
        generator: on the CPU, so that every device draws the same.

    Returns:
        The same shape, bfloat16.
    """
    # bfloat16 is the upper half of float32: add a random lower half, then cut it off.
    noise = torch.randint(0, 1 << 16, wide.shape, generator=generator, dtype=torch.int32)
    bits = wide.view(torch.int32) + noise.to(wide.device)
    return (bits & -65536).view(torch.float32).bfloat16()
