"""The heavy-tail exponent of spectra whose exponent is known."""

import numpy as np
import pytest
import torch

from owlore.outliers.spectra import heavy_tail_exponent


def test_heavier_tails_have_smaller_exponents():
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(64, 64, generator=generator)).Q
    ranks = torch.arange(1, 65.0)
    heavy = q @ torch.diag(ranks**-1.0)  # eigenvalues ~ rank^-2: density exponent 1 + 1/2
    light = q @ torch.diag(ranks**-0.25)  # eigenvalues ~ rank^-1/2: density exponent 1 + 2
    assert heavy_tail_exponent(heavy) == pytest.approx(1.5, abs=0.1)
    assert heavy_tail_exponent(light) == pytest.approx(3.0, abs=0.3)
    assert heavy_tail_exponent(torch.eye(8)) == float("inf")


@pytest.mark.parametrize("shape", [(20, 20), (30, 12), (7, 25)])
def test_it_is_hills_estimate_of_the_squared_singular_values(shape):
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    eigenvalues = np.sort(np.linalg.svd(weight.numpy(), compute_uv=False).astype(float) ** 2)
    k = len(eigenvalues) // 2
    tail = sum(np.log(eigenvalues[-i] / eigenvalues[-k - 1]) for i in range(1, k + 1))
    found = heavy_tail_exponent(weight)
    assert found == pytest.approx(1 + k / tail, rel=1e-3)
    assert heavy_tail_exponent(weight.T) == pytest.approx(found, rel=1e-3)
    assert heavy_tail_exponent(64 * weight) == pytest.approx(found, rel=1e-3), "scale is no tail"
    assert heavy_tail_exponent(weight.bfloat16()) == pytest.approx(found, rel=0.05)
