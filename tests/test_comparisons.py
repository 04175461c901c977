"""Comparisons of methods inside a group (numbers made up, see fake_results)."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import write_fake_results
from fake_studies import METHODS, fake_study

from owlore.comparisons import (
    answers,
    base_of,
    baselines_of,
    difference,
    discordance,
    full_of,
    owlore_of,
    standing,
)
from owlore.files import read_json, write_json
from owlore.results import load
from owlore.stats import mcnemar_exact, paired_difference

GROUP = ("mini", "tiny_model")
SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("seeds")
    study = fake_study(seeds=SEEDS, run=["base", "full", "lora", "owlore"])
    write_fake_results(study, root)
    return load(study, root)


def parquet(results, method: str, seed: int, benchmark: str = "commonsense") -> pd.DataFrame:
    path = results.root / f"mini/tiny_model/{method}/seed{seed}/samples/{benchmark}.parquet"
    samples = pd.read_parquet(path)
    normed = samples["task"].isin(["social_iqa_mini", "quartz_mini"])  # scored by acc_norm
    samples["outcome"] = samples["correct"].where(~normed, samples["correct_norm"]).astype(float)
    return samples


def test_difference_is_the_stats_on_the_parquet(results):
    a = np.mean([parquet(results, "owlore", seed)["outcome"] for seed in SEEDS], axis=0)
    base = parquet(results, "base", 0)
    want = paired_difference(a, base["outcome"], base["task"], base["cluster"])
    got = difference(results, GROUP, "commonsense", "owlore", "base")
    assert got == pytest.approx(want)
    averages = [
        np.mean([entry.benchmarks["commonsense"]["average"] for entry in results.of(*GROUP, name)])
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
    assert got == pytest.approx(want)
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
    study = fake_study(run=["full", "twin"], methods={**METHODS, "twin": METHODS["full"]})
    write_fake_results(study, tmp_path)
    full, twin = (tmp_path / "mini/tiny_model" / name / "seed0" for name in study.run)
    for name in ("commonsense", "mmlu"):
        shutil.copy(full / f"samples/{name}.parquet", twin / f"samples/{name}.parquet")
        own = read_json(twin / "finetune.json")["weights_sha256"]
        write_json(
            twin / f"{name}.json", read_json(full / f"{name}.json") | {"weights_sha256": own}
        )
    results = load(study, tmp_path)
    assert standing(results, GROUP, "commonsense") == {"full": "tie", "twin": "tie"}
    assert difference(results, GROUP, "commonsense", "full", "twin").p_value == 1


def test_a_clear_winner_is_best_and_a_close_one_ties(tmp_path: Path):
    study = fake_study(run=["base", "full", "lora", "owlore"])
    far, close = {"base": -3, "full": 0, "lora": 0, "owlore": 3}, {"base": -3}
    for name, skill, want in (
        ("far", far, {"base": "", "full": "", "lora": "", "owlore": "best"}),
        ("close", close, {"base": "", "full": "tie", "lora": "tie", "owlore": "tie"}),
    ):
        write_fake_results(study, tmp_path / name, skill=skill)
        assert standing(load(study, tmp_path / name), GROUP, "commonsense") == want


def test_one_method_alone_gets_no_mark(tmp_path: Path):
    study = fake_study(run=["full"])
    write_fake_results(study, tmp_path)
    assert standing(load(study, tmp_path), GROUP, "commonsense") == {"full": ""}


def test_roles_come_from_the_methods_not_from_their_names():
    renamed = {f"m{place}": block for place, block in enumerate(METHODS.values())}
    study = fake_study(run=list(renamed), methods=renamed)
    assert (base_of(study), full_of(study), owlore_of(study)) == ("m0", "m1", "m5")
    assert baselines_of(study) == ["m1", "m2", "m3", "m4"]
    none = fake_study(run=["lora"])
    assert (base_of(none), full_of(none), owlore_of(none)) == (None, None, None)
