"""Methods as a union: each kind has its own keys; recorded blocks of all keys stay valid."""

import json
from typing import Any

import pytest
from support.studies import changed

from owlore.core.errors import BadInput
from owlore.core.files import canonical_json
from owlore.study.config import check_study
from owlore.study.method import METHODS, Base, Full, Layers, Lora, parse_method

# A block as results recorded it while all methods were one flat class: every key, by hand.
FLAT: dict[str, Any] = {
    **{"trainable": "all", "sampling": None, "law": "successive", "gamma": None},
    **{"interval_steps": None, "train_embeddings": True, "state": "drop", "projection": "none"},
    **{"rank": None, "update_proj_gap": 200, "scale": 1.0, "side": "std", "refresh": "subspace"},
    **{"moments": "reset", "r": None, "lora_alpha": None, "lora_dropout": 0.0},
    **{"target_modules": "all-linear", "use_rslora": False, "use_dora": False},
    **{"init_lora_weights": True, "learning_rate": None, "max_steps": 30},
    **{"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "max_length": 512},
    **{"too_long": "error", "padding_free": False, "lr_scheduler_type": "linear"},
    **{"warmup_steps": 0, "weight_decay": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.999},
    **{"adam_epsilon": 1e-08, "max_grad_norm": 1.0, "gradient_checkpointing": False},
    **{"precision": "float32", "mixed_precision": "none", "checkpoint_steps": 10},
}
NEEDED: dict[str, dict[str, Any]] = {
    "none": {},
    "all": {"learning_rate": 0.01},
    "lora": {"learning_rate": 0.01, "r": 2, "lora_alpha": 4},
    "layers": {"learning_rate": 0.01, "sampling": "outlier", "gamma": 2, "interval_steps": 5},
}


@pytest.mark.parametrize("kind", NEEDED)
def test_a_block_with_every_key_at_its_default_is_the_short_block(kind):
    short = {"trainable": kind, **NEEDED[kind]}
    assert parse_method({**FLAT, **short}) == parse_method(short)


@pytest.mark.parametrize("kind", NEEDED)
def test_what_is_recorded_is_read_back_with_defaults_or_without(kind):
    method = parse_method({"trainable": kind, **NEEDED[kind]})
    for exclude in (False, True):
        recorded = json.loads(canonical_json(method.model_dump(exclude_defaults=exclude)))
        assert recorded["trainable"] == kind
        assert parse_method(recorded) == method
    short = method.model_dump(mode="json", exclude_defaults=True)
    assert short == {"trainable": kind, **NEEDED[kind]}


def test_the_kinds_together_have_exactly_the_keys_of_the_flat_block():
    assert {key for kind in METHODS for key in kind.model_fields} == {*FLAT, "overrides"}


@pytest.mark.parametrize("kind", NEEDED)
@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("gamma", 5, ["layers"]),
        ("state", "keep", ["layers"]),
        ("use_dora", True, ["lora"]),
        ("projection", "low-rank", ["all", "layers"]),
        ("warmup_steps", 1, ["all", "lora", "layers"]),
    ],
)
def test_another_kinds_key_is_refused_at_another_value(kind, key, value, allowed):
    block = {"trainable": kind, **NEEDED[kind], "rank": 2 if key == "projection" else None}
    if kind in allowed:
        assert getattr(parse_method(block | {key: value}), key) == value
        return
    with pytest.raises(BadInput) as refused:
        parse_method(block | {key: value})
    shown = f"{key}: {value}" if key == "projection" else key
    assert str(refused.value) == (
        f"method: {shown} is only allowed with trainable: {', '.join(allowed)}"
    )


@pytest.mark.parametrize("kind", NEEDED)
def test_each_needed_key_is_asked_for_by_name(kind):
    for key in NEEDED[kind]:
        for missing in ({}, {key: None}):
            block = {"trainable": kind, **NEEDED[kind]}
            del block[key]
            with pytest.raises(BadInput, match=f"^method: {key} is needed with trainable: {kind}$"):
                parse_method(block | missing)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "method: trainable: this key is required"),
        ({"trainable": None}, "method: trainable: None: Input should be 'none', 'all', 'lora' or"),
        ({"trainable": "lora", "gamm": 5}, "method: gamm: unknown key (did you mean gamma"),
        ({"trainable": "none", "lerning_rate": 1}, "unknown key (did you mean learning_rate?)"),
        ({"trainable": "none", "seed": [1]}, "method: seed: unknown key"),
        ([1], "method: [1]: Input should be a valid dictionary"),
    ],
)
def test_blocks_of_no_kind(block, message):
    with pytest.raises(BadInput) as refused:
        parse_method(block)
    assert message in str(refused.value)


def kinds(study: dict[str, Any], name: str) -> list[Any]:
    study["models"]["other"] = {"path": "inputs/other"}
    checked = check_study(study)
    return [checked.method(name, "mini", model) for model in ("toy", "other")]


def test_an_override_may_change_the_kind():
    values = {"trainable": "lora", "r": 2, "lora_alpha": 4}
    override = {"model": "other", "values": values}
    plain, other = kinds(changed("methods.full.overrides", [override]), "full")
    assert isinstance(plain, Full)
    assert isinstance(other, Lora)
    assert (other.r, other.learning_rate, other.max_steps) == (2, 0.001, 4)
    # What the block itself says of its own kind has to be taken back by name.
    study = changed("methods.owlore.overrides", [override])
    with pytest.raises(BadInput, match="projection: low-rank is only allowed with trainable: all"):
        kinds(study, "owlore")
    back = dict.fromkeys(("sampling", "gamma", "interval_steps", "rank"))
    values |= {**back, "projection": "none"}
    plain, other = kinds(changed("methods.owlore.overrides", [override]), "owlore")
    assert isinstance(plain, Layers)
    assert isinstance(other, Lora)


def test_an_override_to_the_base_model_leaves_training_behind():
    values = {"trainable": "none", "learning_rate": None}
    override = {"model": "other", "values": values}
    plain, other = kinds(changed("methods.full.overrides", [override]), "full")
    assert isinstance(plain, Full)
    assert other == Base(trainable="none")


def test_training_may_supply_what_a_kind_needs():
    study = changed("training.learning_rate", 0.002)
    del study["methods"]["full"]["learning_rate"]
    plain, _ = kinds(study, "full")
    assert plain.learning_rate == 0.002


def test_readers_need_not_know_the_kind():
    base, full, lora, layers = (parse_method({"trainable": k, **NEEDED[k]}) for k in NEEDED)
    low_rank = parse_method(full.model_dump() | {"projection": "low-rank", "rank": 3})
    every = (base, full, lora, layers, low_rank)
    assert [method.trains for method in every] == [False, True, True, True, True]
    assert [method.adapter for method in every] == [False, False, True, False, False]
    assert [method.needs_outliers for method in every] == [False, False, False, True, False]
    assert [method.projected for method in every] == [False, False, False, False, True]
    assert [method.ranks for method in every] == [{}, {}, {"r": 2}, {}, {"rank": 3}]
    assert [method.awake(4) for method in every[1:]] == [4, 4, 2, 4]
    assert [method.steps_between_draws for method in every[1:]] == [30, 30, 5, 30]
