"""Weights, gradients and steps for tests of optimizers."""

import torch


def parameter(rows: int, columns: int, seed: int = 0) -> torch.nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.Parameter(torch.randn(rows, columns, generator=generator))


def gradients(rows: int, columns: int, steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(99)
    return [torch.randn(rows, columns, generator=generator) for _ in range(steps)]


def run(weight, optimizer, grads):
    for gradient in grads:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach().clone()
