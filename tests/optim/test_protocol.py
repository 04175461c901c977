"""Every optimizer fulfils the contract, told by what it does: no test here looks at how."""

import ast
import io
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from owlore import optim
from owlore.optim.adamw import RoundedAdamW
from owlore.optim.here import here
from owlore.optim.lowrank import LowRankAdamW
from owlore.optim.protocol import OwloreOptimizer, Statistics
from owlore.optim.sharded_adamw import ShardedAdamW
from owlore.optim.sharded_lowrank import ShardedLowRankAdamW
from owlore.train.methods import OPTIMIZERS

# "large" has as many entries as moments in 8 bits want.
SHAPES = {"tall": (24, 10), "wide": (10, 24), "square": (9, 9), "large": (64, 64), "norm": (7,)}
RANK, GAP = 3, 2
SLEEPERS = ("tall", "norm")


@dataclass(frozen=True)
class Kind:
    """An optimizer's class and how it is set up."""

    made: type
    rounding: str = "nearest"
    dtype: torch.dtype = torch.float32
    low_rank: tuple[tuple[str, object], ...] | None = None

    @property
    def sharded(self) -> bool:
        return self.made in (ShardedAdamW, ShardedLowRankAdamW)

    @property
    def projected(self) -> list[str]:
        return [] if self.low_rank is None else [n for n in SHAPES if n != "norm"]


def low_rank(**keys: object) -> tuple[tuple[str, object], ...]:
    return tuple({"rank": RANK, "update_proj_gap": GAP, "scale": 0.5, **keys}.items())


BF16 = torch.bfloat16
KINDS = {
    "adamw": Kind(RoundedAdamW),
    "adamw-bfloat16": Kind(RoundedAdamW, "nearest", BF16),
    "adamw-stochastic": Kind(RoundedAdamW, "stochastic", BF16),
    "adamw-master": Kind(RoundedAdamW, "master", BF16),
    "adamw-lean": Kind(RoundedAdamW, "lean", BF16),
    "low-rank": Kind(LowRankAdamW, low_rank=low_rank()),
    "low-rank-left-svd": Kind(LowRankAdamW, low_rank=low_rank(side="left", refresh="svd")),
    "low-rank-right-randomized-keep": Kind(
        LowRankAdamW, low_rank=low_rank(side="right", refresh="randomized", moments="keep")
    ),
    "low-rank-bfloat16": Kind(LowRankAdamW, "nearest", BF16, low_rank()),
    "low-rank-stochastic": Kind(LowRankAdamW, "stochastic", BF16, low_rank()),
    "low-rank-master-rotate": Kind(LowRankAdamW, "master", BF16, low_rank(moments="rotate")),
    "low-rank-lean": Kind(LowRankAdamW, "lean", BF16, low_rank()),
    "sharded-adamw": Kind(ShardedAdamW),
    "sharded-adamw-master": Kind(ShardedAdamW, "master", BF16),
    "sharded-low-rank": Kind(ShardedLowRankAdamW, low_rank=low_rank()),
    "sharded-low-rank-stochastic": Kind(ShardedLowRankAdamW, "stochastic", BF16, low_rank()),
}


@pytest.fixture(scope="module")
def mesh():
    """A group of this process alone; on several ranks see tests/train/test_sharded.py."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.fixture(params=KINDS)
def kind(request) -> Kind:
    chosen = KINDS[request.param]
    if chosen.rounding == "lean" and find_spec("torchao") is None:
        pytest.skip("bfloat16-lean needs torchao")
    return chosen


class Setup:
    """Weights, the same each time, and an optimizer over them."""

    def __init__(self, kind: Kind, mesh, start: dict[str, torch.Tensor] | None = None):
        generator = torch.Generator().manual_seed(0)
        drawn = {n: torch.randn(s, generator=generator).to(kind.dtype) for n, s in SHAPES.items()}
        wholes = {n: (start or drawn)[n].clone() for n in SHAPES}
        if kind.sharded:
            wholes = {n: distribute_tensor(w, mesh, [Shard(0)]) for n, w in wholes.items()}
        self.weights = {n: torch.nn.Parameter(w) for n, w in wholes.items()}
        groups = [{"params": [(n, w) for n, w in self.weights.items() if n not in kind.projected]}]
        if kind.low_rank is not None:
            pairs = [(n, self.weights[n]) for n in kind.projected]
            groups.append({"params": pairs, **dict(kind.low_rank)})
        self.optimizer: OwloreOptimizer = kind.made(
            groups, lr=0.01, weight_decay=0.1, rounding=kind.rounding, seed=3
        )

    def backward(self, step: int, names=SHAPES, scale: float = 1.0) -> None:
        """A backward pass that gives each weight a gradient of its own, the same for a step."""
        for number, name in enumerate(SHAPES):
            if name in names:
                generator = torch.Generator().manual_seed(100 * step + number)
                gradient = scale * torch.randn(SHAPES[name], generator=generator)
                weight = self.weights[name]
                part = weight.to_local() if isinstance(weight, DTensor) else weight
                (part * gradient.to(part.dtype)).sum().backward()

    def step(self, step: int, names=SHAPES) -> None:
        self.backward(step, names)
        self.optimizer.step()
        for weight in self.weights.values():
            weight.grad = None

    def run(self, steps: range, names=SHAPES) -> None:
        for step in steps:
            self.step(step, names)

    def of(self, names) -> list[torch.Tensor]:
        return [self.weights[name] for name in names]

    def values(self) -> dict[str, torch.Tensor]:
        return {n: here(w.detach()).clone() for n, w in self.weights.items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], names=SHAPES) -> None:
    for name in names:
        assert torch.equal(one[name], other[name]), name


def reachable(thing: object) -> list[torch.Tensor]:
    """Every tensor below an object, wherever it is kept, parameters left out."""
    if isinstance(thing, torch.nn.Parameter):
        return []
    if torch.is_tensor(thing):
        return [thing]
    if isinstance(thing, dict):
        return [tensor for value in thing.values() for tensor in reachable(value)]
    if isinstance(thing, (list, tuple, set)):
        return [tensor for value in thing for tensor in reachable(value)]
    return []


def storages(tensors: list[torch.Tensor]) -> dict[int, int]:
    """Bytes by address, so that a view that keeps more alive than it shows would be seen."""
    found = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def test_every_optimizer_of_the_methods_is_tested_here():
    offered = {made for kind in OPTIMIZERS.values() for made in (kind.whole, kind.sharded)}
    assert offered == {kind.made for kind in KINDS.values()}


def test_the_optimizers_can_be_lifted_out():
    """They import torch, each other, and torchao where 8 bits are asked for; lazy imports too."""
    for file in Path(optim.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name.split(".")[0] in {"torch", "torchao", *sys.stdlib_module_names}
                assert known or name.startswith("owlore.optim"), (file.name, name)


def test_a_step_moves_what_has_a_gradient_and_nothing_else(kind, mesh):
    setup = Setup(kind, mesh)
    schedule = torch.optim.lr_scheduler.LambdaLR(setup.optimizer, lambda step: 1.0)
    setup.run(range(2))
    before = setup.values()
    setup.step(2, ("wide", "norm"))
    schedule.step()
    after = setup.values()
    for name in SHAPES:
        assert torch.equal(before[name], after[name]) == (name not in ("wide", "norm")), name
    assert not setup.optimizer.pending_gradients()


def test_a_closure_runs_with_gradients_and_its_loss_is_returned(kind, mesh):
    setup, twin = Setup(kind, mesh), Setup(kind, mesh)

    def closure() -> float:
        setup.backward(0)
        return 2.5

    assert setup.optimizer.step(closure) == 2.5
    twin.step(0)
    assert_same(setup.values(), twin.values())


def test_state_bytes_are_those_of_all_tensors_that_it_keeps(kind, mesh):
    setup = Setup(kind, mesh)
    assert setup.optimizer.state_bytes() == 0
    setup.run(range(3))
    kept = reachable(vars(setup.optimizer))
    assert setup.optimizer.state_bytes() == sum(storages(kept).values()) > 0
    each = [setup.optimizer.state_bytes([weight]) for weight in setup.weights.values()]
    assert all(each) and sum(each) == setup.optimizer.state_bytes()
    unknown = torch.nn.Parameter(torch.zeros(3))
    assert setup.optimizer.state_bytes([unknown]) == 0


def test_dropped_state_is_gone_and_begins_anew(kind, mesh):
    setup = Setup(kind, mesh)
    setup.run(range(3))
    others = [name for name in SHAPES if name not in SLEEPERS]
    bytes_of_others = setup.optimizer.state_bytes(setup.of(others))
    setup.optimizer.sleep((weight for weight in setup.of(SLEEPERS)), "drop")
    assert setup.optimizer.state_bytes(setup.of(SLEEPERS)) == 0
    assert setup.optimizer.state_bytes() == bytes_of_others
    setup.optimizer.wake(weight for weight in setup.of(SLEEPERS))
    assert setup.optimizer.state_bytes() == bytes_of_others
    # As an optimizer that has never seen a gradient, from here.
    start = {n: w.full_tensor() if kind.sharded else w for n, w in setup.weights.items()}
    fresh = Setup(kind, mesh, {n: w.detach() for n, w in start.items()})
    for new, old in zip(fresh.optimizer.param_groups, setup.optimizer.param_groups, strict=True):
        new["steps"] = old["steps"]
    for either in (setup, fresh):
        either.run(range(3, 6))
    assert_same(setup.values(), fresh.values(), SLEEPERS)


@pytest.mark.parametrize("policy", ["keep", "offload"])
def test_state_that_was_kept_or_offloaded_comes_back(policy, kind, mesh):
    setup, always_awake = Setup(kind, mesh), Setup(kind, mesh)
    for either in (setup, always_awake):
        either.run(range(3))
    before = {
        name: [tensor.clone() for tensor in reachable(setup.optimizer.state[weight])]
        for name, weight in setup.weights.items()
    }
    total = setup.optimizer.state_bytes()
    setup.optimizer.sleep((weight for weight in setup.of(SLEEPERS)), policy)
    setup.optimizer.wake(weight for weight in setup.of(SLEEPERS))
    assert setup.optimizer.state_bytes() == total
    for name, weight in setup.weights.items():
        for old, new in zip(before[name], reachable(setup.optimizer.state[weight]), strict=True):
            assert torch.equal(old, new) and old.dtype == new.dtype, name
    setup.optimizer.take_statistics()
    setup.step(3)
    always_awake.step(3)
    # The matrix that has slept gets a new basis; for the others the fourth step is not yet due.
    woken = [name for name in SLEEPERS if name in kind.projected]
    assert setup.optimizer.take_statistics().projector_refreshes == len(woken)
    others = [name for name in SHAPES if name not in woken]
    assert_same(setup.values(), always_awake.values(), others)


@pytest.mark.parametrize("made", [RoundedAdamW, LowRankAdamW])
def test_offloaded_state_is_in_main_memory_until_it_wakes(made):
    """On tensors that say they are a GPU's, as a CPU's are there already."""
    with FakeTensorMode():
        weights = [torch.nn.Parameter(torch.empty(8, 6, device="cuda")) for _ in range(2)]
        group = {"params": weights} | ({"rank": 2} if made is LowRankAdamW else {})
        optimizer = made([group], lr=0.1)
        for weight in weights:
            tensors = {"exp_avg": torch.empty_like(weight), "basis": torch.empty_like(weight)}
            optimizer.state[weight].update(tensors, age=3)
        optimizer.sleep(weights[:1], "offload")
        devices = [{t.device.type for t in reachable(optimizer.state[w])} for w in weights]
        assert devices == [{"cpu"}, {"cuda"}]
        optimizer.wake(weights[:1])
        assert {t.device.type for t in reachable(optimizer.state)} == {"cuda"}


def test_what_sleeps_has_nothing_pending(kind, mesh):
    setup = Setup(kind, mesh)
    setup.run(range(2))
    before = setup.values()
    setup.backward(2)
    for weight in setup.of(SLEEPERS):
        weight.grad = None  # a gradient in its usual place is the caller's
    setup.optimizer.sleep(setup.of(SLEEPERS), "keep")
    waiting = setup.optimizer.pending_gradients()
    assert not [weight for weight in setup.of(SLEEPERS) if weight in waiting]
    setup.optimizer.step()
    after = setup.values()
    for name in SHAPES:
        assert torch.equal(before[name], after[name]) == (name in SLEEPERS), name


def test_a_policy_that_is_not_known_is_an_error(kind, mesh):
    setup = Setup(kind, mesh)
    with pytest.raises(ValueError, match="policy: 'forget': allowed drop, keep, offload"):
        setup.optimizer.sleep(setup.of(SLEEPERS), "forget")


def test_a_checkpoint_goes_on_to_the_last_bit(kind, mesh):
    setup = Setup(kind, mesh)
    setup.run(range(3))
    file = io.BytesIO()
    torch.save(setup.optimizer.state_dict(), file)
    start = {n: w.full_tensor() if kind.sharded else w for n, w in setup.weights.items()}
    other = Setup(kind, mesh, {n: w.detach() for n, w in start.items()})
    other.optimizer.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert other.optimizer.state_bytes() == setup.optimizer.state_bytes()
    for step in range(3, 7):  # over a refresh of every basis
        setup.step(step)
        other.step(step)
        assert_same(setup.values(), other.values())


def used(setup: Setup) -> list[torch.Tensor]:
    """Copies of the gradients that the next step uses, wherever they wait."""
    pending = setup.optimizer.pending_gradients()
    found = []
    for weight in setup.weights.values():
        assert (weight in pending) != (weight.grad is not None), "in one place"
        found.append(here(pending.get(weight, weight.grad)).clone())
    return found


def test_the_norm_is_torchs_over_what_the_step_uses(kind, mesh):
    setup = Setup(kind, mesh)
    setup.run(range(2))
    setup.backward(2)
    setup.backward(3)  # a second micro-batch
    before = used(setup)
    waiting = {id(weight) for weight in setup.optimizer.pending_gradients()}
    assert waiting == {id(setup.weights[name]) for name in kind.projected}
    expected = torch.linalg.vector_norm(torch.cat([part.float().flatten() for part in before]))
    # Norms of bfloat16 gradients are bfloat16 themselves before torch adds them up.
    precision = 1e-5 if kind.dtype == torch.float32 else 1e-2
    norm = setup.optimizer.clip_grad_norm(2 * expected.item())
    assert norm.item() == pytest.approx(expected.item(), rel=precision)
    assert norm.dtype == torch.float32 and norm.shape == ()
    for old, new in zip(before, used(setup), strict=True):
        assert torch.equal(old, new), "a norm below the limit changes nothing"
    setup.optimizer.clip_grad_norm(expected.item() / 4)
    for old, new in zip(before, used(setup), strict=True):
        torch.testing.assert_close(new, old / 4, rtol=precision, atol=1e-6)


def test_a_gradient_that_is_not_finite_is_named(kind, mesh):
    setup = Setup(kind, mesh)
    setup.run(range(1))
    setup.backward(1, scale=float("inf"), names=("wide",))
    with pytest.raises(FloatingPointError, match=r"gradient of wide \(10, 24\) is not finite"):
        setup.optimizer.clip_grad_norm(1.0)


def test_statistics_are_handed_over_once(kind, mesh):
    setup = Setup(kind, mesh)
    assert setup.optimizer.take_statistics() == Statistics()
    setup.run(range(5))  # bases are due at the 1st, 3rd and 5th
    taken = setup.optimizer.take_statistics()
    assert taken.projector_refreshes == 3 * len(kind.projected)
    assert (taken.projector_seconds > 0) == bool(kind.projected)
    assert setup.optimizer.take_statistics() == Statistics()
    setup.step(5)
    assert setup.optimizer.take_statistics() == Statistics()
    setup.step(6)
    assert setup.optimizer.take_statistics().projector_refreshes == len(kind.projected)


def test_what_backward_makes_is_told(kind, mesh):
    setup = Setup(kind, mesh)
    for step in range(4):
        for name, weight in setup.weights.items():
            before = storages(reachable(setup.optimizer.state.get(weight, {})))
            setup.backward(step, (name,))
            now = reachable(setup.optimizer.state.get(weight, {}))
            told = storages(list(setup.optimizer.made_in_backward(weight)))
            assert set(storages(now)) - set(before) <= set(told) <= set(storages(now)), name
        setup.optimizer.step()
        for weight in setup.weights.values():
            weight.grad = None


def test_renewed_state_is_the_same_in_new_tensors(kind, mesh):
    setup, twin = Setup(kind, mesh), Setup(kind, mesh)
    for either in (setup, twin):
        either.run(range(3))
    old = reachable(vars(setup.optimizer))  # alive, so that no address is used again
    renewed = list(setup.optimizer.renewed_state())
    assert set(storages(renewed)) == set(storages(reachable(vars(setup.optimizer))))
    assert not set(storages(renewed)) & set(storages(old))
    for either in (setup, twin):
        either.run(range(3, 6))
    assert_same(setup.values(), twin.values())
