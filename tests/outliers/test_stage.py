"""`owlore outliers`: the file of scores."""

import json

import pytest
from support.small_models import save_tiny

from owlore.outliers import stage
from owlore.records.outliers import OutliersJob
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
