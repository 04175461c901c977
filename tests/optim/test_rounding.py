"""Rounding to bfloat16 that loses nothing on average."""

import pytest
import torch

from owlore.optim.rounding import round_stochastically, widened

pytestmark = pytest.mark.arithmetic


def test_stochastic_rounding_is_right_on_average_and_keeps_what_is_exact():
    generator = torch.Generator().manual_seed(0)
    wide = torch.full((100_000,), 1.0 + 0.3 * 2**-7)
    rounded = round_stochastically(wide, generator).float()
    assert set(rounded.unique().tolist()) == {1.0, 1.0 + 2**-7}
    assert rounded.mean().item() == pytest.approx(wide[0].item(), abs=1e-4)
    exact = torch.randn(1000).bfloat16()
    assert torch.equal(round_stochastically(exact.float(), generator), exact)


def test_the_result_is_a_neighbour_whatever_the_sign_and_size():
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(20_000, generator=generator) * 10.0 ** torch.randint(
        -20, 20, (20_000,), generator=generator
    )
    rounded = round_stochastically(wide, generator)
    assert rounded.dtype == torch.bfloat16 and rounded.shape == wide.shape
    # Toward zero is to cut the lower half of the bits; away from zero is the next number.
    toward = (wide.view(torch.int32) & -65536).view(torch.float32)
    away = ((wide.view(torch.int32) & -65536) + 65536).view(torch.float32)
    assert ((rounded.float() == toward) | (rounded.float() == away)).all()
    assert torch.equal(round_stochastically(torch.zeros(9), generator), torch.zeros(9).bfloat16())


def test_the_same_generator_draws_the_same():
    wide = torch.randn(1000)
    one, other = (round_stochastically(wide, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, other)


def test_widening_loses_nothing_and_copies_only_what_is_narrow():
    for dtype in (torch.float32, torch.float64):
        tensor = torch.randn(5, dtype=dtype)
        assert widened(tensor) is tensor
    narrow = torch.randn(5).bfloat16()
    assert widened(narrow).dtype == torch.float32
    assert torch.equal(widened(narrow).bfloat16(), narrow)
