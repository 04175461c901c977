"""The study: its cells, what holds for which of them, and what may stand where."""

from itertools import product

import pytest
from support.studies import STUDY, changed

from owlore.core.errors import BadInput
from owlore.study.config import check_study


def test_cells_are_all_of_the_product_and_the_base_once():
    block = changed("models.other", {"path": "elsewhere"}, changed("seeds", [0, 7]))
    block = changed("tracks.second", STUDY["tracks"]["mini"], block)
    cells = check_study(block).cells()
    expected = {
        (track, model, method, seed)
        for track, model, method in product(("mini", "second"), ("toy", "other"), STUDY["run"])
        for seed in ((None,) if method == "base" else (0, 7))
    }
    assert {(c.track, c.model, c.method, c.seed) for c in cells} == expected
    assert len(cells) == len({cell.path for cell in cells}) == 2 * 2 * (1 + 2 * 2)
    assert cells[0].path == "mini/toy/base/seed0", "the base has no seed and lies in seed0"


def test_training_lies_under_a_method_and_overrides_over_it():
    block = changed("training", {"max_steps": 5, "learning_rate": 0.5})
    block["methods"]["full"] = {
        "trainable": "all",
        "learning_rate": 0.001,
        "overrides": [
            {"track": "mini", "values": {"max_steps": 6}},
            {"model": "other", "values": {"max_steps": 7, "weight_decay": 0.1}},
            {"track": "mini", "model": "toy", "values": {"warmup_steps": 2}},
        ],
    }
    block = changed("models.other", {"path": "elsewhere"}, block)
    study = check_study(block)
    plain = study.method("full")
    assert (plain.max_steps, plain.learning_rate) == (5, 0.001), "the method's own key wins"
    here = study.method("full", "mini", "toy")
    assert (here.max_steps, here.warmup_steps, here.weight_decay) == (6, 2, 0.0)
    there = study.method("full", "mini", "other")
    assert (there.max_steps, there.warmup_steps, there.weight_decay) == (7, 0, 0.1), "later wins"
    bare = check_study({**block, "training": {}})
    assert study.method("base") == bare.method("base"), "what does not train has no training keys"


def test_a_study_written_out_is_the_same_study():
    study = check_study(STUDY)
    again = check_study(study.model_dump(mode="json"))
    assert again == study and again.cells() == study.cells()


def test_nothing_changes_after_reading():
    study = check_study(STUDY)
    with pytest.raises(ValueError, match="frozen"):
        study.study = "other"


def test_names_that_two_blocks_give_are_refused():
    pool = {"path": "org/rows", "revision": "0" * 40}
    with pytest.raises(BadInput, match="questions: 'pool' is both in files and in hub"):
        check_study(changed("questions.hub", {"pool": pool}))
    file = {**pool, "file": "rows.json", "split": "test"}
    with pytest.raises(BadInput, match="file is read whole: give it without name and split"):
        check_study(changed("questions.hub", {"rows": file}))


def test_score_files_are_the_benchmarks_and_the_further_judges():
    local = {"provider": "transformers", "model": "base"}
    mtbench = {"judge": local, "further_judges": {"second": local}}
    track = check_study(changed("tracks.mini.mtbench", mtbench)).tracks["mini"]
    assert track.benchmarks == ["commonsense", "mtbench"]
    assert track.score_files == ["commonsense", "mtbench", "mtbench/second/mtbench"]
    assert list(track.mtbench.judges) == ["", "second"], "the headline has no name and is first"


def test_margins_are_in_the_unit_of_the_outcomes():
    comparison = check_study(STUDY).comparison
    assert comparison.margin("commonsense") == pytest.approx(0.01)  # one point of 100
    assert comparison.margin("mtbench") == pytest.approx(0.2)  # of 10 points
