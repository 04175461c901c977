"""LowRankAdamW against galore-torch itself, which `make test` installs from envs/peers.txt."""

import pytest
import torch
from published import galore_adamw

from owlore.optim.lowrank import LowRankAdamW

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize(("rows", "columns"), [(6, 10), (10, 6), (8, 8)])
@pytest.mark.parametrize("gap", [1, 7, 100])
def test_thirty_steps_are_galore_torchs(rows, columns, gap):
    """Exact SVD, moments kept at a refresh, equal gap, eps too small to matter, no clipping."""
    generator = torch.Generator().manual_seed(gap)
    start = torch.randn(rows, columns, generator=generator)
    target = torch.randn(rows, columns, generator=generator)
    group = {"rank": 3, "update_proj_gap": gap, "scale": 0.25}
    settings = {"lr": 0.01, "eps": 1e-30}
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    our_group = {"params": [ours], **group, "refresh": "svd", "moments": "keep"}
    their_group = {"params": [theirs], **group, "proj_type": "std"}
    optimizers = (
        (ours, LowRankAdamW([our_group], **settings)),
        (theirs, galore_adamw()([their_group], no_deprecation_warning=True, **settings)),
    )
    for _ in range(30):
        for weight, optimizer in optimizers:
            (weight - target).pow(4).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)
    assert (ours - start).abs().max() > 0.01, "the weights have moved"
