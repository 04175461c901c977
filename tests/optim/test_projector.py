"""The projector against the exact SVD."""

import pytest
import torch
from support.optimizers import gradients

from owlore.optim import projector
from owlore.optim.projector import (
    leading_basis,
    project,
    project_back,
    projects_left,
    rotated_moments,
)

pytestmark = pytest.mark.arithmetic


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


@pytest.mark.parametrize("left", [True, False])
def test_projecting_and_back_is_the_orthogonal_projection(left):
    gradient = gradients(7, 9, 1)[0].double()
    generator = torch.Generator().manual_seed(2)
    basis = leading_basis(gradient, left, 3, "svd", None, generator)
    small = project(gradient, basis, left)
    assert small.shape == ((3, 9) if left else (7, 3))
    back = project_back(small, basis, left)
    # Eckart and Young: nothing of rank 3 is nearer than the truncated singular value decomposition.
    u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
    torch.testing.assert_close(back, u[:, :3] @ s[:3].diag() @ vh[:3])
    torch.testing.assert_close(project(back, basis, left), small)


@pytest.mark.parametrize("refresh", ["randomized", "subspace"])
def test_the_random_sketch_is_that_of_the_generator(refresh):
    gradient = gradients(12, 20, 1)[0]
    one, other, third = (
        leading_basis(gradient, True, 4, refresh, None, torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert torch.equal(one, other) and not torch.equal(one, third)


@pytest.mark.parametrize("left", [True, False])
def test_moments_turn_with_the_basis(left):
    """Two bases of one subspace: what was seen in the old one is seen in the new one."""
    gradient = gradients(8, 8, 1)[0].double()
    generator = torch.Generator().manual_seed(3)
    old = leading_basis(gradient, left, 4, "svd", None, generator)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    new = old @ turn.T
    average = project(gradient, old, left)
    square = average.square()
    turned, squares = rotated_moments(average, square, turn, left)
    torch.testing.assert_close(turned, project(gradient, new, left))
    assert (squares >= 0).all()
    # Squared coefficients of a rotation add up to one: no variance is made or lost.
    torch.testing.assert_close(squares.sum(0 if left else 1), square.sum(0 if left else 1))
    same = rotated_moments(average, square, torch.eye(4, dtype=torch.float64), left)
    assert torch.equal(same[0], average) and torch.equal(same[1], square)
