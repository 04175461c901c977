"""The way back from a number, over made-up results; test_workflow.py goes it over real ones."""

import pytest
from support.results_studies import fake_study
from support.results_tree import write_fake_results

from owlore.compare.lineage import write_sources
from owlore.compare.results import load
from owlore.compare.tables import write_tables
from owlore.core.errors import BadInput
from owlore.core.files import read_json
from owlore.report.explanation import explain


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root, study = tmp_path_factory.mktemp("explained"), fake_study(run=["base", "full"])
    write_fake_results(study, root)
    results = load(study, root)
    write_tables(results)
    write_sources(results)
    return study, root


def printed(made, capsys, cell, code):
    assert explain(*made, "commonsense", cell) == code
    return capsys.readouterr().out


def test_every_step_is_named_with_its_state(made, capsys):
    _, root = made
    folder = root / "mini" / "tiny_model" / "full" / "seed0"
    out = printed(made, capsys, "full:average", 1)
    first, *steps = out.splitlines()
    assert first.startswith("commonsense full:average = ")
    for file in ("commonsense.json", "finetune.json", "samples/commonsense.parquet"):
        line = next(step for step in steps if f" {folder / file} " in step)
        assert line.endswith(" ok")
    assert "base/seed0" not in out and "mmlu" not in out, "other cells and benchmarks play no part"
    # The weights are made up: nobody wrote them.
    weights = read_json(folder / "finetune.json")["model_dir"]
    assert any(weights in step and step.endswith("missing") for step in steps)
    assert steps[-1].startswith("not what was recorded: ") and weights in steps[-1]
    assert f"snakemake --cores all --force {folder.as_posix()}/finetune.json" in out


@pytest.mark.parametrize("file", ["commonsense.json", "finetune.json"])
def test_an_altered_file_is_named_even_where_it_cannot_be_read_any_more(file, made, capsys):
    path = made[1] / "mini" / "tiny_model" / "full" / "seed0" / file
    before = path.read_bytes()
    for after in (before.replace(b'"seconds"', b'"second5"', 1), b"{}", b"torn"):
        path.write_bytes(after)
        try:
            assert str(path) in printed(made, capsys, "full:average", 1).splitlines()[-1]
        finally:
            path.write_bytes(before)


@pytest.mark.parametrize(
    ("table", "cell", "message"),
    [
        ("comonsense", "full:average", r"no such table \(did you mean commonsense"),
        ("commonsense", "fool:average", "fool:average: commonsense has no row 'fool'"),
        ("commonsense", "full:averag", r"has no column 'averag' \(did you mean average\?\)"),
        ("commonsense", "full", "full: expected ROW:COLUMN"),
    ],
)
def test_names_that_are_not_there_are_refused(table, cell, message, made):
    with pytest.raises(BadInput, match=message):
        explain(*made, table, cell)
