"""RoundedAdamW: torch's own AdamW on float32, and no update lost on bfloat16."""

import pytest
import torch
from support.optimizers import gradients, parameter, run

from owlore.optim import adamw
from owlore.optim.adamw import RoundedAdamW
from owlore.optim.lowrank import LowRankAdamW

pytestmark = pytest.mark.arithmetic


def test_without_rank_it_is_torchs_adamw():
    ours, theirs = parameter(6, 4), parameter(6, 4)
    grads = gradients(6, 4, 10)
    settings = {"lr": 0.01, "weight_decay": 0.1}
    run(ours, LowRankAdamW([{"params": [ours]}], **settings), grads)
    run(theirs, torch.optim.AdamW([theirs], fused=True, **settings), grads)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rank", [None, 1])
@pytest.mark.parametrize("rounding", ["stochastic", "master"])
def test_small_updates_of_bfloat16_weights_are_not_lost(rounding, rank):
    """Each step is a twentieth of the gap between two bfloat16 numbers from 1 to 2.

    Rank 1, which is the gradient's: in a further direction there is only rounding, which Adam makes
    as large as a step, and its sign is the CPU's choice.
    """
    starts = (1.1 + 0.8 * torch.rand(64, 64)).bfloat16().float()
    wide = torch.nn.Parameter(starts.clone())
    narrow, nearest = (torch.nn.Parameter(starts.bfloat16()) for _ in range(2))
    for weight, how in ((wide, "nearest"), (narrow, rounding), (nearest, "nearest")):
        group = {"params": [weight], "rank": rank, "refresh": "svd", "update_proj_gap": 1000}
        optimizer = LowRankAdamW([group], lr=0.0004 if rank is None else 0.003, rounding=how)
        for _ in range(50):
            weight.grad = torch.ones(64, 64).to(weight.dtype)
            optimizer.step()
    moved = (wide - starts).mean().item()
    assert moved < -0.01
    if rounding == "master":
        assert (narrow.float() - wide).abs().max().item() <= 2**-8 + 1e-6, "half the gap"
    else:
        assert (narrow.float() - starts).mean().item() == pytest.approx(moved, rel=0.05)
    assert torch.equal(nearest, starts.bfloat16()) or rank is not None


@pytest.mark.parametrize("rounding", ["master", "stochastic"])
def test_a_wide_step_in_chunks_is_the_step_of_the_whole(rounding, monkeypatch):
    def trained(chunk: int) -> torch.Tensor:
        monkeypatch.setattr(adamw, "CHUNK", chunk)
        weight = torch.nn.Parameter(parameter(16, 16).detach().bfloat16())
        optimizer = LowRankAdamW([{"params": [weight]}], lr=0.01, rounding=rounding)
        for gradient in gradients(16, 16, 3):
            weight.grad = gradient.bfloat16()
            optimizer.step()
        assert optimizer.state[weight]["step"] == 3
        return weight.detach().clone()

    assert torch.equal(trained(32), trained(1 << 22))


def test_clipping_is_torchs():
    ours, theirs = ([parameter(6, 4), parameter(3, 3, 1)] for _ in range(2))
    optimizer = RoundedAdamW([{"params": ours}], lr=0.1)
    for mine, yours in zip(ours, theirs, strict=True):
        mine.grad, yours.grad = (gradients(*mine.shape, 1)[0].clone() for _ in range(2))
    for max_norm in (1e3, 0.5):  # too large to do anything, and small enough
        norm = optimizer.clip_grad_norm(max_norm)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm).item())
        for mine, yours in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.grad, yours.grad)


def test_a_stochastic_step_is_on_average_that_of_float32():
    """Each seed rounds one step to a neighbour; 400 seeds together meet the float32 step."""
    start, gradient = parameter(8, 8).detach().bfloat16(), gradients(8, 8, 1)[0].bfloat16()
    wide = torch.nn.Parameter(start.float())
    run(wide, torch.optim.AdamW([wide], lr=0.001, weight_decay=0.0), [gradient.float()])
    total = torch.zeros(8, 8, dtype=torch.float64)
    for seed in range(400):
        narrow = torch.nn.Parameter(start.clone())
        settings = {"lr": 0.001, "rounding": "stochastic", "seed": seed}
        total += run(narrow, RoundedAdamW([{"params": [narrow]}], **settings), [gradient]).double()
    gap = start.abs().double() * 2**-7  # between neighbours, at most
    # A mean of 400 roundings strays by gap / (2 sqrt(400)); five times that is never seen.
    assert ((total / 400 - wide.double()).abs() <= 5 * gap / 40 + 1e-9).all()


def test_a_rounding_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"rounding: 'up': allowed nearest, stochastic, master"):
        RoundedAdamW([{"params": [parameter(2, 2)]}], lr=0.1, rounding="up")
