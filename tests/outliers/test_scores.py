"""Outlier scores against the literal formula, on several architectures."""

import numpy as np
import pytest
import torch
from support.small_models import tiny_gpt2, tiny_llama
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from owlore.outliers import scores as outliers
from owlore.outliers.calibration import input_square_sums
from owlore.outliers.scores import score_layer
from owlore.outliers.stage import layer_weights_of
from owlore.sources.models import decoder_layers, linear_modules


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


def test_weights_are_read_in_blocks(monkeypatch, windows):
    model = tiny_llama()
    whole = our_ratios(model, windows)
    monkeypatch.setattr(outliers, "BLOCK", 100)
    assert our_ratios(model, windows) == whole
