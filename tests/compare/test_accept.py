"""Results of other code on somebody's word: only the code, only those named, and it is written."""

import pytest
from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.compare import state
from owlore.compare.accept import accept
from owlore.core.errors import BadInput
from owlore.core.files import read_json, write_json

FULL = "mini/tiny_model/full/seed0"


@pytest.fixture
def made(tmp_path):
    """Results of older code: their proofs name one file, which is another now."""
    study, root = made_up_study(run=["base", "full"]), tmp_path / "made-up"
    write_made_up_results(study, root, memory=False)
    for result in state.of(study, root, tmp_path):
        if result.path.exists():
            proof = result.asked.model_dump(mode="json")
            proof["code"] |= dict.fromkeys(list(proof["code"])[:1], "older")
            write_json(result.path, read_json(result.path) | {"proof": proof})
    return study, root, tmp_path


def test_only_what_is_named_is_accepted_and_nothing_else_changes(made):
    before = read_json(made[1] / FULL / "finetune.json")
    taken = accept(*made, [FULL], " only a bar changed ")
    assert {result.what for result in taken} == {FULL}
    assert {"train", "evaluate", "judge"} <= {result.rule for result in taken}
    after = read_json(made[1] / FULL / "finetune.json")
    word = after["proof"].pop("accepted")
    before["proof"].pop("accepted")
    assert after == before and word["because"] == "only a bar changed"
    whys = {result.what: result.why for result in state.unfit(state.of(*made))}
    assert FULL not in whys and whys["mini/tiny_model/base/seed0"].startswith("code changed")
    assert accept(*made, [FULL], "again") == [], "what fits needs no word"


def test_other_settings_are_never_accepted(made):
    methods = made[0].methods
    other = {**methods, "full": {**methods["full"], "weight_decay": 0.5}}
    study = made_up_study(run=made[0].run, methods=other)
    taken = accept(study, *made[1:], [FULL], "it should not matter")
    assert "train" not in {result.rule for result in taken}
    assert read_json(made[1] / FULL / "finetune.json")["proof"]["accepted"] is None


def test_a_reason_and_known_names_are_needed(made):
    with pytest.raises(BadInput, match="--because: a reason is needed"):
        accept(*made, [], "  ")
    with pytest.raises(BadInput, match=r"^mini/full: no such result; there are .*tiny_model/full"):
        accept(*made, ["mini/full"], "why not")


def test_checkpoints_that_were_set_aside_come_back(made):
    folder = made[1] / FULL
    aside = folder / "checkpoints-of-other-code" / "checkpoint-4"
    write_json(aside / "owlore.json", {"step": 4, "proof": {"code": {}}})
    accept(*made, [FULL], "only a bar changed")
    assert not aside.parent.exists()
    marker = read_json(folder / "checkpoints" / "checkpoint-4" / "owlore.json")
    assert marker["step"] == 4
    assert marker["proof"]["accepted"]["because"] == "only a bar changed"
