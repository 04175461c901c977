"""LowRankAdamW against literal formulas, and its state's life."""

import io

import pytest
import torch
from support.optimizers import gradients, parameter, run

from owlore.optim.lowrank import LowRankAdamW

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize(("rows", "columns"), [(5, 9), (9, 5), (6, 6)])
@pytest.mark.parametrize("gap", [1, 3])
def test_exact_svd_equals_the_literal_algorithm(rows, columns, gap):
    """GaLore, Algorithm 2, with moments kept when the basis changes."""
    rank, lr, scale, beta1, beta2, eps = 2, 0.01, 0.5, 0.9, 0.999, 1e-8
    grads = gradients(rows, columns, 12)
    ours = parameter(rows, columns)
    group = {"params": [ours], "rank": rank, "update_proj_gap": gap, "scale": scale}
    group |= {"refresh": "svd", "moments": "keep"}
    run(ours, LowRankAdamW([group], lr=lr, weight_decay=0.1), grads)

    expected = parameter(rows, columns).detach()
    first = second = torch.zeros(())
    for step, gradient in enumerate(grads):
        if step % gap == 0:
            u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
            left, right = u[:, :rank], vh[:rank].T
        small = left.T @ gradient if rows < columns else gradient @ right
        first = beta1 * first + (1 - beta1) * small
        second = beta2 * second + (1 - beta2) * small.square()
        direction = (first / (1 - beta1 ** (step + 1))) / (
            (second / (1 - beta2 ** (step + 1))).sqrt() + eps
        )
        full = left @ direction if rows < columns else direction @ right.T
        expected = expected * (1 - lr * 0.1) - lr * scale * full
    assert torch.allclose(ours, expected, atol=1e-5)


def test_full_rank_projection_with_one_basis_keeps_the_gradient_space():
    weight = parameter(4, 8)
    start = weight.detach().clone()
    group = {"params": [weight], "rank": 2, "update_proj_gap": 100}
    gradient = torch.outer(torch.arange(1.0, 5.0), torch.ones(8))  # rank one
    run(weight, LowRankAdamW([group], lr=0.1), [gradient] * 3)
    change = weight.detach() - start
    assert torch.linalg.matrix_rank(change, rtol=1e-4) <= 2
    assert change.abs().max() > 0.1


def test_micro_batches_add_up_to_one_batch():
    """On ordinary steps a sum of projections is the projection of the sum (float64, to 1e-6)."""
    torch.manual_seed(0)
    inputs = torch.randn(4, 12, 7, dtype=torch.float64)  # steps × examples × features
    whole, split = (parameter(5, 7).detach().double().requires_grad_() for _ in range(2))
    for weight, parts in ((whole, 1), (split, 3)):
        group = {"params": [weight], "rank": 2, "update_proj_gap": 100}
        optimizer = LowRankAdamW([group], lr=0.01)
        for step, batch in enumerate(inputs):
            # The basis is due in step 0: it sees all of that step in both runs.
            for part in batch.chunk(1 if step == 0 else parts):
                (part @ weight.T).square().sum().backward()
                assert weight.grad is None, "freed as soon as it is projected"
            optimizer.clip_grad_norm(1.0)
            optimizer.step()
    assert torch.allclose(whole, split, atol=1e-6, rtol=0)


def test_a_basis_that_is_due_is_made_of_the_first_micro_batch():
    torch.manual_seed(0)
    first, second = torch.randn(3, 7), torch.randn(3, 7)
    weight, alone = parameter(5, 7), parameter(5, 7)
    bases = []
    for tensor, batches in ((weight, (first, second)), (alone, (first,))):
        optimizer = LowRankAdamW([{"params": [tensor], "rank": 2, "refresh": "svd"}], lr=0.01)
        for batch in batches:
            (batch @ tensor.T).square().sum().backward()
        optimizer.step()
        bases.append(optimizer.state[tensor]["basis"])
        assert optimizer.take_statistics().projector_refreshes == 1
    assert torch.equal(*bases)


def test_clipping_is_by_the_norm_of_projections_and_plain_gradients_together():
    matrix, vector = parameter(5, 7), torch.nn.Parameter(torch.ones(3))
    groups = [{"params": [matrix], "rank": 2, "refresh": "svd"}, {"params": [vector]}]
    optimizer = LowRankAdamW(groups, lr=0.01)
    gradient = gradients(5, 7, 1)[0]
    for _ in range(2):  # two micro-batches
        matrix.grad = gradient.clone()
        optimizer._prepare()
    vector.grad = torch.full((3,), 2.0)
    leading = torch.linalg.svdvals(gradient)[:2] * 2
    expected = (leading.square().sum() + 12).sqrt()
    assert optimizer.clip_grad_norm(0.5).item() == pytest.approx(expected.item(), rel=1e-5)
    left = optimizer.pending_gradients()[matrix].square().sum() + vector.grad.square().sum()
    assert left.sqrt().item() == pytest.approx(0.5, rel=1e-4)


def test_hooks_outlive_freezing_and_no_two_full_gradients_live_side_by_side():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(torch.nn.Linear(6, 6, bias=False) for _ in range(3)))
    optimizer = LowRankAdamW([{"params": list(layers.parameters()), "rank": 2}], lr=0.01)
    alive = []
    for layer in layers:
        layer.weight.register_post_accumulate_grad_hook(
            lambda _: alive.append(sum(p.grad is not None for p in layers.parameters()))
        )
    for asleep in (0, 1):
        layers[asleep].requires_grad_(False)
        layers(torch.randn(4, 6)).square().sum().backward()
        assert layers[asleep].weight not in optimizer.pending_gradients()
        assert len(optimizer.pending_gradients()) == 2
        optimizer.step()
        layers[asleep].requires_grad_(True)
    assert set(alive) == {0} and len(alive) == 4


@pytest.mark.parametrize("rank", [None, 2])
def test_a_gradient_that_is_not_finite_is_named_when_clipping(rank):
    good, bad = parameter(4, 6), parameter(4, 6)
    named = [("layer.good", good), ("layer.bad", bad)]
    optimizer = LowRankAdamW([{"params": named, "rank": rank, "refresh": "svd"}], lr=0.1)
    for broken in (False, True):
        good.grad, bad.grad = torch.ones(4, 6), torch.ones(4, 6)
        if broken:
            bad.grad[0, 0] = float("inf")
            with pytest.raises(FloatingPointError, match=r"gradient of layer.bad \(4, 6\)"):
                optimizer.clip_grad_norm(1.0)
        else:
            optimizer.clip_grad_norm(1.0)
            optimizer.step()


@pytest.mark.parametrize("refresh", ["svd", "randomized", "subspace"])
def test_a_zero_gradient_changes_nothing(refresh):
    weight = parameter(4, 6)
    start = weight.detach().clone()
    group = {"params": [weight], "rank": 2, "refresh": refresh}
    run(weight, LowRankAdamW([group], lr=0.1), [torch.zeros(4, 6)] * 2)
    assert torch.equal(weight.detach(), start)


def test_a_non_finite_gradient_is_an_error():
    weight = parameter(4, 6)
    optimizer = LowRankAdamW([{"params": [weight], "rank": 2}], lr=0.1)
    with pytest.raises(FloatingPointError, match=r"parameter 0 \(4, 6\) is not finite"):
        run(weight, optimizer, [torch.full((4, 6), float("nan"))])


@pytest.mark.parametrize("moments", ["reset", "keep", "rotate"])
def test_moments_at_a_refresh(moments):
    weight = parameter(4, 8)
    group = {"params": [weight], "rank": 2, "update_proj_gap": 2, "moments": moments}
    optimizer = LowRankAdamW([group], lr=0.1)
    run(weight, optimizer, gradients(4, 8, 3))
    state = optimizer.state[weight]
    assert state["refreshes"] == 2
    assert state["step"].item() == (1 if moments == "reset" else 3)
    assert torch.isfinite(state["exp_avg_sq"]).all() and (state["exp_avg_sq"] >= 0).all()


def test_state_policies():
    weight = parameter(4, 8)
    optimizer = LowRankAdamW([{"params": [weight], "rank": 2, "update_proj_gap": 10}], lr=0.1)
    run(weight, optimizer, gradients(4, 8, 1))
    # basis 4 × 2, two moments 2 × 8, step
    assert optimizer.state_bytes() == 4 * (8 + 16 + 16 + 1)
    optimizer.sleep([weight], "keep")
    assert optimizer.state_bytes() > 0
    optimizer.wake([weight])
    run(weight, optimizer, gradients(4, 8, 1))
    assert optimizer.state[weight]["refreshes"] == 2, "a layer that wakes up gets a fresh basis"
    optimizer.sleep([weight], "drop")
    assert optimizer.state_bytes() == 0


@pytest.mark.parametrize(
    ("dtype", "rounding", "of_state"),
    [
        (torch.float32, "nearest", torch.float32),
        (torch.bfloat16, "nearest", torch.bfloat16),
        (torch.bfloat16, "stochastic", torch.float32),
        (torch.bfloat16, "master", torch.float32),
    ],
)
def test_a_restored_optimizer_goes_on_bit_for_bit(dtype, rounding, of_state):
    def fresh():
        plain = torch.nn.Parameter(parameter(3, 3).detach().to(dtype))
        low = torch.nn.Parameter(parameter(4, 8).detach().to(dtype))
        groups = [{"params": [plain]}, {"params": [low], "rank": 2, "update_proj_gap": 3}]
        return plain, low, LowRankAdamW(groups, lr=0.05, seed=4, rounding=rounding)

    def train(plain, low, optimizer, steps):
        for a, b in steps:
            plain.grad, low.grad = a.to(dtype), b.to(dtype)
            optimizer.step()

    steps = list(zip(gradients(3, 3, 8), gradients(4, 8, 8), strict=True))
    plain, low, optimizer = fresh()
    train(plain, low, optimizer, steps)

    first_plain, first_low, first = fresh()
    train(first_plain, first_low, first, steps[:4])
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    again_plain, again_low, again = fresh()
    again_plain.data.copy_(first_plain.data)
    again_low.data.copy_(first_low.data)
    again.load_state_dict(torch.load(stored, weights_only=True))
    train(again_plain, again_low, again, steps[4:])
    assert torch.equal(again_plain, plain) and torch.equal(again_low, low)
    for key in ("basis", "exp_avg", "exp_avg_sq"):
        assert again.state[again_low][key].dtype == of_state
