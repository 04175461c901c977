"""The paper's claims: when a study may speak to them, and what it says (numbers made up)."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
from support.results_studies import PAPER_TRACK, made_up_study, paper_like_study
from support.results_tree import write_made_up_results

from owlore.compare.comparisons import difference
from owlore.compare.paper import NOT_SUPPORTED, _verdict, claims, comparable
from owlore.compare.results import Group, load
from owlore.core.files import read_json, write_json
from owlore.stats.paired import PairedDifference

GROUP = Group("paper", "llama2-7b")


def paper_track(**changes) -> dict:
    return {"paper": deepcopy(PAPER_TRACK) | changes}


@pytest.mark.parametrize("benchmark", ["commonsense", "mmlu", "mtbench"])
def test_the_papers_own_exercise_is_comparable(benchmark: str):
    assert comparable(paper_like_study(), benchmark) == (True, "")


@pytest.mark.parametrize(
    ("benchmark", "reason"),
    [
        (
            "commonsense",
            "tiny_model is not one of the paper's; the tasks are not the paper's eight",
        ),
        ("mmlu", "tiny_model is not one of the paper's; the tasks are not MMLU's 57 subjects"),
        ("mtbench", r"tiny_model is not .*; the judge \(transformers: base\) is not GPT-4"),
    ],
)
def test_the_small_study_is_not_comparable(benchmark: str, reason: str):
    same, why = comparable(made_up_study(), benchmark)
    assert not same
    assert re.search(reason, why)


@pytest.mark.parametrize(
    ("benchmark", "block", "reason"),
    [
        ("commonsense", {"num_fewshot": 0, "tasks": PAPER_TRACK["commonsense"]["tasks"]}, "0-shot"),
        (
            "commonsense",
            {"num_fewshot": 5, "tasks": PAPER_TRACK["commonsense"]["tasks"] | {"gsm8k": {}}},
            "the tasks",
        ),
        ("mmlu", {"num_fewshot": 5, "tasks": {"mmlu": {"limit": 100}}}, "only a part"),
        ("mmlu", {"num_fewshot": 5, "tasks": {"mmlu": {}}, "split": "validation"}, "validation"),
        ("mtbench", PAPER_TRACK["mtbench"] | {"questions": 8}, "8 of MT-Bench's 80"),
    ],
)
def test_one_departure_is_enough(benchmark: str, block: dict, reason: str):
    same, why = comparable(paper_like_study(tracks=paper_track(**{benchmark: block})), benchmark)
    assert not same
    assert reason in why
    for other in {"commonsense", "mmlu", "mtbench"} - {benchmark}:
        assert comparable(paper_like_study(tracks=paper_track(**{benchmark: block})), other)[0]


def test_a_local_copy_counts_under_the_studies_name_only():
    path = {"path": "checkpoints/llama"}
    assert comparable(paper_like_study(models={"llama2-7b": path}), "mmlu")[0]
    assert not comparable(paper_like_study(models={"my-llama": path}), "mmlu")[0]
    mixed = paper_like_study(models={"llama2-7b": path, "other": path})
    assert not comparable(mixed, "mmlu")[0]
    assert comparable(mixed, "mmlu", "llama2-7b")[0]


def test_a_study_of_something_else_gets_no_verdict(tmp_path: Path):
    study = made_up_study()
    write_made_up_results(study, tmp_path, skill={"owlore": 3})
    found = claims(load(study, tmp_path))
    assert len(found) == 4
    assert {claim.verdict for claim in found} == {"not comparable"}
    assert all(claim.reason for claim in found)
    judged = next(claim for claim in found if "MT-Bench" in claim.claim)
    assert judged.measured is None  # a plumbing check measures nothing
    assert "plumbing check" in judged.reason


@pytest.mark.parametrize(
    ("skill", "questions", "verdict"),
    [
        ({"owlore": 2}, 60, "supported"),
        ({"owlore": 0}, 60, "not supported"),
        ({}, 60, "not supported"),
    ],
)
def test_verdict_follows_the_interval(tmp_path: Path, skill, questions, verdict):
    study = paper_like_study()
    write_made_up_results(study, tmp_path, skill=skill, questions=questions)
    results = load(study, tmp_path)
    claim = claims(results)[0]
    assert claim.verdict == verdict
    averages = {
        name: results.of(GROUP, name)[0].scores["commonsense"].average
        for name in ("full", "lora", "galore", "lisa", "owlore")
    }
    baselines = {name: value for name, value in averages.items() if name != "owlore"}
    assert claim.baseline == max(baselines, key=lambda name: baselines[name])
    assert claim.measured == pytest.approx(
        100 * (averages["owlore"] - averages[claim.baseline]), abs=1e-9
    )
    assert claim.low < claim.measured < claim.high
    assert (claim.low > 0) == (verdict == "supported")
    assert claim.reason.endswith("conditional on one training seed")


def test_with_several_seeds_the_interval_of_a_claim_covers_them(tmp_path: Path):
    study = paper_like_study(run=["full", "owlore"], seeds=[0, 1, 2])
    write_made_up_results(study, tmp_path, skill={"owlore": 2})
    results = load(study, tmp_path)
    claim = claims(results)[0]
    want = difference(results, GROUP, "commonsense", "owlore", "full")
    assert want.seeds == 3
    assert (claim.low, claim.high) == pytest.approx((100 * want.low, 100 * want.high))
    assert "one training seed" not in claim.reason


def test_a_gain_that_is_there_but_too_small_is_not_supported():
    small = PairedDifference(0.004, 0.002, 0.006, 20000, 0.001, 1000, 0.001)
    verdict, reason = _verdict(small, 100, 1.1, "points")
    assert verdict == NOT_SUPPORTED
    assert "ends below 1.1 points" in reason


@pytest.mark.parametrize(
    ("gigabytes", "device", "verdict", "said"),
    [
        (20.0, "cuda", "supported", "measured"),
        (22.0, "cuda", "not supported", "GiB"),
        (25.0, "cuda", "not supported", "measured"),
        (20.0, "cpu", "supported", "simulated"),  # the made-up simulation says 1.6 GiB
    ],
)
def test_memory_claim(tmp_path: Path, gigabytes, device, verdict, said):
    study = paper_like_study()
    write_made_up_results(study, tmp_path)
    path = tmp_path / "paper/llama2-7b/owlore/seed0/finetune.json"
    peak = int(gigabytes * 1e9)
    write_json(path, read_json(path) | {"device": device, "peak_bytes": peak})
    claim = claims(load(study, tmp_path))[-1]
    assert claim.verdict == verdict
    assert said in claim.reason
    if device == "cuda":
        assert claim.measured == pytest.approx(gigabytes)


def test_without_owlore_there_is_no_claim(tmp_path: Path):
    study = paper_like_study(run=["base", "full"])
    write_made_up_results(study, tmp_path)
    for claim in claims(load(study, tmp_path)):
        assert claim.verdict == "not comparable"
        assert claim.measured is None
