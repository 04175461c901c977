"""Whether methods fit a model, before data and training."""

import importlib.util

import pytest
from support.cells import method
from support.studies import STUDY, changed

from owlore.core.errors import BadInput
from owlore.core.files import write_json
from owlore.study.config import check_study
from owlore.study.fit import check_cells, check_method, check_models

SHAPE = {"decoder_layers": 4, "hidden_size": 32, "max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("name", "fits", "too_large", "message"),
    [
        ("lisa", {"gamma": 4}, {"gamma": 5}, "m.gamma: 5: the model has 4 decoder layers"),
        ("galore", {"rank": 32}, {"rank": 33}, "m.rank: 33: at most the model's hidden size, 32"),
        ("lora", {"r": 32}, {"r": 33}, "m.r: 33: at most the model's hidden size, 32"),
        ("full", {"max_length": 64}, {"max_length": 65}, "m.max_length: 65: the model's window"),
    ],
)
def test_the_largest_that_fits_and_the_next(name, fits, too_large, message):
    check_method(SHAPE, method(name, **fits), "m")
    with pytest.raises(BadInput) as caught:
        check_method(SHAPE, method(name, **too_large), "m")
    assert str(caught.value).startswith(message)


def test_a_model_without_a_window_takes_any_length():
    check_method({**SHAPE, "max_position_embeddings": None}, method("full", max_length=9999), "m")


def test_a_precision_whose_package_is_missing_is_refused(monkeypatch):
    lean = method("full", precision="bfloat16-lean")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    check_method(SHAPE, lean, "m")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"m\.precision: bfloat16-lean needs torchao: pip install"):
        check_method(SHAPE, lean, "m")
    check_method(SHAPE, method("full", precision="bfloat16-master"), "m")


def test_models_that_are_there_are_checked_with_their_overrides(tmp_path):
    """Only the second model is built, and only there an override makes the rank too large."""
    study = changed("models.small", {"path": "elsewhere"}, changed("training.max_length", 64))
    study = changed("methods.owlore.overrides", [{"model": "small", "values": {"rank": 40}}], study)
    check_models(check_study(study), tmp_path)
    write_json(tmp_path / "models" / "toy" / "model.json", SHAPE)
    check_models(check_study(study), tmp_path)
    write_json(tmp_path / "models" / "small" / "model.json", SHAPE)
    with pytest.raises(BadInput, match=r"methods\.owlore\.rank: 40"):
        check_models(check_study(study), tmp_path)
    check_cells(check_study(study), "toy", SHAPE)


def test_the_base_model_needs_no_length():
    study = check_study({**STUDY, "run": ["base"], "training": {}})
    check_cells(study, "toy", SHAPE)
