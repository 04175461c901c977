"""The training loop: its schedule, what stops it, and that it goes on where it was stopped."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import torch
from support.cells import METHODS, command, method, stopped_at_step, train
from support.small_models import save_tiny, tiny_llama

from owlore.core.errors import TrainingStopped
from owlore.train import loop as training


@pytest.mark.parametrize("name", ["full", "lora", "galore", "lisa", "owlore"])
def test_the_learning_rate_falls_by_the_step_whoever_is_awake(name, inputs, tmp_path):
    """One schedule for all: a layer that wakes up late starts at the rate of that step."""
    train(inputs, tmp_path, method(name, warmup_steps=2))
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    expected = [0.0, 0.005, 0.01, 0.0075, 0.005, 0.0025]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)


def test_a_non_finite_loss_stops_the_run_and_names_the_step(inputs, tmp_path):
    broken = tiny_llama()
    broken.model.layers[2].mlp.down_proj.weight.data[0, 0] = float("nan")
    save_tiny(tmp_path / "model", broken)
    shutil.copy(inputs / "train.jsonl", tmp_path)
    with pytest.raises(TrainingStopped, match=r"the loss is nan at step 1, batch sha256 \w{16}:"):
        train(tmp_path, tmp_path / "out", method("full"))
    with pytest.raises(TrainingStopped):  # in a step whose memory is recorded
        train(tmp_path, tmp_path / "out", method("full", max_steps=1))
    assert not torch.autograd._profiler_enabled()
    assert not (tmp_path / "out" / "finetune.json").exists()


@pytest.mark.parametrize("name", ["full", "galore"])
def test_a_non_finite_gradient_stops_the_run_and_is_named(name, inputs, tmp_path, monkeypatch):
    """Found when clipping, or by the projector in the backward pass; the loss is finite."""
    real_loss = training.answer_loss

    def loss(model, *others):
        weight = model.model.layers[1].mlp.up_proj.weight
        return real_loss(model, *others) + (weight - weight).sum().sqrt()  # slope: infinite

    monkeypatch.setattr(training, "answer_loss", loss)
    stopped = r"gradient of model\.layers\.1\.mlp\.up_proj\.weight .* is not finite at step 1"
    with pytest.raises(TrainingStopped, match=stopped):
        train(inputs, tmp_path, method(name))


@pytest.mark.parametrize("name", METHODS)
def test_stopped_in_mid_interval_it_ends_with_the_same_weights(name, inputs, tmp_path, monkeypatch):
    """Step 5 lies inside an interval, after the checkpoint of step 4, itself in mid-interval."""
    expected = train(inputs, tmp_path / "whole", method(name))
    with stopped_at_step(5, monkeypatch):
        train(inputs, tmp_path / "cut", method(name))
    resumed = train(inputs, tmp_path / "cut", method(name))
    assert resumed["resumed_from_step"] == 4
    same = ("weights_sha256", "tokens", "layer_activations", "switches", "final_loss", "peak_bytes")
    for key in same:
        assert resumed[key] == expected[key], key
    assert resumed["projector_refreshes"] == expected["projector_refreshes"]


def test_killed_at_random_moments_it_ends_with_the_same_weights(inputs, tmp_path):
    """kill -9 wherever it strikes, also while a checkpoint is written."""
    chosen = method("owlore", max_steps=120, interval_steps=5, checkpoint_steps=1)
    expected = train(inputs, tmp_path / "whole", chosen)
    moments, resumed = random.Random(0), set()
    for _ in range(3):
        process = subprocess.Popen(
            command(inputs, tmp_path / "cut", chosen),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        folder, deadline = tmp_path / "cut" / "checkpoints", time.monotonic() + 120
        before = set(folder.glob("checkpoint-*"))
        while not set(folder.glob("checkpoint-*")) - before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        resumed |= {path.name for path in folder.glob("checkpoint-*")}
    assert resumed, "the kills came after at least one checkpoint"
    found = train(inputs, tmp_path / "cut", chosen)
    assert found["resumed_from_step"] > 0
    assert found["weights_sha256"] == expected["weights_sha256"]
    assert found["layer_activations"] == expected["layer_activations"]


def test_a_torn_or_foreign_checkpoint_is_not_used(inputs, tmp_path):
    chosen = method("lisa")
    expected = train(inputs, tmp_path / "whole", chosen)
    torn = tmp_path / "cut" / "checkpoints" / "checkpoint-4"
    torn.mkdir(parents=True)
    (torn / "trainer_state.json").write_text("{}")
    foreign = tmp_path / "cut" / "checkpoints" / "checkpoint-2"
    foreign.mkdir()
    (foreign / training.STATE_FILE).write_text('{"fingerprint": {"seed": 9}}')
    found = train(inputs, tmp_path / "cut", chosen)
    assert found["resumed_from_step"] is None
    assert found["weights_sha256"] == expected["weights_sha256"]
