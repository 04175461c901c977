"""Adam's moments as they are stored: plain tensors of any dtype, or 8-bit codes with scales.

Imports only torch, and torchao where 8 bits are asked for (`pip install owlore[lean]`). In 8 bits
each block of 256 entries is scaled to a largest magnitude of 1, and every entry becomes the nearest
of 256 values that are denser near zero (Dettmers et al. 2021, arXiv 2110.02861, section 2).
"""

import functools
import logging
from typing import Any

import torch
from torch import Tensor

BLOCK = 256
LEAST = 4096  # entries; smaller tensors are not worth it (torchao's rule)
MOMENTS = {"exp_avg": True, "exp_avg_sq": False}  # whether entries may be negative


def fresh(like: Tensor, dtype: torch.dtype, eight_bits: bool) -> dict[str, Tensor]:
    """Return zero moments and a zero step count for a weight (or projection) like this."""
    state = {"step": torch.zeros((), dtype=torch.float32, device=like.device)}
    # Whatever the codes, a scale of 0 makes a moment 0.
    if eight_bits and like.numel() >= LEAST and like.numel() % BLOCK == 0:
        for name in MOMENTS:
            state[name] = torch.zeros_like(like, dtype=torch.uint8)
            state[f"{name}_scale"] = torch.zeros(like.numel() // BLOCK, device=like.device)
        return state
    return state | {name: torch.zeros_like(like, dtype=dtype) for name in MOMENTS}


def forget(state: dict[str, Any]) -> None:
    """Remove moments and step count from a parameter's state."""
    for name in ("step", *MOMENTS, *(f"{name}_scale" for name in MOMENTS)):
        state.pop(name, None)


def read(state: dict[str, Any], chunk: slice) -> dict[str, Tensor]:
    """Return a stretch of the flat moments: views, or decoded copies to `write` back."""
    found = {}
    for name, signed in MOMENTS.items():
        part = state[name].view(-1)[chunk]
        if f"{name}_scale" in state:
            scale = state[f"{name}_scale"][_blocks(chunk)]
            part = torchao().dequant_with_qmap(part, _values(signed, part.device), scale)
        found[name] = part
    return found


def write(state: dict[str, Any], chunk: slice, moments: dict[str, Tensor]) -> None:
    """Store a stretch of changed moments; what `read` gave as views is there already."""
    for name, wide in moments.items():
        if f"{name}_scale" in state:
            scaled, scale = torchao().scale_tensor(wide, BLOCK)
            codes = torchao().quantize_8bit_with_qmap(scaled, _values(MOMENTS[name], wide.device))
            state[name].view(-1)[chunk] = codes
            state[f"{name}_scale"][_blocks(chunk)] = scale


def prepare() -> None:
    """Make what reading and writing 8-bit moments needs.

    Raises:
        ModuleNotFoundError: torchao is not installed.
    """
    for signed in MOMENTS.values():
        _map(signed)


@functools.cache
def torchao() -> Any:
    """Return torchao's functions.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torchao warns of GPU kernels that it does without
    try:
        from torchao.optim import quant_utils
    except ImportError:
        raise ModuleNotFoundError("moments in 8 bits need torchao: pip install torchao") from None
    finally:
        logging.disable(disabled)
    return quant_utils


def _blocks(chunk: slice) -> slice:
    return slice(chunk.start // BLOCK, None if chunk.stop is None else chunk.stop // BLOCK)


def _values(signed: bool, device: torch.device) -> Tensor:
    return torch.tensor(_map(signed), dtype=torch.float32, device=device)


@functools.cache
def _map(signed: bool) -> tuple[float, ...]:
    return tuple(torchao().create_dynamic_map(signed=signed))
