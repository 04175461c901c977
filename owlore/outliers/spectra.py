"""Heavy-tail exponent of a weight matrix's spectrum. Imports only torch."""

import torch
from torch import Tensor


@torch.no_grad()
def heavy_tail_exponent(weight: Tensor) -> float:
    """Return the Hill estimate of the exponent alpha of a matrix's eigenvalue density.

    The eigenvalues λ of WᵀW have a tail p(λ) ~ λ^(−alpha); smaller means heavier. With the k
    largest of n eigenvalues, alpha = 1 + k / Σ ln(λ_(n−i+1) / λ_(n−k)), k = n/2
    (AlphaPruning, arXiv 2410.10912, Eq. 2, `PL_Alpha_Hill`).

    Args:
        weight: shape (rows, columns), finite.

    Returns:
        alpha; infinity for a spectrum without a tail (all eigenvalues equal).
    """
    matrix = weight.float()
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    eigenvalues = torch.linalg.eigvalsh(matrix.T @ matrix).clamp_min(1e-30)  # ascending
    k = max(1, len(eigenvalues) // 2)
    tail = torch.log(eigenvalues[-k:] / eigenvalues[-k - 1]).sum()
    return 1 + k / float(tail) if tail > 0 else float("inf")
