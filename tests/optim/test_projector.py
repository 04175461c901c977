"""The projector against the exact SVD."""

import pytest
import torch
from support.optimizers import gradients

from owlore.optim import projector
from owlore.optim.projector import leading_basis, project, projects_left


@pytest.mark.parametrize("refresh", ["svd", "randomized", "subspace"])
def test_bases_are_orthonormal_and_capture_the_leading_energy(refresh):
    generator = torch.Generator().manual_seed(3)
    spectrum = torch.diag(0.8 ** torch.arange(40.0))
    u = torch.linalg.qr(torch.randn(40, 40, generator=generator)).Q
    v = torch.linalg.qr(torch.randn(60, 40, generator=generator)).Q
    matrix = u @ spectrum @ v.T
    basis = leading_basis(matrix, True, 8, refresh, None, generator)
    assert torch.allclose(basis.T @ basis, torch.eye(8), atol=1e-5)
    best = spectrum.diag()[:8].square().sum()
    assert (basis.T @ matrix).square().sum() / best > 0.99


def test_a_warm_start_follows_a_turning_subspace():
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(30, 50, generator=generator) @ torch.diag(0.7 ** torch.arange(50.0))
    old = leading_basis(matrix, True, 6, "subspace", None, generator)
    turned = matrix + 0.05 * torch.randn(30, 50, generator=generator)
    warm = leading_basis(turned, True, 6, "subspace", old, generator)
    exact = torch.linalg.svd(turned).U[:, :6]
    captured = (warm.T @ turned).square().sum() / (exact.T @ turned).square().sum()
    assert captured > 0.99


def test_sides():
    assert projects_left(torch.Size([3, 5]), "std") and not projects_left(torch.Size([5, 5]), "std")
    assert projects_left(torch.Size([5, 3]), "left") and not projects_left(
        torch.Size([3, 5]), "right"
    )


def test_a_bfloat16_gradient_is_projected_as_its_wide_copy_would_be(monkeypatch):
    """Block by block, so that no wide copy of it is made."""
    monkeypatch.setattr(projector, "BLOCK", 3)
    gradient = gradients(11, 8, 1)[0].bfloat16()
    for matrix, left in ((gradient, False), (gradient.T, True), (gradient, True)):
        wide = matrix.float()
        for refresh in ("svd", "randomized"):
            basis, expected = (
                leading_basis(m, left, 3, refresh, None, torch.Generator().manual_seed(1))
                for m in (matrix, wide)
            )
            assert basis.dtype == torch.float32
            torch.testing.assert_close(basis, expected, rtol=1e-4, atol=1e-5)
            found = project(matrix, basis, left)
            torch.testing.assert_close(found, project(wide, basis, left), rtol=1e-5, atol=1e-5)
