"""Projector refresh at the shapes of one LLaMA2-7B layer, against an exact SVD.

Run as: `python benchmarks/projector.py` (a minute, of which the exact SVD takes nearly all).
"""

import time

import torch
from measuring import Table

from owlore.optim.projector import leading_basis, projects_left

RANK = 128
SHAPES = {(4096, 4096): 4, (4096, 11008): 3}  # q, k, v, o; gate, up, down (transposed or not)


def spectrum_like_a_gradient(rows: int, columns: int) -> torch.Tensor:
    """Return a random matrix whose singular values fall like 1/k, plus noise."""
    generator = torch.Generator().manual_seed(0)
    k = 512
    left = torch.randn(rows, k, generator=generator) / torch.arange(1, k + 1)
    right = torch.randn(k, columns, generator=generator)
    return left @ right + 0.01 * torch.randn(rows, columns, generator=generator)


def main() -> None:
    """Measure and write the table."""
    table = Table("projector", f"One LLaMA2-7B layer (7 matrices), float32, rank {RANK}.")
    spent = {"svd": 0.0, "cold": 0.0, "warm": 0.0}
    for shape, times in SHAPES.items():
        gradient = spectrum_like_a_gradient(*shape)
        left = projects_left(gradient.shape, "std")
        generator = torch.Generator().manual_seed(0)
        former = leading_basis(
            gradient + 0.3 * spectrum_like_a_gradient(*shape).roll(1, 0),
            left, RANK, "randomized", None, generator,
        )  # fmt: skip
        for name, refresh, warm in (
            ("svd", "svd", None),
            ("cold", "subspace", None),
            ("warm", "subspace", former),
        ):
            started = time.perf_counter()
            leading_basis(gradient, left, RANK, refresh, warm, generator)
            spent[name] += times * (time.perf_counter() - started)
        print(f"  {shape}: {spent}", flush=True)
    for name, remark in (("warm", "from the former basis"), ("cold", "at a first wake-up")):
        table.add(
            f"refresh {remark}",
            f"{spent[name]:.2f} s",
            f"exact SVD {spent['svd']:.1f} s",
            f"{spent['svd'] / spent[name]:.0f}x cheaper",
            ">= 20x",
        )
    table.write()


if __name__ == "__main__":
    main()
