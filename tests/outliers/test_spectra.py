"""The heavy-tail exponent of spectra whose exponent is known."""

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
