"""Training on a toy: what moves and what does not, and memory of sleeping layers."""

import json

import pytest
import torch
from support.cells import METHODS, method, train, weights

from owlore.core.errors import BadInput
from owlore.data import examples as data
from owlore.train import meter


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_weights_and_the_loss_falls(name, inputs, tmp_path):
    first = train(inputs, tmp_path / "a", method(name))
    second = train(inputs, tmp_path / "b", method(name))
    other = train(inputs, tmp_path / "c", method(name), seed=1)
    assert first["weights_sha256"] == second["weights_sha256"]
    assert first["weights_sha256"] != other["weights_sha256"] or name in ("full", "galore")
    assert first["final_loss"] < first["first_loss"]
    assert first["steps"] == 6 and first["tokens"] == second["tokens"] > 0
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_only_sampled_layers_move(inputs, tmp_path):
    result = train(inputs, tmp_path, method("lisa"))
    before, after = weights(inputs / "model"), weights(tmp_path / "model")
    assert sum(result["layer_activations"]) == 6 and result["switches"] == 2
    for layer, steps in enumerate(result["layer_activations"]):
        for key in before:
            if key.startswith(f"model.layers.{layer}."):
                assert torch.equal(before[key], after[key]) == (steps == 0), key
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def test_frozen_embeddings_stay(inputs, tmp_path):
    train(inputs, tmp_path, method("frozen-embeddings"))
    before, after = weights(inputs / "model"), weights(tmp_path / "model")
    for key in ("model.embed_tokens.weight", "model.norm.weight"):
        assert torch.equal(before[key], after[key])


def test_history_says_which_layers_were_awake(inputs, tmp_path):
    result = train(inputs, tmp_path, method("owlore"))
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    counted = [0] * 4
    for row in rows:
        for layer in row["active_layers"]:
            counted[layer] += 1
    assert counted == result["layer_activations"]
    assert rows[0]["active_layers"] == rows[2]["active_layers"], "an interval keeps its layers"
    assert rows[-1]["tokens"] == result["tokens"]


def test_memory_is_told_by_kind(inputs, tmp_path):
    full = train(inputs, tmp_path / "full", method("full"))["memory_bytes"]
    owlore = train(inputs, tmp_path / "owlore", method("owlore"))["memory_bytes"]
    assert set(full) == {"weights", "gradients", "optimizer", "activations"}
    assert full["gradients"] == full["weights"] and full["optimizer"] > 2 * full["weights"]
    assert owlore["weights"] == full["weights"]
    for kind in ("gradients", "optimizer", "activations"):
        assert 0 < owlore[kind] < full[kind], kind


@pytest.mark.parametrize("name", METHODS)
def test_recording_memory_changes_no_weight(name, inputs, tmp_path, monkeypatch):
    found = {}
    for steps in ((), range(6)):
        monkeypatch.setattr(meter, "recorded_steps", lambda *_, steps=steps: set(steps))
        found[len(steps)] = train(inputs, tmp_path / str(len(steps)), method(name))
    assert found[0]["weights_sha256"] == found[6]["weights_sha256"]
    assert found[0]["final_loss"] == found[6]["final_loss"]
    assert found[0]["peak_bytes"] == 0 < found[6]["peak_bytes"]


def test_memory_is_recorded_at_the_largest_micro_batch_of_each_draw():
    lengths = [9, 9, 2, 3, 4, 5, 1, 1, 8, 1, 2, 2, 7, 1]
    examples = [data.Example([1] * n, [1] * n) for n in lengths]
    order = data.TrainingOrder(examples, 14, seed=0)
    changes = {"max_steps": 7, "per_device_train_batch_size": 2}
    assert meter.recorded_steps(order, method("full", **changes)) == {0, 2}
    assert meter.recorded_steps(order, method("lisa", **changes)) == {0, 2, 4, 6}
    changes |= {"padding_free": False}
    assert meter.recorded_steps(order, method("full", **changes)) == {0, 4}
    changes |= {"max_steps": 1}
    assert meter.recorded_steps(order, method("full", **changes)) == {0}
    changes = {"max_steps": 500, "per_device_train_batch_size": 2, "interval_steps": 1}
    order = data.TrainingOrder(examples, 1000, seed=0)
    found = meter.recorded_steps(order, method("lisa", **changes))
    assert len(found) == 64 and 0 in found


def test_dropped_state_stays_flat_and_kept_state_grows(inputs, tmp_path):
    drop = {"interval_steps": 1, "max_steps": 12, "checkpoint_steps": 50}
    dropped = train(inputs, tmp_path / "drop", method("lisa", **drop))
    kept = train(inputs, tmp_path / "keep", method("lisa", **drop, state="keep"))
    assert dropped["switches"] == kept["switches"] == 12
    awake_at_all = sum(steps > 0 for steps in kept["layer_activations"])
    assert awake_at_all > 1
    assert kept["decoder_optimizer_bytes"] == awake_at_all * dropped["decoder_optimizer_bytes"]
    sizes = {
        json.loads(line)["optimizer_bytes"]
        for line in (tmp_path / "drop" / "history.jsonl").read_text().splitlines()
    }
    assert len(sizes) == 1


@pytest.mark.arithmetic
def test_all_layers_without_projection_equals_full_finetuning(inputs, tmp_path):
    train(inputs, tmp_path / "full", method("full"))
    train(inputs, tmp_path / "all", method("lisa", gamma=4))
    full, layered = weights(tmp_path / "full" / "model"), weights(tmp_path / "all" / "model")
    for key in full:
        assert torch.allclose(full[key], layered[key], atol=1e-6), key


@pytest.mark.arithmetic
def test_padding_free_batches_train_like_padded_ones(inputs, tmp_path):
    flat = train(inputs, tmp_path / "flat", method("full"))
    padded = train(inputs, tmp_path / "padded", method("full", padding_free=False))
    assert flat["first_loss"] == pytest.approx(padded["first_loss"], abs=1e-5)
    assert flat["final_loss"] == pytest.approx(padded["final_loss"], abs=1e-3)


@pytest.mark.arithmetic
def test_accumulated_micro_batches_equal_one_batch(inputs, tmp_path):
    one = train(inputs, tmp_path / "one", method("full"))
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    two = train(inputs, tmp_path / "two", method("full", **split))
    assert one["first_loss"] == pytest.approx(two["first_loss"], abs=1e-5)
    assert one["final_loss"] == pytest.approx(two["final_loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 5}, r"method\.gamma: 5: the model has 4 decoder layers"),
        ({"max_length": 1000}, r"method\.max_length: 1000: the model's window is 512"),
    ],
)
def test_methods_that_do_not_fit_the_model(changes, message, inputs, tmp_path):
    with pytest.raises(BadInput, match=message):
        train(inputs, tmp_path, method("lisa", **changes))
    with pytest.raises(BadInput, match=r"method\.rank: 33: at most the model's hidden size, 32"):
        train(inputs, tmp_path, method("galore", rank=33))
    assert not list(tmp_path.iterdir()), "bad input makes no file"
