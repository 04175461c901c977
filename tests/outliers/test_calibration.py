"""Calibration: windows of text, and the sums of squares that the linear maps read."""

import pytest
import torch
from support.small_models import tiny_gpt2, tiny_llama, tiny_tokenizer

from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import read_jsonl, write_jsonl
from owlore.outliers import calibration
from owlore.outliers.calibration import calibration_windows, input_square_sums, offloaded


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_a_model_whose_weights_come_and_go_has_the_same_sums(make, windows):
    """As on a GPU that holds a map at a time; here the device is the CPU once more."""
    model = make()
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    expected = input_square_sums(model, windows)
    with offloaded(model, "cpu"):
        assert {weight.device.type for weight in model.parameters()} == {"meta"}
        found = input_square_sums(model, windows)
    for layer, sums in enumerate(expected):
        for name, value in sums.items():
            assert torch.equal(found[layer][name], value), (layer, name)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_samples_are_summed_in_groups_of_neighbours(monkeypatch, windows):
    model = tiny_llama()
    apart = input_square_sums(model, windows)[1]["mlp.down_proj"]
    monkeypatch.setattr(calibration, "GROUPS", 2)
    grouped = input_square_sums(model, windows)[1]["mlp.down_proj"]
    assert apart.shape == (6, 64) and grouped.shape == (2, 64)
    assert torch.allclose(grouped, torch.stack([apart[:3].sum(0), apart[3:].sum(0)]), rtol=1e-5)


def test_maps_that_read_the_same_input_share_one_sum(windows):
    sums = input_square_sums(tiny_llama(), windows)[0]
    assert sums["self_attn.q_proj"] is sums["self_attn.v_proj"]
    assert sums["mlp.gate_proj"] is sums["mlp.up_proj"]
    assert sums["mlp.down_proj"] is not sums["mlp.up_proj"]


def test_text_that_is_too_short_says_how_much_is_needed(tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "short"}\n')
    with pytest.raises(BadInput, match=r"calibration\.samples: 8 windows of 64 tokens need 512"):
        calibration.calibration_windows(text, tiny_tokenizer(), 8, 64, 0)


@pytest.fixture
def text(tmp_path):
    rows = [{"text": f"the owl {number} went into the winter"} for number in range(20)]
    write_jsonl(tmp_path / "text.jsonl", rows)
    return tmp_path / "text.jsonl"


def test_windows_are_running_text_in_an_order_of_the_seed(text):
    tokenizer = tiny_tokenizer()
    found = calibration_windows(text, tokenizer, 6, 16, seed=0)
    assert found.shape == (6, 16) and found.dtype == torch.int64
    running = tokenizer.decode(found.flatten())
    whole, *_ = running.rsplit("\n\n", 1)  # the last window may end inside a row
    rows = [row["text"] for row in read_jsonl(text)]
    assert set(whole.split("\n\n")) <= set(rows)
    assert whole.split("\n\n") != rows[: len(whole.split("\n\n"))], "shuffled"
    assert torch.equal(found, calibration_windows(text, tokenizer, 6, 16, seed=0))
    assert not torch.equal(found, calibration_windows(text, tokenizer, 6, 16, seed=1))
    assert torch.equal(found[:3], calibration_windows(text, tokenizer, 3, 16, seed=0))


def test_a_row_without_text_is_refused(text):
    write_jsonl(text, [{"text": "the owl"}, {"txet": "the winter"}])
    with pytest.raises(BadInput, match=r"text\.jsonl: every row needs a text column"):
        calibration_windows(text, tiny_tokenizer(), 1, 2, 0)


def test_an_activation_that_is_not_finite_is_named(windows):
    model = tiny_llama()
    model.model.layers[1].mlp.up_proj.weight.data.fill_(float("inf"))
    with pytest.raises(OwloreError, match=r"layer 1, mlp\.down_proj: an activation is not finite"):
        input_square_sums(model, windows)
    for layer in model.model.layers:
        assert not layer.mlp.down_proj._forward_pre_hooks, "the hooks are off all the same"
