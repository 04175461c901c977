"""Files that must stay in step: schema, lock, environments, studies, entry points."""

import importlib.util
import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
from packaging.requirements import Requirement

from owlore.cli.command_table import COMMANDS
from owlore.cli.main import main
from owlore.core.parsing import load_yaml
from owlore.study.config import load_study
from owlore.study.schema import text

REPOSITORY = Path(__file__).resolve().parent.parent
STUDIES = [REPOSITORY / "config.yaml", *sorted((REPOSITORY / "workflow/studies").glob("*.yaml"))]
LOCK = REPOSITORY / "envs" / "requirements.lock"


def pins() -> dict[str, str]:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    return {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in (line.split("==") for line in lines)
    }


def test_the_schema_is_the_typed_config():
    committed = (REPOSITORY / "workflow/schemas/study.schema.json").read_text()
    assert committed.strip() == text(), "run: owlore schema > workflow/schemas/study.schema.json"


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_valid(study):
    load_study(study)
    schema = json.loads((REPOSITORY / "workflow/schemas/study.schema.json").read_text())
    jsonschema.validate(load_yaml(study), schema)


def test_a_study_is_named_like_its_file():
    for study in STUDIES[1:]:
        assert load_study(study).study == study.stem


def test_the_lock_has_every_dependency_and_no_local_builds():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = pins()
    for requirement in map(Requirement, wanted):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(locked[name]), requirement
    assert not [version for version in locked.values() if "+" in version]


def test_what_is_installed_is_what_the_lock_says():
    for name, version in pins().items():
        assert metadata.version(name).split("+")[0] == version, name


def test_the_conda_environment_is_generated_from_the_lock():
    spec = importlib.util.spec_from_file_location("lock", REPOSITORY / "envs" / "lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    committed = (REPOSITORY / "envs" / "owlore.yaml").read_text()
    assert committed == module.conda(LOCK.read_text()), "run: python envs/lock.py conda"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "usage: owlore" in capsys.readouterr().out


def test_no_pickle_is_loaded_and_no_remote_code_trusted():
    for file in (REPOSITORY / "owlore").rglob("*.py"):
        source = file.read_text()
        assert "trust_remote_code=True" not in source, file
        assert "import pickle" not in source, file
        for call in re.findall(r"torch\.load\([^)]*\)", source):
            assert "weights_only=True" in call, file


BENCHMARKS = sorted(path.stem for path in (REPOSITORY / "benchmarks/results").glob("*.md"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_readmes_benchmarks_are_the_committed_ones(name):
    text = (REPOSITORY / "README.md").read_text()
    shown = re.search(rf"<!-- benchmark: {name} -->\n(.*?)\n?<!-- /benchmark -->", text, re.S)[1]
    assert shown == (REPOSITORY / "benchmarks" / "results" / f"{name}.md").read_text().strip()


@pytest.mark.parametrize("name", ["commonsense", "efficiency"])
def test_the_readmes_tables_are_the_reference_runs(name):
    text = (REPOSITORY / "README.md").read_text()
    shown = re.search(rf"<!-- table: {name} -->\n(.*?)\n?<!-- /table -->", text, re.S)[1]
    committed = (REPOSITORY / "results" / "reference" / "tables" / f"{name}.md").read_text()
    lines = [line for line in committed.splitlines() if line.startswith("|")]
    assert shown.strip().splitlines() == lines


def test_links_inside_the_documents_lead_somewhere():
    for document in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
            if not target.startswith(("http", "mailto")):
                assert (document.parent / target).exists(), f"{document.name}: {target}"
