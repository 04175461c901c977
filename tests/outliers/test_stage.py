"""`owlore outliers`: the file of scores."""

import json

import pytest
import torch
from support.small_models import save_tiny, tiny_gpt2, tiny_llama

from owlore.outliers import stage
from owlore.outliers.stage import layer_weights_of
from owlore.records.outliers import OutliersJob
from owlore.sources.models import decoder_layers, linear_modules
from owlore.study.config import Calibration


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


@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
def test_scores_of_zero_draw_every_layer_alike(tmp_path):
    """No entry is a thousand times the mean: a draw by these scores must still be possible."""
    save_tiny(tmp_path / "model")
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "the water in a well " * 20}))
    cut = Calibration(samples=2, seqlen=16, threshold=1000.0, thresholds=[])
    job = OutliersJob(model="toy", calibration=cut)
    stage.run(job, tmp_path / "model", tmp_path / "text.jsonl", tmp_path / "out.json")
    layers = json.loads((tmp_path / "out.json").read_text())["layers"]
    assert [layer["outlier_ratio"] for layer in layers] == [0.0] * 4
    assert [layer["sampling_probability"] for layer in layers] == [0.25] * 4


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_weights_are_out_by_in_whatever_stores_them(make):
    """Oracle: what the map does to an input."""
    layer = decoder_layers(make())[0]
    weights = layer_weights_of(layer)
    for name, module in linear_modules(layer).items():
        inputs = torch.randn(3, weights[name].shape[1])
        bias = 0 if module.bias is None else module.bias
        torch.testing.assert_close(module(inputs), inputs @ weights[name].T + bias)
