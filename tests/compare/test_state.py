"""Which made-up results prove what their study asks, and what is said of those that do not."""

import os

import pytest
from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.compare import state
from owlore.core.errors import BadInput
from owlore.core.files import read_json, write_json

CELLS = {f"mini/tiny_model/{method}/seed0" for method in ("base", "full", "lisa")}


@pytest.fixture
def made(tmp_path):
    """Results that prove what their study asks, as if they had just been made."""
    study, root = made_up_study(run=["base", "full", "lisa"]), tmp_path / "made-up"
    write_made_up_results(study, root, memory=False)
    return study, root, tmp_path


def reasons(made, rule, study=None):
    results = state.of(study or made[0], made[1], made[2])
    return {result.what: result.why for result in results if result.rule == rule}


def change(path, *keys, value):
    """Set a value in a JSON file, at a way of keys."""
    whole = read_json(path)
    *way, last = keys
    part = whole
    for key in way:
        part = part[key]
    part[last] = value
    write_json(path, whole)


def test_what_was_just_made_fits_and_the_rest_is_missing(made):
    whys = {result.why for result in state.of(*made) if result.path.exists()}
    assert whys == {""}
    assert reasons(made, "questions") == {"": ""}
    assert reasons(made, "training_data") == {"mini seed0": "missing"}
    assert set(reasons(made, "evaluate")) == CELLS
    assert state.unfit(state.of(*made)) == [] and state.told(state.of(*made)) == []
    state.refuse(state.of(*made), [])


def test_a_setting_reaches_the_cells_that_have_it(made):
    methods = made[0].methods
    other = {**methods, "full": {**methods["full"], "weight_decay": 0.5}}
    study = made_up_study(run=made[0].run, methods=other)
    assert reasons(made, "train", study) == {
        "mini/tiny_model/full/seed0": "settings changed: method.weight_decay",
        "mini/tiny_model/lisa/seed0": "",
    }
    results = state.of(study, *made[1:])
    assert state.told(results) == ["train: 1 cell, settings changed: method.weight_decay"]
    assert "evaluate: 1 cell, made again if the weights come out differently" in state.to_make(
        results
    )
    finetune = made[1] / "mini/tiny_model/full/seed0/finetune.json"
    with pytest.raises(BadInput, match=r"would leave as they are: train: 1 cell, settings changed"):
        state.refuse(results, [])
    state.refuse(results, [str(finetune)])


def test_other_weights_reach_what_was_scored_with_them_alone(made):
    cell = "mini/tiny_model/full/seed0"
    change(made[1] / cell / "finetune.json", "weights_sha256", value="ab" * 32)
    for rule in ("evaluate", "judge"):
        found = reasons(made, rule)
        assert found.pop(cell) == "input changed: weights"
        assert set(found.values()) == {""}


def test_other_code_no_proof_and_a_torn_file_are_told_apart(made):
    cells = [made[1] / cell / "finetune.json" for cell in sorted(CELLS)]
    change(cells[0], "proof", "code", "train/base.py", value="other")
    change(cells[1], "proof", value=None)
    change(cells[2], "weights_sha256", value=1)
    found = reasons(made, "base") | reasons(made, "train")
    assert [found[cell] for cell in sorted(CELLS)] == [
        "code changed: owlore/train/base.py",
        "no proof: made by an older owlore",
        "not a result file (weights_sha256: 1: Input should be a valid string)",
    ]


def test_time_stamps_follow_the_order_in_which_results_are_made(made):
    """As after a copy, whose stamps are those of the copying: the last made looks the oldest."""
    results = [result for result in state.of(*made) if not result.why]
    for place, result in enumerate(results):
        os.utime(result.path, (1e9 - place,) * 2)
    state.settle(state.of(*made))
    stamps = [result.path.stat().st_mtime_ns for result in results]
    assert stamps == sorted(stamps) and len(set(stamps)) == len(stamps)
    state.settle(state.of(*made))
    assert [result.path.stat().st_mtime_ns for result in results] == stamps, "in order: untouched"
