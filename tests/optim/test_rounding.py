"""Rounding to bfloat16 that loses nothing on average."""

import pytest
import torch

from owlore.optim.rounding import round_stochastically


def test_stochastic_rounding_is_right_on_average_and_keeps_what_is_exact():
    generator = torch.Generator().manual_seed(0)
    wide = torch.full((100_000,), 1.0 + 0.3 * 2**-7)
    rounded = round_stochastically(wide, generator).float()
    assert set(rounded.unique().tolist()) == {1.0, 1.0 + 2**-7}
    assert rounded.mean().item() == pytest.approx(wide[0].item(), abs=1e-4)
    exact = torch.randn(1000).bfloat16()
    assert torch.equal(round_stochastically(exact.float(), generator), exact)
