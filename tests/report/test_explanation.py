"""The way back from a number, where a result on the way is not what the study asks (made up)."""

from pathlib import Path

import pytest
from support.results_studies import METHODS, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare import lineage
from owlore.compare.accept import accept
from owlore.compare.results import load
from owlore.compare.tables import write_tables
from owlore.core.files import read_json, write_json
from owlore.report.explanation import explain

RUN = ["base", "full"]


def test_a_result_of_other_settings_is_named_on_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = made_up_study(run=RUN)
    write_made_up_results(study, tmp_path, memory=False)
    results = load(study, tmp_path)
    write_tables(results)
    lineage.write_sources(results)
    explain(study, tmp_path, "mmlu", "full:mmlu_mini")
    assert "proof" not in capsys.readouterr().out
    methods = METHODS | {"full": METHODS["full"] | {"learning_rate": 1e-3}}
    assert explain(made_up_study(run=RUN, methods=methods), tmp_path, "mmlu", "full:mmlu_mini") == 1
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "proof" in line]
    assert said.endswith("full/seed0/finetune.json settings changed: method.learning_rate")
    assert explain(made_up_study(run=RUN, methods=methods), tmp_path, "mmlu", "base:mmlu_mini") == 1
    assert "proof" not in capsys.readouterr().out  # the base model's weights are not made up


def test_tables_that_say_what_was_accepted_are_what_was_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = made_up_study(run=RUN)
    write_made_up_results(study, tmp_path, memory=False)
    path = tmp_path / "mini/tiny_model/full/seed0/finetune.json"
    values = read_json(path)
    values["proof"]["code"] = {}
    write_json(path, values)
    accept(study, tmp_path, tmp_path / "resources", [], "a rename")
    results = load(study, tmp_path)
    write_tables(results)
    lineage.write_sources(results)
    explain(study, tmp_path, "mmlu", "full:mmlu_mini")
    said = capsys.readouterr().out
    assert "tables/mmlu.md ok" in said and "proof" not in said
    assert "Accepted although" in (tmp_path / "tables" / "mmlu.md").read_text()
