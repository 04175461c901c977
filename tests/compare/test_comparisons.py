"""Comparisons of methods inside a group (numbers made up, see fake_results)."""

import shutil
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support.results_proofs import reprove
from support.results_studies import METHODS, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.comparisons import (
    answers,
    base_of,
    baselines_of,
    difference,
    discordance,
    full_of,
    level,
    owlore_of,
    references_of,
    standing,
    verdicts,
)
from owlore.compare.results import Group, load
from owlore.core.errors import BadInput
from owlore.core.files import read_json, write_json
from owlore.stats.paired import PairedDifference, mcnemar_exact, paired_difference

GROUP = Group("mini", "tiny_model")
SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("seeds")
    study = made_up_study(seeds=SEEDS, run=["base", "full", "lora", "owlore"])
    write_made_up_results(study, root)
    return load(study, root)


def parquet(results, method: str, seed: int, benchmark: str = "commonsense") -> pd.DataFrame:
    path = results.root / f"mini/tiny_model/{method}/seed{seed}/samples/{benchmark}.parquet"
    samples = pd.read_parquet(path)
    normed = samples["task"].isin(["social_iqa_mini", "quartz_mini"])  # scored by acc_norm
    samples["outcome"] = samples["correct"].where(~normed, samples["correct_norm"]).astype(float)
    return samples


def test_difference_is_the_stats_on_the_parquet(results):
    a = np.stack([parquet(results, "owlore", seed)["outcome"] for seed in SEEDS], axis=1)
    base = parquet(results, "base", 0)
    want = paired_difference(a, base["outcome"], base["task"], base["cluster"])
    got = difference(results, GROUP, "commonsense", "owlore", "base")
    assert astuple(got)[:9] == pytest.approx(astuple(want)[:9])
    assert got.seeds == 3
    averages = [
        np.mean([entry.scores["commonsense"].average for entry in results.of(GROUP, name)])
        for name in ("owlore", "base")
    ]
    assert got.difference == pytest.approx(averages[0] - averages[1])


def test_one_task_and_one_seed(results):
    a, b = (parquet(results, method, 2) for method in ("owlore", "full"))
    rows = a["task"] == "quartz_mini"
    want = paired_difference(
        a["outcome"][rows], b["outcome"][rows], a["task"][rows], a["cluster"][rows]
    )
    got = difference(results, GROUP, "commonsense", "owlore", "full", tasks=["quartz_mini"], seed=2)
    assert astuple(got)[:7] == pytest.approx(astuple(want)[:7])
    assert got.n == 40


def test_discordance_is_mcnemar_of_one_seed(results):
    a, b = (parquet(results, method, 1)["outcome"] for method in ("owlore", "full"))
    assert discordance(results, GROUP, "commonsense", "owlore", "full", 1) == mcnemar_exact(a, b)
    base = parquet(results, "base", 0)["outcome"]  # its only run serves for every seed
    assert discordance(results, GROUP, "commonsense", "owlore", "base", 1) == mcnemar_exact(a, base)


def test_unscored_turns_are_left_out(results):
    found = answers(results, GROUP, "owlore", "mtbench")
    assert found.values.shape == (16, 3)
    assert np.isnan(found.values).any()
    assert difference(results, GROUP, "mtbench", "owlore", "base").n < 16


def test_identical_methods_tie(tmp_path: Path):
    study = made_up_study(run=["full", "twin"], methods={**METHODS, "twin": METHODS["full"]})
    write_made_up_results(study, tmp_path)
    full, twin = (tmp_path / "mini/tiny_model" / name / "seed0" for name in study.run)
    for name in ("commonsense", "mmlu"):
        shutil.copy(full / f"samples/{name}.parquet", twin / f"samples/{name}.parquet")
        own = read_json(twin / "finetune.json")["weights_sha256"]
        write_json(
            twin / f"{name}.json", read_json(full / f"{name}.json") | {"weights_sha256": own}
        )
    reprove(study, tmp_path)
    results = load(study, tmp_path)
    assert standing(results, GROUP, "commonsense") == {"full": "tie", "twin": "tie"}
    assert difference(results, GROUP, "commonsense", "full", "twin").p_value == 1


def test_a_clear_winner_is_best_and_a_close_one_ties(tmp_path: Path):
    study = made_up_study(run=["base", "full", "lora", "owlore"])
    far, close = {"base": -3, "full": 0, "lora": 0, "owlore": 3}, {"base": -3}
    for name, skill, want in (
        ("far", far, {"base": "", "full": "", "lora": "", "owlore": "best"}),
        ("close", close, {"base": "", "full": "tie", "lora": "tie", "owlore": "tie"}),
    ):
        write_made_up_results(study, tmp_path / name, skill=skill)
        assert standing(load(study, tmp_path / name), GROUP, "commonsense") == want


def test_levels_cover_questions_and_seeds(results):
    found = level(results, GROUP, "commonsense", "owlore")
    averages = [entry.scores["commonsense"].average for entry in results.of(GROUP, "owlore")]
    assert found.difference == pytest.approx(np.mean(averages))
    assert found.seed_error == pytest.approx(np.std(averages, ddof=1) / np.sqrt(3))
    base = level(results, GROUP, "commonsense", "base", "quartz_mini")
    outcome = parquet(results, "base", 0).query("task == 'quartz_mini'")["outcome"]
    assert base.difference == pytest.approx(outcome.mean())
    assert (base.n, base.seeds, base.seed_error) == (40, 1, None)


def found(difference: float, error: float) -> PairedDifference:
    """One seed, so many questions that t is normal."""
    p = 2 * stats.norm.sf(abs(difference) / error)
    spreads = (((error**2, 1e9),),)
    return PairedDifference(difference, 0, 0, 1, error, 1e9, p, spreads=spreads)


@pytest.mark.parametrize(
    ("difference", "error", "verdict"),
    [
        (0.03, 0.005, "better"),
        (-0.03, 0.005, "worse"),
        (0.0, 0.002, "equivalent"),
        (0.004, 0.001, "equivalent"),  # a difference is shown, but one below the margin
        (0.009, 0.001, "better"),  # shown, and not shown to be below the margin
        (0.0, 0.02, "undecided"),
        (0.03, 0.02, "undecided"),
    ],
)
def test_verdicts(difference: float, error: float, verdict: str):
    assert verdicts([found(difference, error)], 0.01)[0][2] == verdict


def test_verdicts_are_adjusted_for_their_family():
    one, other = found(0.0225, 0.01), found(0.0, 0.02)
    assert verdicts([one], 0.01)[0][2] == "better"
    adjusted = verdicts([one, other, other], 0.01)
    assert [verdict for _, _, verdict in adjusted] == ["undecided"] * 3
    assert adjusted[0][0] == pytest.approx(3 * one.p_value)
    close = found(0.0, 0.0052)
    assert verdicts([close], 0.01)[0][2] == "equivalent"
    assert verdicts([close, other], 0.01)[0][2] == "undecided"


@pytest.mark.parametrize(
    ("key", "value"), [("equivalence_margin", 0), ("equivalence_margin", 100), ("margin", 1)]
)
def test_a_margin_that_is_none_is_refused(key: str, value: int):
    with pytest.raises(BadInput, match=rf"comparison\.{key}"):
        made_up_study(comparison={key: value})


def test_subjects_are_strata(tmp_path: Path):
    study = made_up_study(run=["base", "full"])
    write_made_up_results(study, tmp_path)
    for method in study.run:
        path = tmp_path / f"mini/tiny_model/{method}/seed0/samples/mmlu.parquet"
        samples = pd.read_parquet(path)
        samples["subject"] = np.where(samples["doc_id"] % 3 == 0, "law", "logic")
        samples.to_parquet(path, index=False)
    reprove(study, tmp_path)
    results = load(study, tmp_path)
    a, b = (
        pd.read_parquet(tmp_path / f"mini/tiny_model/{name}/seed0/samples/mmlu.parquet")
        for name in ("full", "base")
    )
    want = paired_difference(
        *(one["correct"].astype(float) for one in (a, b)), a["task"], a["cluster"], a["subject"]
    )
    got = difference(results, GROUP, "mmlu", "full", "base")
    assert got.standard_error == pytest.approx(want.standard_error)


def test_one_method_alone_gets_no_mark(tmp_path: Path):
    study = made_up_study(run=["full"])
    write_made_up_results(study, tmp_path)
    assert standing(load(study, tmp_path), GROUP, "commonsense") == {"full": ""}


def test_roles_come_from_the_methods_not_from_their_names():
    renamed = {f"m{place}": block for place, block in enumerate(METHODS.values())}
    study = made_up_study(run=list(renamed), methods=renamed)
    assert (base_of(study), full_of(study), owlore_of(study)) == ("m0", "m1", "m5")
    assert baselines_of(study) == ["m1", "m2", "m3", "m4"]
    assert references_of(study) == ["m0", "m1", "m5"]
    none = made_up_study(run=["lora"])
    assert (base_of(none), full_of(none), owlore_of(none)) == (None, None, None)
    assert references_of(none) == []
