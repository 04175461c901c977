"""The schema and `check` agree on a block, as far as a block can be judged alone."""

import copy
from typing import Any

import jsonschema
import pytest
from support.studies import STUDY

from owlore.core.errors import BadInput
from owlore.study.config import check_study
from owlore.study.method import METHODS, Base
from owlore.study.schema import study_schema

FULL = {"trainable": "all"}
LORA = {"trainable": "lora", "r": 2, "lora_alpha": 4}
LAYERS = {"trainable": "layers", "sampling": "uniform", "gamma": 1, "interval_steps": 2}
LOW_RANK = {"projection": "low-rank", "rank": 4}
OVERRIDE = {"track": "mini", "values": {"max_steps": 2}}
LOCAL = {"provider": "transformers", "model": "base"}
ENDPOINT = {"provider": "openai", "model": "gpt-4", "base_url": "https://judge.invalid/v1"}

GOOD: list[dict[str, Any]] = [
    {"trainable": "none"},
    {"trainable": "none", "learning_rate": None, "gamma": None, "max_steps": 30},
    FULL,
    FULL | LOW_RANK,
    FULL | {"rank": None, "projection": "none", "scale": 1.0},
    FULL | {"gamma": None, "sampling": None, "r": None, "lora_dropout": 0.0, "state": "drop"},
    FULL | {"precision": "bfloat16-master"},
    FULL | {"precision": "float32", "mixed_precision": "bfloat16"},
    FULL | {"precision": "bfloat16", "mixed_precision": "none"},
    FULL | {"overrides": [OVERRIDE]},
    FULL | {"learning_rate": 1e-5, "warmup_steps": 3, "max_length": 8},
    LORA,
    LORA | {"target_modules": ["q_proj"], "init_lora_weights": "pissa", "use_dora": True},
    LORA | {"gamma": None, "rank": None, "projection": "none"},
    LAYERS,
    LAYERS | {"law": "marginal", "state": "offload", "train_embeddings": False},
    LAYERS | LOW_RANK | {"moments": "keep", "side": "left"},
]
BAD: list[dict[str, Any]] = [
    {},
    {"trainable": "most"},
    {"trainable": "none", "gamma": 2},
    {"trainable": "none", "learning_rate": 0.1},
    {"trainable": "none", "projection": "low-rank"},
    {"trainable": "lora", "gamma": 5},
    LORA | {"sampling": "uniform"},
    LORA | {"projection": "low-rank"},
    LORA | {"rank": 4},
    LORA | {"r": None},
    LORA | {"lora_dropout": 1.0},
    FULL | {"gamma": 2},
    FULL | {"state": "keep"},
    FULL | {"train_embeddings": False},
    FULL | {"lora_alpha": 4},
    FULL | {"use_rslora": True},
    FULL | {"projection": "none", "rank": 4},
    FULL | {"projection": "none", "scale": 0.5},
    FULL | {"projection": "low-rank", "rank": None},
    FULL | {"precision": "bfloat16", "mixed_precision": "bfloat16"},
    FULL | {"precision": "int8"},
    FULL | {"learning_rate": None},
    FULL | {"max_steps": 0},
    FULL | {"gama": None},
    FULL | {"overrides": [{"track": "mini"}]},
    FULL | {"overrides": [{"trak": "mini", "values": {"max_steps": 2}}]},
    LAYERS | {"gamma": 2.5},
    LAYERS | {"gamma": None},
    LAYERS | {"sampling": "random"},
    LAYERS | {"r": 2},
]
GOOD_JUDGES: list[dict[str, Any]] = [
    LOCAL,
    LOCAL | {"judgings": 1, "base_url": None, "max_tokens": None},
    ENDPOINT,
    ENDPOINT | {"judgings": 3, "concurrency": 8, "max_requests": None, "api_key_env": "KEY"},
]
BAD_JUDGES: list[dict[str, Any]] = [
    {"model": "base"},
    {"provider": "openai", "model": "gpt-4"},
    {"provider": "azure", "model": "gpt-4"},
    LOCAL | {"judgings": 3},
    LOCAL | {"base_url": "https://judge.invalid/v1"},
    ENDPOINT | {"judgings": 0},
    ENDPOINT | {"api_key_env": "not a variable"},
    ENDPOINT | {"retries": 3},
]
SCHEMA = jsonschema.Draft202012Validator(study_schema())


def verdicts(study: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the schema and `check` accept a study."""
    by_schema = SCHEMA.is_valid(study)
    try:
        check_study(study)
    except BadInput:
        return by_schema, False
    return by_schema, True


def with_method(block: dict[str, Any]) -> dict[str, Any]:
    study = copy.deepcopy(STUDY)
    study["training"] = {"learning_rate": 0.001}  # so that no block lacks what all need
    study["methods"]["full"] = block
    return study


def with_judge(block: dict[str, Any]) -> dict[str, Any]:
    study = copy.deepcopy(STUDY)
    study["tracks"]["mini"]["mtbench"] = {"judge": block}
    return study


@pytest.mark.parametrize("block", GOOD, ids=str)
def test_both_accept_a_good_method(block):
    assert verdicts(with_method(block)) == (True, True)


@pytest.mark.parametrize("block", BAD, ids=str)
def test_both_refuse_a_bad_method(block):
    assert verdicts(with_method(block)) == (False, False)


@pytest.mark.parametrize("block", GOOD_JUDGES, ids=str)
def test_both_accept_a_good_judge(block):
    assert verdicts(with_judge(block)) == (True, True)


@pytest.mark.parametrize("block", BAD_JUDGES, ids=str)
def test_both_refuse_a_bad_judge(block):
    assert verdicts(with_judge(block)) == (False, False)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_both_refuse_every_foreign_key_that_says_something(kind):
    """All of them, not only those that somebody has thought of."""
    block = {"none": {}, "all": {}, "lora": LORA, "layers": LAYERS}[kind.tag_value()]
    other = {"state": "keep", "law": "marginal", "sampling": "uniform", "projection": "low-rank"}
    other |= {"init_lora_weights": "pissa", "target_modules": "q_proj", "precision": "bfloat16"}
    other |= {"too_long": "cut", "lr_scheduler_type": "cosine", "side": "left", "moments": "keep"}
    other |= {"refresh": "svd", "mixed_precision": "bfloat16", "learning_rate": 0.5, "scale": 2.0}
    for key, default in kind.foreign_keys().items():
        value = other.get(key, not default if isinstance(default, bool) else None)
        if value is None:
            value = 0.25 if isinstance(default, float) else 19
        study = with_method({"trainable": kind.tag_value(), **block, key: default})
        if kind is Base:
            assert verdicts(study) == (True, True), key
        study["methods"]["full"][key] = value
        assert verdicts(study) == (False, False), key


def test_a_block_may_leave_out_what_training_supplies():
    study = with_method({"trainable": "layers", "rank": 4})
    study["training"] |= {"gamma": 1, "interval_steps": 2, "sampling": "uniform"}
    study["training"] |= {"projection": "low-rank"}
    study["run"] = ["full"]
    assert verdicts(study) == (True, True)
