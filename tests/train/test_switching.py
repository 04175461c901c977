"""Which layers train when; the oracle is the sampler, run by hand beside the switch."""

import itertools
import json

import pytest
import torch
from support.cells import method
from support.small_models import tiny_llama
from transformers import TrainerControl, TrainerState

from owlore.optim.adamw import RoundedAdamW
from owlore.optim.lowrank import LowRankAdamW
from owlore.sources import models
from owlore.train.methods import build_optimizer, trainable_model
from owlore.train.sampling import LayerSampler, layer_weights
from owlore.train.switching import LayerSwitch

LAYERS, GAMMA, INTERVAL, STEPS, SEED = 6, 2, 3, 20, 5
SCORES = [0.1, 0.4, 0.0, 0.3, 0.2, 0.25]


class Watched(RoundedAdamW):
    """AdamW that notes who is put to sleep and woken, and how."""

    def __init__(self, layers: torch.nn.ModuleList):
        super().__init__([{"params": list(layers.parameters())}], lr=0.1)
        self._layer = {p: i for i, layer in enumerate(layers) for p in layer.parameters()}
        self.calls: list[tuple[str, int]] = []

    def sleep(self, parameters, policy="drop"):
        chosen = list(parameters)
        self.calls.append((policy, *{self._layer[p] for p in chosen}))
        assert len(chosen) == 2, "weight and bias"
        super().sleep(chosen, policy)

    def wake(self, parameters):
        chosen = list(parameters)
        self.calls.append(("wake", *{self._layer[p] for p in chosen}))
        super().wake(chosen)


class Run:
    """Layers, an optimizer and a switch, stepped without a Trainer."""

    def __init__(self, gamma=GAMMA, interval=INTERVAL, policy="drop", law="successive"):
        self.layers = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(LAYERS))
        self.optimizer = Watched(self.layers)
        self.switch = LayerSwitch(self.layers, sampler(gamma, law), interval, policy)
        self.switch.attach(self.optimizer)
        self.progress = TrainerState()

    def begin(self) -> None:
        """The Trainer's call before the first step, of a new run or of a resumed one."""
        self.switch.on_train_begin(None, self.progress, TrainerControl())

    def step(self) -> list[int]:
        """One optimizer step of what is awake; return which layers that is."""
        self.switch.on_step_begin(None, self.progress, TrainerControl())
        total = sum(layer(torch.ones(3)).square().sum() for layer in self.layers)
        total.backward()
        self.optimizer.step()
        awake = [i for i, layer in enumerate(self.layers) if layer.weight.grad is not None]
        for layer in self.layers:
            assert len({p.requires_grad for p in layer.parameters()}) == 1
        self.optimizer.zero_grad()
        self.progress.global_step += 1
        return awake

    def with_state(self) -> list[int]:
        return [
            i
            for i, layer in enumerate(self.layers)
            if self.optimizer.state_bytes(layer.parameters())
        ]


def sampler(gamma=GAMMA, law="successive") -> LayerSampler:
    return LayerSampler(layer_weights("outlier", LAYERS, SCORES), gamma, law, SEED)


def drawn_by_hand(gamma=GAMMA, interval=INTERVAL, law="successive") -> list[list[int]]:
    """The layers of every step."""
    by_hand, awake = sampler(gamma, law), []
    for step in range(STEPS):
        draw = by_hand.draw() if step % interval == 0 else awake[-1]
        awake.append(draw)
    return awake


@pytest.mark.parametrize("law", ["successive", "marginal"])
@pytest.mark.parametrize("interval", [1, 3, 7, STEPS + 1])
@pytest.mark.parametrize("gamma", [1, 2, LAYERS])
def test_who_trains_when(gamma, interval, law):
    run = Run(gamma, interval, law=law)
    expected = drawn_by_hand(gamma, interval, law)
    run.begin()
    assert all(p.requires_grad for p in run.layers.parameters()), "nothing sleeps before a draw"
    for step in range(STEPS):
        assert run.step() == run.switch.active == expected[step], step
    assert run.switch.switches == len(range(0, STEPS, interval))
    counts = [sum(layer in awake for awake in expected) for layer in range(LAYERS)]
    assert run.switch.activations == counts and sum(counts) == gamma * STEPS


def test_the_oracle_is_worth_something():
    """The draws differ from one interval to the next, and a layer is drawn twice running."""
    draws = drawn_by_hand()[::INTERVAL]
    assert len({tuple(draw) for draw in draws}) > 2
    assert any(set(a) & set(b) and set(a) != set(b) for a, b in itertools.pairwise(draws))


@pytest.mark.parametrize("policy", ["drop", "keep", "offload"])
def test_the_optimizer_is_told_who_falls_asleep_and_who_wakes(policy):
    run = Run(policy=policy)
    expected, awake = drawn_by_hand(), set(range(LAYERS))
    run.begin()
    for step in range(STEPS):
        run.optimizer.calls.clear()
        run.step()
        drawn = set(expected[step])
        sleeping = {(policy, layer) for layer in awake - drawn}
        # The first draw wakes all that it has drawn: a basis that is there already is renewed.
        waking = {("wake", layer) for layer in (drawn if step == 0 else drawn - awake)}
        assert set(run.optimizer.calls) == sleeping | waking, step
        assert len(run.optimizer.calls) == len(sleeping | waking)
        awake = drawn


@pytest.mark.parametrize("policy", ["drop", "keep", "offload"])
def test_whose_state_there_is(policy):
    run, ever = Run(policy=policy), set()
    run.begin()
    for _ in range(STEPS):
        awake = run.step()
        ever |= set(awake)
        assert run.with_state() == (awake if policy == "drop" else sorted(ever))
    assert policy == "drop" or len(ever) > GAMMA


def test_a_layer_that_is_drawn_again_at_once_keeps_its_state():
    run, expected = Run(), drawn_by_hand()
    run.begin()
    counts = [0] * LAYERS
    for step in range(STEPS):
        run.step()
        for layer in range(LAYERS):
            counts[layer] = counts[layer] + 1 if layer in expected[step] else 0
            taken = run.optimizer.state.get(run.layers[layer].weight, {}).get("step", 0)
            assert int(taken) == counts[layer], (step, layer)
    assert max(counts) > 0


def test_gradients_of_what_falls_asleep_are_freed():
    run = Run(interval=1)
    run.begin()
    for layer in run.layers:
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
    run.switch.on_step_begin(None, run.progress, TrainerControl())
    for index, layer in enumerate(run.layers):
        for parameter in layer.parameters():
            assert (parameter.grad is None) == (index not in run.switch.active)


@pytest.mark.parametrize("policy", ["drop", "keep", "offload"])
@pytest.mark.parametrize("stop", range(1, 2 * INTERVAL + 2))
def test_a_resumed_run_goes_on_as_if_never_stopped(stop, policy):
    """At every place in an interval; state goes through JSON, as in a checkpoint."""
    run, expected = Run(policy=policy), drawn_by_hand()
    run.begin()
    for _ in range(stop):
        run.step()
    saved = json.loads(json.dumps(run.switch.state_dict()))
    state = run.optimizer.state_dict()

    resumed = Run(policy=policy)
    resumed.switch.load_state_dict(saved)
    resumed.optimizer.load_state_dict(state)
    resumed.progress.global_step = stop
    resumed.begin()
    frozen = [i for i, layer in enumerate(resumed.layers) if not layer.weight.requires_grad]
    assert frozen == [i for i in range(LAYERS) if i not in expected[stop - 1]]
    assert set(resumed.optimizer.calls) == {(policy, layer) for layer in frozen}
    assert resumed.with_state() == run.with_state()
    for step in range(stop, STEPS):
        assert resumed.step() == run.step() == expected[step]
        assert resumed.with_state() == run.with_state()
    assert resumed.switch.state_dict() == run.switch.state_dict()


def test_what_is_loaded_is_copied():
    run = Run()
    run.begin()
    run.step()
    saved = run.switch.state_dict()
    before = json.dumps(saved)
    resumed = Run()
    resumed.switch.load_state_dict(saved)
    for _ in range(5):
        resumed.step()
    assert json.dumps(saved) == before, "the run that goes on changes nothing in what it was given"


@pytest.mark.parametrize("projection", ["none", "low-rank"])
@pytest.mark.parametrize("embeddings", [True, False])
def test_embeddings_train_always_or_never(embeddings, projection):
    name = "owlore" if projection == "low-rank" else "lisa"
    chosen = method(name, sampling="uniform", interval_steps=2, train_embeddings=embeddings)
    torch.manual_seed(0)
    model = trainable_model(tiny_llama(), chosen)
    optimizer = build_optimizer(model, chosen)
    assert isinstance(optimizer, LowRankAdamW if projection == "low-rank" else RoundedAdamW)
    layers = models.decoder_layers(model)
    by_hand = LayerSampler(layer_weights("uniform", len(layers)), 1, chosen.law, SEED)
    switch = LayerSwitch(
        layers, LayerSampler(by_hand.weights, 1, chosen.law, SEED), 2, chosen.state
    )
    switch.attach(optimizer)
    progress, ids = TrainerState(), torch.arange(3, 15).view(1, -1)
    awake: list[int] = []
    for step in range(6):
        progress.global_step = step
        switch.on_step_begin(None, progress, TrainerControl())
        awake = by_hand.draw() if step % 2 == 0 else awake
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        model.zero_grad()
        for key, parameter in model.named_parameters():
            inside = key.startswith("model.layers.")
            trains = int(key.split(".")[2]) in awake if inside else embeddings
            assert torch.equal(before[key], parameter) == (not trains), (step, key)
            assert bool(optimizer.state_bytes([parameter])) == trains, (step, key)
