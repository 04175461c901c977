"""Was a cell trained with the method as the study has it now? However its block is spelt."""

from types import SimpleNamespace
from typing import Any

import pytest
from support.studies import STUDY

from owlore.compare.lineage import config_state
from owlore.study.config import Cell, check_study

# As finetune.json had it while all methods were one flat class
FLAT = {
    **{"trainable": "all", "learning_rate": 0.001, "max_steps": 4, "checkpoint_steps": 2},
    **{"per_device_train_batch_size": 2, "gamma": None, "state": "drop", "law": "successive"},
    **{"projection": "none", "rank": None, "scale": 1.0, "r": None, "lora_dropout": 0.0},
}


def state(method: str, config: dict[str, Any]) -> str:
    cell = Cell(track="mini", model="toy", method=method, seed=0)
    results: Any = SimpleNamespace(study=check_study(STUDY))
    finetune = SimpleNamespace(config=config)
    entry: Any = SimpleNamespace(cell=cell, finetune=finetune)
    return config_state(results, entry)


def test_a_block_of_every_key_is_as_good_as_a_short_one():
    now = check_study(STUDY).method("full", "mini", "toy")
    assert state("full", now.model_dump(mode="json", exclude={"overrides"})) == "ok"
    assert state("full", now.model_dump(mode="json", exclude_defaults=True)) == "ok"
    assert state("full", FLAT) == "ok"
    assert state("base", {"trainable": "none"}) == "ok"


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 0.002}, {"weight_decay": 0.1}, {"gamma": 2}, {"of_a_newer_version": 1}],
)
def test_another_setting_is_seen(change):
    assert state("full", FLAT | change) == "altered"
    assert state("base", FLAT) == "altered"
