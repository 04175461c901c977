"""Calibration: windows of text, and the sums of squares that the linear maps read."""

import pytest
import torch
from support.small_models import tiny_gpt2, tiny_llama, tiny_tokenizer

from owlore.core.errors import BadInput
from owlore.outliers import calibration
from owlore.outliers.calibration import input_square_sums, offloaded


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
