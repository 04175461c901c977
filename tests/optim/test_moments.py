"""Moments in 8 bits, against torchao's own optimizer."""

import pytest
import torch
from support.optimizers import gradients, parameter

from owlore.optim import moments
from owlore.optim.lowrank import LowRankAdamW

pytestmark = pytest.mark.arithmetic


def test_lean_is_torchaos_adam_in_8_bits():
    """The same codes and weights, rounding apart: the weight moves far more than a rounding gap."""
    optim = pytest.importorskip("torchao.optim", reason="bfloat16-lean needs torchao")
    ours, theirs = (torch.nn.Parameter(parameter(64, 64).detach().bfloat16()) for _ in range(2))
    lean = LowRankAdamW([{"params": [ours]}], lr=0.05, rounding="lean")
    peer = optim.AdamW8bit([theirs], lr=0.05, weight_decay=0.0)
    with torch.compiler.set_stance("force_eager"):
        for gradient in gradients(64, 64, 6):
            ours.grad, theirs.grad = gradient.bfloat16(), gradient.bfloat16()
            lean.step()
            peer.step()
    state, expected = lean.state[ours], peer.state[theirs]
    for key in ("exp_avg", "exp_avg_sq"):
        assert state[key].dtype == torch.uint8
        same = (state[key].int() - expected[key].codes.int()).abs() <= 1
        assert same.float().mean() > 0.999
        torch.testing.assert_close(state[f"{key}_scale"], expected[key].scale, rtol=1e-3, atol=0)
    assert (ours.float() - theirs.float()).abs().mean() < 0.01


def test_lean_keeps_small_moments_wide_and_needs_a_byte_an_entry():
    pytest.importorskip("torchao", reason="bfloat16-lean needs torchao")
    large, small = (
        torch.nn.Parameter(torch.zeros(n, dtype=torch.bfloat16)) for n in (64 * 256, 256)
    )
    optimizer = LowRankAdamW([{"params": [large, small]}], lr=0.01, rounding="lean")
    large.grad, small.grad = torch.ones_like(large), torch.ones_like(small)
    optimizer.step()
    assert optimizer.state_bytes([large]) == 2 * (64 * 256 + 64 * 4) + 4
    assert optimizer.state_bytes([small]) == 2 * 256 * 4 + 4


def test_lean_learns_with_a_projection_and_goes_on_after_a_restart():
    pytest.importorskip("torchao", reason="bfloat16-lean needs torchao")
    target = parameter(128, 128, 1).detach()

    def fresh():
        weight = torch.nn.Parameter(torch.zeros(128, 128, dtype=torch.bfloat16))
        group = {"params": [weight], "rank": 64, "update_proj_gap": 4, "moments": "rotate"}
        return weight, LowRankAdamW([group], lr=0.05, rounding="lean")

    def train(weight, optimizer, steps):
        for _ in range(steps):
            weight.grad = (weight.detach().float() - target).bfloat16()
            optimizer.step()

    weight, optimizer = fresh()
    train(weight, optimizer, 12)
    assert optimizer.state[weight]["exp_avg"].dtype == torch.uint8
    assert (weight.float() - target).square().mean() < 0.7 * target.square().mean()
    again, restored = fresh()
    train(again, restored, 6)
    state = restored.state_dict()
    copy, other = fresh()
    copy.data.copy_(again)
    other.load_state_dict(state)
    train(copy, other, 6)
    assert torch.equal(copy, weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_moments_begin_at_zero_and_a_stretch_of_them_is_a_view(dtype):
    state = moments.fresh(torch.ones(4, 8), dtype, eight_bits=False)
    assert {name: value.dtype for name, value in state.items()} == {
        "step": torch.float32,
        "exp_avg": dtype,
        "exp_avg_sq": dtype,
    }
    assert not any(value.any() for value in state.values())
    stretch = moments.read(state, slice(8, 16))
    for value in stretch.values():
        value += 1
    moments.write(state, slice(8, 16), stretch)
    for name in ("exp_avg", "exp_avg_sq"):
        assert state[name].shape == (4, 8)
        assert state[name].sum() == 8 and state[name][1].sum() == 8


def test_what_is_forgotten_is_the_moments_and_nothing_else():
    state = {"basis": 1, **moments.fresh(torch.ones(2, 2), torch.float32, eight_bits=False)}
    moments.forget(state)
    assert state == {"basis": 1}
    moments.forget(state)


@pytest.mark.parametrize("shape", [(16, 255), (15, 256), (4097,)])
def test_small_and_odd_tensors_stay_wide(shape):
    state = moments.fresh(torch.zeros(shape), torch.float32, eight_bits=True)
    assert state["exp_avg"].dtype == torch.float32 and "exp_avg_scale" not in state


def test_8_bits_come_back_within_a_hundredth_of_their_blocks_largest():
    pytest.importorskip("torchao", reason="bfloat16-lean needs torchao")
    generator = torch.Generator().manual_seed(0)
    state = moments.fresh(torch.zeros(64, 256), torch.float32, eight_bits=True)
    average = torch.randn(64 * 256, generator=generator)
    moments.write(state, slice(0, None), {"exp_avg": average, "exp_avg_sq": average.square()})
    back = moments.read(state, slice(0, None))
    for name, wide in (("exp_avg", average), ("exp_avg_sq", average.square())):
        largest = wide.view(-1, 256).abs().amax(1, keepdim=True)
        assert ((back[name] - wide).view(-1, 256).abs() <= 0.02 * largest).all()
    assert (back["exp_avg_sq"] >= 0).all()
