"""Reading a results tree: complete or a clear refusal (numbers made up, see fake_results)."""

from pathlib import Path

import pandas as pd
import pytest
from support.results_proofs import reprove
from support.results_studies import MINI_TRACK, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.results import Group, load
from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import read_json, write_json

CELL = "mini/tiny_model/owlore/seed0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_made_up_results(made_up_study(), tmp_path)
    return tmp_path


def change(path: Path, **values: object) -> None:
    write_json(path, read_json(path) | values)


def test_everything_is_read(root: Path):
    study = made_up_study()
    results = load(study, root)
    assert [entry.cell for entry in results.cells] == study.cells()
    owlore = results.of(Group("mini", "tiny_model"), "owlore")[0]
    assert owlore.finetune.model_dump(mode="json") == read_json(root / CELL / "finetune.json")
    assert owlore.scores["mmlu"].model_dump(mode="json") == read_json(root / CELL / "mmlu.json")
    assert len(owlore.samples["commonsense"]) == 200
    assert results.groups == results.scored("mtbench") == [("mini", "tiny_model")]
    assert set(results.outliers) == set(results.memory) == {"tiny_model"}
    (checked,) = results.contamination.values()
    assert checked.model_dump(mode="json") == read_json(root / "contamination" / "mini.json")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (f"{CELL}/finetune.json", "finetune"),
        (f"{CELL}/history.jsonl", "finetune"),
        (f"{CELL}/commonsense.json", "commonsense"),
        (f"{CELL}/samples/mmlu.parquet", "mmlu"),
        (f"{CELL}/mtbench/judgments.jsonl", "mtbench"),
        ("outliers/tiny_model.json", "outliers"),
        ("contamination/mini.json", "contamination"),
    ],
)
def test_a_missing_file_is_named_with_its_target(root: Path, name: str, target: str):
    (root / name).unlink()
    with pytest.raises(BadInput, match=f"{name}.*cores all {target}`"):
        load(made_up_study(), root)


def test_what_no_method_needs_may_be_missing(root: Path):
    (root / "outliers" / "tiny_model.json").unlink()
    (root / "memory" / "tiny_model.json").unlink()
    (root / "manifest.json").unlink()
    results = load(made_up_study(run=["base", "full", "lisa"]), root)
    assert (results.outliers, results.memory, results.manifest) == ({}, {}, None)


@pytest.mark.parametrize("benchmark", ["commonsense", "mmlu", "mtbench"])
def test_scores_of_other_weights_are_refused(root: Path, benchmark: str):
    change(root / CELL / f"{benchmark}.json", weights_sha256="f" * 64)
    with pytest.raises(OwloreError, match=f"{benchmark}.json: scored on weights ffffffffffff"):
        load(made_up_study(), root)


def test_scores_that_their_samples_do_not_give_are_refused(root: Path):
    path = root / CELL / "commonsense.json"
    summary = read_json(path)
    summary["tasks"]["quartz_mini"]["value"] += 0.05
    write_json(path, summary)
    with pytest.raises(OwloreError, match="quartz_mini: acc_norm"):
        load(made_up_study(), root)


def test_an_average_that_is_none_is_refused(root: Path):
    change(root / CELL / "commonsense.json", average=0.9)
    with pytest.raises(OwloreError, match=r"average: 0\.9 is not the mean"):
        load(made_up_study(), root)


def test_other_questions_are_refused(root: Path):
    path = root / CELL / "samples" / "mmlu.parquet"
    samples = pd.read_parquet(path)
    samples.loc[3, "doc_hash"] = "another question"
    samples.to_parquet(path, index=False)
    with pytest.raises(OwloreError, match="owlore/seed0: mmlu: its questions are not those"):
        load(made_up_study(), root)


def test_a_question_twice_is_refused(root: Path):
    path = root / CELL / "samples" / "mmlu.parquet"
    samples = pd.read_parquet(path)
    samples.loc[3, "doc_id"] = 4
    samples.to_parquet(path, index=False)
    with pytest.raises(OwloreError, match="twice"):
        load(made_up_study(), root)


def test_the_order_of_rows_on_disk_does_not_matter(root: Path):
    study = made_up_study()
    before = load(study, root)
    path = root / CELL / "samples" / "commonsense.parquet"
    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(path, index=False)
    reprove(study, root)
    after = load(study, root)
    for first, second in zip(before.cells, after.cells, strict=True):
        assert first.samples["commonsense"].equals(second.samples["commonsense"])


def test_a_file_that_is_not_what_its_name_says(root: Path):
    (root / CELL / "samples" / "mmlu.parquet").write_text("no parquet")
    with pytest.raises(BadInput, match=r"mmlu\.parquet: not a samples file"):
        load(made_up_study(), root)


def test_a_benchmark_that_the_track_has_not_needs_no_file(tmp_path: Path):
    track = {key: value for key, value in MINI_TRACK.items() if key != "mmlu"}
    study = made_up_study(tracks={"mini": track})
    write_made_up_results(study, tmp_path)
    results = load(study, tmp_path)
    assert results.scored("mmlu") == []
    assert "mmlu" not in results.cells[0].scores
