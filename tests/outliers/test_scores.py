"""Outlier scores against the literal formula, on several architectures."""

import json

import numpy as np
import pytest
import torch
from support.small_models import save_tiny, tiny_gpt2, tiny_llama, tiny_tokenizer
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from owlore.core.errors import BadInput
from owlore.outliers import calibration, stage
from owlore.outliers import scores as outliers
from owlore.outliers.calibration import input_square_sums, offloaded
from owlore.outliers.scores import score_layer
from owlore.outliers.spectra import heavy_tail_exponent
from owlore.outliers.stage import layer_weights_of
from owlore.records.outliers import OutliersJob
from owlore.sources.models import decoder_layers, linear_modules
from owlore.study.config import Calibration


def small(config_class, model_class):
    config = config_class(
        vocab_size=272,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    return model_class(config).eval()


MODELS = {
    "llama": lambda: tiny_llama(layers=3),
    "mistral": lambda: small(MistralConfig, MistralForCausalLM),
    "qwen2": lambda: small(Qwen2Config, Qwen2ForCausalLM),
    "gpt2": tiny_gpt2,
}
THRESHOLDS = [1.5, 3.0, 5.0]


@pytest.fixture
def windows():
    return torch.randint(3, 270, (6, 20), generator=torch.Generator().manual_seed(4))


def literal_ratios(model, windows):
    """A = ‖X_j‖₂ |W_ij| of all linear maps of a layer concatenated, one threshold M · mean."""
    layers, inputs = decoder_layers(model), {}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, key=(index, name): inputs.setdefault(key, []).append(args[0])
        )
        for index, layer in enumerate(layers)
        for name, module in linear_modules(layer).items()
    ]
    with torch.no_grad():
        for window in windows:
            model(window[None])
    for handle in handles:
        handle.remove()
    rows = []
    for index, layer in enumerate(layers):
        scores = []
        for name, module in linear_modules(layer).items():
            seen = torch.cat([x.flatten(0, -2) for x in inputs[index, name]]).double()
            weight = module.weight.detach().double()
            weight = weight.T if type(module).__name__ == "Conv1D" else weight
            scores.append((weight.abs() * seen.norm(dim=0)).flatten())
        every = torch.cat(scores)
        bars = [m * every.mean() for m in THRESHOLDS]
        # Float32 sums are off by some 1e-7 of themselves, as the CPU adds them up: no entry may lie
        # so near to a threshold that this decides which side it is on. Then counts are exact.
        assert min(((every - bar).abs() / bar).min() for bar in bars) > 5e-6
        rows.append([float((every > bar).double().mean()) for bar in bars])
    return rows


def our_ratios(model, windows, batch_size=4):
    squares = input_square_sums(model, windows, batch_size)
    return [
        score_layer(layer_weights_of(layer), sums, THRESHOLDS, 3.0).ratios
        for layer, sums in zip(decoder_layers(model), squares, strict=True)
    ]


@pytest.mark.arithmetic
@pytest.mark.parametrize("architecture", MODELS)
def test_equal_to_the_literal_formula(architecture, windows):
    model = MODELS[architecture]()
    expected = literal_ratios(model, windows)
    assert any(row[0] > 0 for row in expected), "the test needs outliers to count"
    for ours, literal in zip(our_ratios(model, windows), expected, strict=True):
        assert ours == pytest.approx(literal, abs=1e-6)


@pytest.mark.arithmetic
def test_independent_of_the_batch_size(windows):
    model = tiny_llama()
    literal_ratios(model, windows)  # says whether an entry lies at a threshold
    assert our_ratios(model, windows, 1) == our_ratios(model, windows, 6)


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


def random_squares(weights, groups=4):
    torch.manual_seed(0)
    return {name: torch.rand(groups, weight.shape[1]) for name, weight in weights.items()}


def test_scaling_the_inputs_changes_nothing():
    weights = layer_weights_of(decoder_layers(tiny_llama())[0])
    squares = random_squares(weights)
    scaled = {name: 64 * value for name, value in squares.items()}
    found = score_layer(weights, squares, THRESHOLDS, 3.0)
    assert found == score_layer(weights, scaled, THRESHOLDS, 3.0)
    assert sum(found.projections.values()) > 0


def test_the_interval_is_that_of_scoring_each_resample_anew():
    """The shortcut (only entries that may be outliers are looked at again) changes no count."""
    weights = layer_weights_of(decoder_layers(tiny_llama())[0])
    squares = random_squares(weights)
    found = score_layer(weights, squares, THRESHOLDS, 3.0, seed=5)
    generator = torch.Generator().manual_seed(5)
    drawn = torch.randint(4, (outliers.RESAMPLES, 4), generator=generator)
    ratios = [
        score_layer(weights, {n: s[groups] for n, s in squares.items()}, [3.0], 3.0).ratios[0]
        for groups in drawn
    ]
    expected = np.quantile(ratios, [0.025, 0.975])
    assert found.interval == pytest.approx(expected, abs=1e-6)
    low, high = found.interval
    assert low < high and low - 1e-6 <= found.ratios[1] <= high


def test_one_sample_has_no_spread():
    weights = layer_weights_of(decoder_layers(tiny_llama())[0])
    found = score_layer(weights, random_squares(weights, groups=1), THRESHOLDS, 3.0)
    assert found.interval == (found.ratios[1], found.ratios[1])


def test_samples_are_summed_in_groups_of_neighbours(monkeypatch, windows):
    model = tiny_llama()
    apart = input_square_sums(model, windows)[1]["mlp.down_proj"]
    monkeypatch.setattr(calibration, "GROUPS", 2)
    grouped = input_square_sums(model, windows)[1]["mlp.down_proj"]
    assert apart.shape == (6, 64) and grouped.shape == (2, 64)
    assert torch.allclose(grouped, torch.stack([apart[:3].sum(0), apart[3:].sum(0)]), rtol=1e-5)


def test_weights_are_read_in_blocks(monkeypatch, windows):
    model = tiny_llama()
    whole = our_ratios(model, windows)
    monkeypatch.setattr(outliers, "BLOCK", 100)
    assert our_ratios(model, windows) == whole


def test_maps_that_read_the_same_input_share_one_sum(windows):
    sums = input_square_sums(tiny_llama(), windows)[0]
    assert sums["self_attn.q_proj"] is sums["self_attn.v_proj"]
    assert sums["mlp.gate_proj"] is sums["mlp.up_proj"]
    assert sums["mlp.down_proj"] is not sums["mlp.up_proj"]


def test_the_file_holds_what_the_workflow_counts_on(tmp_path):
    save_tiny(tmp_path / "model")
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": f"the water in a well {i}"}) for i in range(40)))
    cut = Calibration(samples=4, seqlen=16, threshold=3.0, thresholds=[2, 5])
    job = OutliersJob(model="toy", calibration=cut)
    stage.run(job, tmp_path / "model", text, tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    ratios = [layer["outlier_ratio"] for layer in found["layers"]]
    assert [layer["index"] for layer in found["layers"]] == [0, 1, 2, 3]
    assert sum(layer["sampling_probability"] for layer in found["layers"]) == pytest.approx(1)
    assert found["by_threshold"]["3"] == ratios
    assert set(found["by_threshold"]) == {"2", "3", "5"}
    for layer in found["layers"]:
        assert layer["outlier_percent"] == pytest.approx(100 * layer["outlier_ratio"])
        assert len(layer["projections"]) == 7
        low, high = layer["outlier_ratio_interval"]
        assert 0 <= low <= high


def test_text_that_is_too_short_says_how_much_is_needed(tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "short"}\n')
    with pytest.raises(BadInput, match=r"calibration\.samples: 8 windows of 64 tokens need 512"):
        calibration.calibration_windows(text, tiny_tokenizer(), 8, 64, 0)


def test_heavier_tails_have_smaller_exponents():
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(64, 64, generator=generator)).Q
    ranks = torch.arange(1, 65.0)
    heavy = q @ torch.diag(ranks**-1.0)  # eigenvalues ~ rank^-2: density exponent 1 + 1/2
    light = q @ torch.diag(ranks**-0.25)  # eigenvalues ~ rank^-1/2: density exponent 1 + 2
    assert heavy_tail_exponent(heavy) == pytest.approx(1.5, abs=0.1)
    assert heavy_tail_exponent(light) == pytest.approx(3.0, abs=0.3)
    assert heavy_tail_exponent(torch.eye(8)) == float("inf")
