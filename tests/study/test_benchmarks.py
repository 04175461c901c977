"""The table of benchmark families: one row in it is all that a new family takes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from owlore.core import code
from owlore.records.stages import MODULES
from owlore.study.benchmarks import FAMILIES, LM_EVAL
from owlore.study.config import Comparison, Track

REPOSITORY = Path(__file__).parents[2]
ROW = '        Family("reasoning", title="Reasoning accuracy"),\n'
BEFORE = '        Family(\n            "mtbench",\n'
TASKS = {"wordnet_category": {"limit": 20}, "quartz_mini": {"limit": 20}}

# Runs on a copy of the package that has the row: a track's keys are made at import.
LOOK = """
import json, sys
from pathlib import Path

import jsonschema
from support.results_studies import MINI_TRACK, PAPER_TRACK, made_up_study, paper_like_study
from support.results_tree import write_made_up_results

from owlore.compare.paper import claims, comparable
from owlore.compare.results import load
from owlore.compare.tables import make_tables
from owlore.core.errors import BadInput
from owlore.report.summary import answer, limits
from owlore.study.schema import study_schema
from owlore.tracking.runs import cell_run
from owlore.tracking.stage import columns_of

block, root = {"tasks": json.loads(sys.argv[1])}, Path("made-up")
track = {**MINI_TRACK, "reasoning": block}
study = made_up_study(run=["base", "full", "owlore"], tracks={"mini": track})
papers = paper_like_study(tracks={"paper": {**PAPER_TRACK, "reasoning": block}})
jsonschema.validate(study.model_dump(mode="json", exclude_unset=True), study_schema())
write_made_up_results(study, root)
results = load(study, root)
tables = {table.name: table for table in make_tables(results)}
cell = study.cells()[-1]
run = cell_run(study, root, cell)
said = {
    "benchmarks": study.tracks["mini"].benchmarks,
    "tables": list(tables),
    "title": tables["reasoning"].title,
    "methods": [record["method"] for record in tables["reasoning"].records],
    "averages": [record["average"] for record in tables["reasoning"].records],
    "written": [entry.scores["reasoning"].average for entry in results.cells],
    "tested": sorted({record["benchmark"] for record in tables["significance"].records}),
    "checked": sorted({record["benchmark"] for record in tables["contamination"].records}),
    "notes": tables["reasoning"].notes,
    "metric": run.metrics["reasoning_average"],
    "children": sorted(run.children),
    "columns": columns_of(study),
    "claims": [claim.claim for claim in claims(results)],
    "comparable": comparable(study, "reasoning"),
    "papers": comparable(papers, "reasoning"),
    "without": comparable(paper_like_study(), "reasoning"),
    "sentences": answer(results)[0]["sentences"],
    "limits": limits(results),
}
(root / cell.path / "reasoning.json").unlink()
try:
    load(study, root)
except BadInput as error:
    said["missing"] = str(error)
print(json.dumps(said))
"""


def python(folder: Path, *arguments: str) -> str:
    """Run Python in `folder` with the package that lies there; return what it printed."""
    path = os.pathsep.join(map(str, (folder, REPOSITORY / "tests")))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and the workflow whose table of families has one row more."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("owlore", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__", ".snakemake")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    table = folder / "owlore" / "study" / "benchmarks.py"
    text = table.read_text()
    assert text.count(BEFORE) == 1
    table.write_text(text.replace(BEFORE, ROW + BEFORE))
    return folder


def test_one_row_makes_a_family(extended: Path):
    said = json.loads(python(extended, "-c", LOOK, json.dumps(TASKS)).splitlines()[-1])
    assert said["benchmarks"] == ["commonsense", "mmlu", "reasoning", "mtbench"]
    place = said["tables"].index("reasoning")
    assert said["tables"][place - 1 : place + 2] == ["gsm8k", "reasoning", "mtbench"]
    assert said["title"].startswith("Reasoning accuracy")
    assert said["methods"] == ["base", "full", "owlore"]
    assert said["averages"] == said["written"]
    assert "reasoning" in said["tested"]
    assert "reasoning" in said["checked"]
    assert said["metric"] == said["written"][-1]
    assert "reasoning" in said["children"]
    names = ("commonsense_average", "mmlu_average", "reasoning_average", "mtbench_overall")
    assert tuple(said["columns"][:4]) == names
    assert not any("reasoning" in claim.lower() for claim in said["claims"])
    assert any(sentence.startswith("reasoning: ") for sentence in said["sentences"])
    missing = "the paper does not have reasoning"
    for same, reason in (said["comparable"], said["papers"], said["without"]):
        assert not same
        assert missing in reason
    assert said["papers"][1] == said["without"][1] == missing
    assert any(missing in note for note in said["notes"])
    assert any(missing in limit for limit in said["limits"])
    assert said["missing"].endswith("`snakemake --cores all reasoning` makes it")


def test_one_row_makes_a_target(extended: Path):
    study = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    study["tracks"]["mini"]["reasoning"] = {"tasks": TASKS}
    (extended / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    table = "results/embedded/tables/reasoning.csv"
    printed = python(extended, "-m", "snakemake", "-n", "reasoning", table)
    outputs = r"output: (results/\S+)/reasoning\.json.*? (\S+)/samples/reasoning\.parquet"
    cells = re.findall(outputs, printed)
    assert len(cells) == len(set(cells)) > 1
    assert all(scores == samples for scores, samples in cells)
    assert table in printed
    assert re.search(r"^rule reasoning:", printed, re.M) or "localrule reasoning:" in printed


def test_the_table_of_families_imports_nothing_heavy():
    heavy = {"numpy", "pandas", "torch", "transformers", "pydantic", "lm_eval"}
    loaded = python(REPOSITORY, "-c", "import owlore.study.benchmarks, sys; print(*sys.modules)")
    assert not heavy & set(loaded.split())


def test_an_edit_of_the_table_makes_the_tables_again_and_scores_nothing_again():
    for stage in ("owlore.compare.stage", "owlore.report.page"):
        assert "study/benchmarks.py" in code.of(stage)
    for stage in set(MODULES.values()) - {"owlore.compare.stage", "owlore.report.page"}:
        assert "study/benchmarks.py" not in code.of(stage), stage


def test_a_track_has_a_block_for_each_family():
    assert set(Track.model_fields) == {"train", *FAMILIES}
    assert Track(train={"pool": 1}).benchmarks == []
    assert Track(train={"pool": 1}).lm_eval_benchmarks == {}


@pytest.mark.parametrize("name", FAMILIES)
def test_margins_are_in_the_unit_of_the_scores(name: str):
    comparison = Comparison(equivalence_margin=3, mtbench_margin=0.5)
    assert comparison.margin(name) == (0.03 if name in LM_EVAL else 0.5)


def test_the_readme_lists_every_target():
    text = (REPOSITORY / "README.md").read_text()
    listed = re.search(r"# one stage: ((?:[\w, ]|\n +#)+)", text)[1]
    names = set(re.findall(r"\w+", listed))
    rules = (REPOSITORY / "workflow" / "rules" / "targets.smk").read_text()
    handles = set(re.findall(r"^rule (\w+):", rules, re.M))
    assert names == handles | set(FAMILIES) | {"tables", "report", "track"}
