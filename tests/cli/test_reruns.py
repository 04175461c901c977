"""What `owlore run` tells and forces before Snakemake starts, on made-up results."""

import os
from types import SimpleNamespace

import pytest
import yaml
from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.cli import reruns
from owlore.core.errors import BadInput
from owlore.core.files import read_json, write_json
from owlore.records.proof import AGAIN

CELL = "results/made-up/mini/tiny_model/full/seed0"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A directory with a study, its made-up results, and one result of other code."""
    study = made_up_study(run=["base", "full"])
    write_made_up_results(study, tmp_path / "results" / "made-up")
    block = study.model_dump(mode="json", exclude_unset=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(block, sort_keys=False))
    path = tmp_path / CELL / "finetune.json"
    values = read_json(path)
    values["proof"]["code"]["optim/lowrank.py"] = "other"
    write_json(path, values)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(AGAIN, raising=False)
    return study, tmp_path


def test_what_does_not_fit_is_told_and_forced(made, capsys, monkeypatch):
    monkeypatch.setenv(AGAIN, "0")  # so that what is set is taken back
    assert reruns.prepare(["--cores", "2"], made[1]) == [
        "--forcerun",
        f"{CELL}/finetune.json",
    ]
    told = capsys.readouterr().out
    assert "train: 1 cell, code changed: owlore/optim/lowrank.py\n" in told
    assert "evaluate: 1 cell, made again if the weights come out differently\n" in told
    assert os.environ[AGAIN] == "0"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-R", "report"],
        ["--forceall"],
        ["--configfile", "missing.yaml"],
        ["--config", "seeds=[1]"],
        ["--configfile", "config.yaml", "other.yaml"],
        ["--profile", "elsewhere"],
    ],
)
def test_whoever_forces_or_names_another_study_gets_snakemake_as_it_is(arguments, made, capsys):
    assert reruns.prepare(arguments, made[1]) == []
    assert capsys.readouterr().out == ""


def planning(needed: list[str], every: list[str]) -> SimpleNamespace:
    """What Snakemake has planned: its jobs' outputs."""
    jobs = [SimpleNamespace(output=[name]) for name in every]
    dag = SimpleNamespace(
        jobs=jobs, needrun_jobs=lambda **_: [job for job in jobs if job.output[0] in needed]
    )
    return SimpleNamespace(dag=dag)


def test_only_what_the_targets_need_and_nobody_makes_again_stops_a_run(made):
    stale, other = f"{CELL}/finetune.json", "results/made-up/outliers/tiny_model.json"
    with pytest.raises(BadInput, match=r"train: 1 cell, code changed: owlore/optim/lowrank\.py"):
        reruns.refuse_what_would_stay(planning([], [stale, other]), made[0])
    reruns.refuse_what_would_stay(planning([stale], [stale, other]), made[0])
    reruns.refuse_what_would_stay(planning([], [other]), made[0])
