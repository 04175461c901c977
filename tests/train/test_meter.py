"""What the meter counts, against counts made by hand from shapes and lengths."""

import pytest
import torch
from support.cells import method
from support.small_models import tiny_llama
from torch import nn
from transformers import TrainerControl, TrainerState

from owlore.data.examples import Example, TrainingOrder, flat_batch
from owlore.sources import models
from owlore.train.loss import answer_loss
from owlore.train.meter import MEASURED, Measuring, Meter
from owlore.train.methods import build_optimizer, trainable_model
from owlore.train.sampling import LayerSampler, layer_weights
from owlore.train.switching import LayerSwitch

LENGTHS = [5, 9, 7, 4, 12, 6, 8, 3]
STEPS, SIZE, ACCUMULATION = 4, 2, 2  # examples a step: 4, so that each comes twice
RANK, GAP = 4, 2


class Run:
    """Steps of a method that are measured, without a Trainer."""

    def __init__(self, name: str, **changes):
        self.method = method(
            name,
            max_steps=STEPS,
            per_device_train_batch_size=SIZE,
            gradient_accumulation_steps=ACCUMULATION,
            **changes,
        )
        examples = [Example([5] * length, [5] * length) for length in LENGTHS]
        self.order = TrainingOrder(examples, STEPS * SIZE * ACCUMULATION, seed=0)
        torch.manual_seed(0)
        self.model = trainable_model(tiny_llama(), self.method)
        self.optimizer = build_optimizer(self.model, self.method)
        self.switch = None
        if self.method.trainable == "layers":
            layers = models.decoder_layers(self.model)
            sampler = LayerSampler(layer_weights("uniform", len(layers)), 1, seed=1)
            self.switch = LayerSwitch(layers, sampler, 2, self.method.state)
            self.switch.attach(self.optimizer)
        self.meter = Meter()
        self.measuring = Measuring(
            self.meter,
            self.model,
            self.order,
            self.method,
            self.switch,
            lambda: self.optimizer,
            "cpu",
        )
        self.progress = TrainerState()
        self.progress.max_steps = STEPS

    def train(self, steps: range = range(STEPS)) -> list[dict]:
        """Call the meter as the Trainer does; return the rows of the log."""
        told = (None, self.progress, TrainerControl())
        self.measuring.on_train_begin(*told)
        for step in steps:
            self.progress.global_step = step
            if self.switch is not None:
                self.switch.on_step_begin(*told)
            self.measuring.on_step_begin(*told)
            for part in range(ACCUMULATION):
                first = (step * ACCUMULATION + part) * SIZE
                batch = flat_batch([self.order[i] for i in range(first, first + SIZE)])
                with self.meter.activations(self.model):
                    loss = answer_loss(self.model, batch, None)
                loss.backward()
            self.measuring.on_pre_optimizer_step(*told)
            self.optimizer.step()
            self.model.zero_grad()
            self.progress.global_step = step + 1
            self.measuring.on_step_end(*told)
            self.progress.log_history.append({"loss": 1.0})
            self.measuring.on_log(*told)
        self.measuring.on_train_end(*told)
        return self.progress.log_history

    def shapes(self, inside: bool) -> list[torch.Size]:
        """Of the parameters inside the decoder layers, or of the others; tied ones once."""
        named = self.model.named_parameters()
        return [p.shape for name, p in named if (".layers." in name) == inside]


def entries(shapes: list[torch.Size]) -> int:
    return sum(shape.numel() for shape in shapes)


def projected(shape: torch.Size) -> bool:
    return len(shape) == 2 and min(shape) > RANK


def projection(shape: torch.Size) -> int:
    """Entries of a matrix's projection: the smaller side shrinks to the rank."""
    return RANK * max(shape)


def low_rank_entries(shapes: list[torch.Size]) -> tuple[int, int]:
    """Entries of gradients and of optimizer state (basis, two moments, a step count)."""
    gradients = state = 0
    for shape in shapes:
        gradients += projection(shape) if projected(shape) else shape.numel()
        moments = 2 * (projection(shape) if projected(shape) else shape.numel())
        state += moments + 1 + (RANK * min(shape) if projected(shape) else 0)
    return gradients, state


def test_bytes_of_full_fine_tuning():
    run = Run("full")
    run.train()
    inside, outside = run.shapes(inside=True), run.shapes(inside=False)
    weights = entries(inside + outside)
    assert run.meter.trained_parameters == weights
    found = run.meter.bytes
    assert found["weights"] == found["gradients"] == 4 * weights
    assert found["optimizer"] == 4 * (2 * weights + len(inside + outside))
    assert found["decoder"] == 4 * (2 * entries(inside) + len(inside))


def test_bytes_of_projected_gradients_and_their_state():
    run = Run("galore", rank=RANK, update_proj_gap=GAP)
    run.train()
    inside, outside = run.shapes(inside=True), run.shapes(inside=False)
    gradients, state = low_rank_entries(inside)
    rest = entries(outside)
    assert run.meter.bytes["gradients"] == 4 * (gradients + rest)
    assert run.meter.bytes["decoder"] == 4 * state
    assert run.meter.bytes["optimizer"] == 4 * (state + 2 * rest + len(outside))


def test_bytes_of_a_layer_that_is_awake():
    run = Run("lisa", sampling="uniform")
    rows = run.train()
    layer = run.shapes(inside=True)[: len(run.shapes(inside=True)) // 4]
    outside = run.shapes(inside=False)
    trained = entries(layer) + entries(outside)
    assert run.meter.trained_parameters == trained
    assert run.meter.bytes["weights"] == 4 * (4 * entries(layer) + entries(outside))
    assert run.meter.bytes["gradients"] == 4 * trained
    assert run.meter.bytes["decoder"] == 4 * (2 * entries(layer) + len(layer))
    state = 4 * (2 * trained + len(layer) + len(outside))
    assert [row["optimizer_bytes"] for row in rows] == [state] * STEPS


def test_tokens_are_those_of_the_examples_that_came():
    run = Run("full")
    rows = run.train()
    counted, expected = 0, []
    for step in range(STEPS):
        for place in range(step * 4, step * 4 + 4):
            counted += len(run.order[place].input_ids)
        expected.append(counted)
    assert [row["tokens"] for row in rows] == expected
    assert run.meter.tokens == 2 * sum(LENGTHS), "two epochs of all"
    assert all(row["active_layers"] is None for row in rows)


def test_the_log_says_who_was_awake():
    run = Run("lisa", sampling="uniform")
    rows = run.train()
    by_hand = LayerSampler(layer_weights("uniform", 4), 1, seed=1)
    draws = [by_hand.draw(), by_hand.draw()]
    assert [row["active_layers"] for row in rows] == [draws[0]] * 2 + [draws[1]] * 2


def test_refreshes_are_counted_once():
    run = Run("galore", rank=RANK, update_proj_gap=GAP)
    run.train()
    matrices = sum(projected(shape) for shape in run.shapes(inside=True))
    assert matrices == 7 * 4
    assert run.meter.projector["refreshes"] == matrices * STEPS // GAP
    assert 0 < run.meter.projector["seconds"] < run.meter.seconds
    assert run.optimizer.take_statistics().projector_refreshes == 0, "they were handed over"


def test_seconds_are_those_from_begin_to_end_of_each_step(monkeypatch):
    clock = iter(range(0, 1000, 3))  # each look at the clock comes three seconds after the last
    monkeypatch.setattr("owlore.train.meter.time.perf_counter", lambda: next(clock))
    rows = Run("full").train()
    assert [row["seconds"] for row in rows] == [3, 6, 9, 12]
    first = sum(len(Run("full").order[place].input_ids) for place in range(4))
    assert rows[0]["tokens_per_second"] == round(first / 3, 2)


def test_activations_are_what_the_forward_pass_keeps_but_weights():
    first, second = nn.Linear(4, 8), nn.Linear(8, 2)
    model = nn.Sequential(first, nn.Tanh(), second)
    meter = Meter()
    with meter.activations(model):
        model(torch.ones(5, 4)).sum().backward()
    # Kept are the input, and the output of tanh, which the layer after it shares.
    assert meter.bytes["activations"] == 4 * (5 * 4 + 5 * 8)
    with meter.activations(model):
        model(torch.ones(2, 4)).sum().backward()
    assert meter.bytes["activations"] == 4 * (5 * 4 + 5 * 8), "the highest counts"
    first.requires_grad_(False)
    meter = Meter()
    with meter.activations(model):
        model(torch.ones(5, 4)).sum().backward()
    assert meter.bytes["activations"] == 4 * 5 * 8, "below what trains nothing is kept"


def test_the_highest_of_each_kind_is_kept():
    meter = Meter()
    for count in (3, 7, 5):
        meter.highest("gradients", count)
    assert meter.bytes == dict.fromkeys(MEASURED, 0) | {"gradients": 7}


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_meter_adds_up(stop):
    whole, cut, resumed = (Run("galore", rank=RANK, update_proj_gap=GAP) for _ in range(3))
    whole.train()
    cut.train(range(stop))
    saved = {**vars(cut.meter), "bytes": dict(cut.meter.bytes)}
    resumed.meter.load_state_dict(saved)
    resumed.train(range(stop, STEPS))
    assert resumed.meter.tokens == whole.meter.tokens
    assert resumed.meter.seconds > cut.meter.seconds > 0
    for kind in ("weights", "gradients", "optimizer", "decoder", "activations"):
        assert resumed.meter.bytes[kind] == whole.meter.bytes[kind], kind
