"""Moments in 8 bits, against torchao's own optimizer."""

import pytest
import torch
from support.optimizers import gradients, parameter

from owlore.optim.lowrank import LowRankAdamW


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
