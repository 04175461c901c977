"""The projector of GaLore: an orthonormal basis of a gradient's leading singular subspace.

Imports only torch, so that it can be lifted out, with `rounding.py`. GaLore (arXiv 2403.03507)
takes an exact SVD of every gradient; that is slow, and all that is used of it is a subspace. Here
it comes from subspace iteration: started from the former basis where there is one, else from a
random sketch (Halko, Martinsson and Tropp 2011, algorithm 4.4).
"""

import torch
from torch import Tensor

from owlore.optim.rounding import widened

OVERSAMPLING = 8  # extra columns of the sketch; Halko et al. 2011, section 4.2, recommend 5 to 10
COLD_ITERATIONS = 2
WARM_ITERATIONS = 1
BLOCK = 2048  # rows of a bfloat16 gradient that are float32 at one time


def projects_left(shape: torch.Size, side: str) -> bool:
    """Return whether a matrix's rows are projected (side std: the smaller dimension)."""
    if side == "std":
        return shape[0] < shape[1]
    return side == "left"


def project(gradient: Tensor, basis: Tensor, left: bool) -> Tensor:
    """Return PᵀG, shape (rank, columns), or G·P, shape (rows, rank), in the basis's dtype."""
    if gradient.dtype == basis.dtype:
        return basis.T @ gradient if left else gradient @ basis
    return _product(gradient.T, basis).T.contiguous() if left else _product(gradient, basis)


def project_back(small: Tensor, basis: Tensor, left: bool) -> Tensor:
    """Return P·S or S·Pᵀ, shape (rows, columns)."""
    return basis @ small if left else small @ basis.T


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
        gradient: finite, shape (rows, columns), float32, float64 or bfloat16; the arithmetic is
            float32 or float64.
        left: whether the left subspace is wanted (d = rows), or the right (d = columns).
        rank: columns wanted, at most min(rows, columns).
        refresh: svd (exact), randomized (a new random sketch), subspace (start from `warm`).
        warm: the former basis, shape (d, rank), or None.
        generator: of the random sketch, on the CPU so that every device draws the same.

    Returns:
        Shape (d, rank). A zero matrix gives some orthonormal basis.
    """
    if refresh == "svd":
        u, _, vh = torch.linalg.svd(widened(gradient), full_matrices=False)
        exact: Tensor = u[:, :rank] if left else vh[:rank].T
        return exact.contiguous()
    matrix = gradient if left else gradient.T
    # Warm start: from one refresh to the next the leading subspace turns only a little, so that the
    # former basis lies close to it already and one iteration does what takes a sketch two.
    if refresh == "subspace" and warm is not None:
        sketch, iterations = warm, WARM_ITERATIONS
    else:
        width = min(rank + OVERSAMPLING, *matrix.shape)
        random = torch.randn(matrix.shape[1], width, generator=generator)
        random = random.to(matrix.device, torch.promote_types(matrix.dtype, torch.float32))
        sketch, iterations = _product(matrix, random), COLD_ITERATIONS
        sketch = torch.linalg.qr(sketch).Q
    for _ in range(iterations):
        sketch = torch.linalg.qr(_product(matrix, _product(matrix.T, sketch))).Q
    if sketch.shape[1] == rank:
        return sketch.contiguous()
    # Rayleigh-Ritz: keep the best `rank` directions of the wider sketch.
    small = project(matrix, sketch, left=True)
    vectors = torch.linalg.eigh(small @ small.T).eigenvectors  # ascending
    best: Tensor = sketch @ vectors[:, -rank:].flip(1)
    return best.contiguous()


def _product(one: Tensor, wide: Tensor) -> Tensor:
    """Return one @ wide in the dtype of `wide`; `one` never lies widened in memory as a whole."""
    if one.dtype == wide.dtype:
        return one @ wide
    product = wide.new_empty(one.shape[0], wide.shape[1])
    for start in range(0, len(one), BLOCK):
        rows = slice(start, start + BLOCK)
        torch.mm(one[rows].to(wide.dtype), wide, out=product[rows])
    return product


def rotated_moments(
    average: Tensor, square: Tensor, turn: Tensor, left: bool
) -> tuple[Tensor, Tensor]:
    """Carry Adam's moments into a new basis; `turn` = newᵀ old, shape (rank, rank).

    The first moment turns like a gradient. The second is a mean of squares: entries mix with the
    squared coefficients (LDAdam, arXiv 2410.16103, drops the same cross terms).
    """
    if left:
        return turn @ average, turn.square() @ square
    return average @ turn.T, square @ turn.T.square()
