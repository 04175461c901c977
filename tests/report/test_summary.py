"""The answer in words, and what the study cannot tell."""

from pathlib import Path

import pytest
from support.results_studies import MINI_TRACK, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.results import load
from owlore.core.files import read_json, write_json
from owlore.report.summary import answer, limits


@pytest.mark.parametrize(
    ("skill", "said"),
    [
        (
            {"base": -3, "full": 0, "owlore": 3},
            "scores higher than the base model and scores higher",
        ),
        ({"base": 3, "full": 0, "owlore": -3}, "scores lower than the base model and scores lower"),
        (
            {"base": 0.4, "full": 0.4, "owlore": 0.4},
            "cannot be told apart from the base model and cannot be told apart from full",
        ),
    ],
)
def test_the_answer_follows_the_tests(tmp_path: Path, skill, said):
    study = made_up_study(run=["base", "full", "owlore"])
    write_made_up_results(study, tmp_path, skill=skill)
    (block,) = answer(load(study, tmp_path))
    assert said in block["headline"]
    together = " ".join(block["sentences"])
    assert "equal" not in together
    assert "conditional on one training seed" in together
    assert "Not comparable with the paper" in together


def test_as_good_as_is_said_only_where_it_was_shown(tmp_path: Path):
    study = made_up_study(run=["base", "full", "owlore"], comparison={"equivalence_margin": 50})
    write_made_up_results(study, tmp_path, skill={"base": 0.4, "full": 0.4, "owlore": 0.4})
    (block,) = answer(load(study, tmp_path))
    assert "is as good (less than 50 points apart) as full fine-tuning" in block["headline"]
    assert "less than 50 points apart" in " ".join(block["sentences"])


def test_the_answer_without_the_paper_method_or_scores(tmp_path: Path):
    study = made_up_study(run=["base", "full"])
    write_made_up_results(study, tmp_path / "a")
    assert "does not run OwLore" in answer(load(study, tmp_path / "a"))[0]["headline"]
    chat = {key: MINI_TRACK[key] for key in ("train", "mtbench")}
    study = made_up_study(tracks={"chat": chat})
    write_made_up_results(study, tmp_path / "b")
    assert "no answer on accuracy" in answer(load(study, tmp_path / "b"))[0]["headline"]


def test_limits_name_what_the_study_cannot_tell(made, tmp_path: Path):
    study, root, _, _ = made
    said = " ".join(limits(load(study, root)))
    for part in ("One training seed", "does not mean", "plumbing check", "torch's allocator"):
        assert part in said
    seeds = made_up_study(seeds=[0, 1], run=["base", "full"])
    write_made_up_results(seeds, tmp_path)
    path = tmp_path / "mini/tiny_model/full/seed{}/finetune.json"
    for seed in (0, 1):
        cell = Path(str(path).format(seed))
        write_json(cell, read_json(cell) | {"device": "cuda"})
    said = " ".join(limits(load(seeds, tmp_path)))
    assert "2 training seeds: intervals cover the choice of questions and of seeds" in said
    assert "torch's allocator" not in said  # the base model's cell trained nothing on the CPU
