"""The real workflow on a tiny model: what runs, what runs again, and what does not.

Every assertion is about jobs that were really executed, not about a dry run.
"""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
import yaml
from support.workspace import REPOSITORY, Workspace

pytestmark = pytest.mark.workflow
CELLS = ["base/seed0", "full/seed0", "owlore/seed0"]
CELL_FILES = ["finetune.json", "history.jsonl", "commonsense.json", "samples/commonsense.parquet"]
CELL_FILES += ["mtbench/answers.jsonl", "mtbench/judgments.jsonl", "mtbench.json"]
LAST = ["tables", "report", "track", "all"]  # what any new number runs again


def cell_jobs(cell: str, *, trained: bool = True) -> set[str]:
    rules = ["train" if trained else "base", "evaluate", "answer", "judge", "track_cell"]
    return {f"{rule}:{cell}" for rule in rules}


def test_the_first_run_does_every_stage_once(finished: Workspace):
    once = [
        "archive",
        "base_model",
        "questions",
        "training_data",
        "check_overlap",
        "score_outliers",
    ]
    once.append("tracking_init")
    expected = {*once, *LAST, *cell_jobs("base/seed0", trained=False)}
    expected |= cell_jobs("full/seed0") | cell_jobs("owlore/seed0")
    assert sorted(finished.first_run) == sorted(expected)


def test_results_have_the_documented_names(finished: Workspace):
    for cell in CELLS:
        folder = finished.root / "mini" / "toy" / cell
        for name in CELL_FILES:
            assert (folder / name).is_file(), f"{cell}/{name}"
        weights = json.loads((folder / "finetune.json").read_text())["weights_sha256"]
        for name in ("commonsense", "mtbench"):
            scored = json.loads((folder / f"{name}.json").read_text())
            assert scored["weights_sha256"] == weights
    for name in (
        "manifest.json",
        "outliers/toy.json",
        "contamination/mini.json",
        "report/index.html",
        "report/answers.html",
        "mlflow/mlflow.db",
    ):
        assert (finished.root / name).is_file()
    with open(finished.root / "tables" / "commonsense.csv") as stream:
        assert [row["method"] for row in csv.DictReader(stream)] == ["base", "full", "owlore"]


def test_a_second_run_has_nothing_to_do(copied: Workspace):
    started = time.monotonic()
    assert copied.snakemake() == []
    assert "Nothing to be done" in copied.printed
    assert time.monotonic() - started < 10


def test_touching_anything_trains_nothing(copied: Workspace):
    """Sources, study, inputs and results: a fresh checkout or a copy has new time stamps."""
    later = time.time() + 60
    for file in copied.folder.rglob("*"):
        if file.is_file() and ".snakemake" not in file.parts and "mlflow" not in file.parts:
            os.utime(file, (later, later))
    assert copied.snakemake() == []


def test_reordered_keys_train_nothing(copied: Workspace):
    study = yaml.safe_load((copied.folder / "study.yaml").read_text())

    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return value

    (copied.folder / "study.yaml").write_text(yaml.safe_dump(turned(study), sort_keys=False))
    ran = set(copied.snakemake())
    assert not ran & {"base_model", "questions", "training_data", "score_outliers"}
    assert not any(":" in job for job in ran), ran


def test_a_changed_learning_rate_reruns_that_method_and_the_tables(copied: Workspace):
    copied.study("methods.full.learning_rate", 0.002)
    assert set(copied.snakemake()) == cell_jobs("full/seed0") | set(LAST)


def test_an_added_seed_runs_only_the_new_cells(copied: Workspace):
    copied.study("seeds", [0, 1])
    ran = set(copied.snakemake())
    new = cell_jobs("full/seed1") | cell_jobs("owlore/seed1")
    assert ran == new | set(LAST) | {"training_data", "check_overlap"}


def test_an_added_method_runs_only_its_cells(copied: Workspace):
    lisa = {"trainable": "layers", "sampling": "uniform", "gamma": 1, "interval_steps": 2}
    copied.study("methods.lisa", {**lisa, "learning_rate": 0.001})
    copied.study("run", ["base", "full", "owlore", "lisa"])
    assert set(copied.snakemake()) == cell_jobs("lisa/seed0") | set(LAST)


def test_a_further_judge_judges_the_answers_at_hand(copied: Workspace):
    judge = {"provider": "transformers", "model": "base"}
    copied.study("tracks.mini.mtbench.further_judges", {"again": judge})
    jobs = {f"{rule}:{cell}" for rule in ("judge_further", "track_cell") for cell in CELLS}
    assert set(copied.snakemake()) == jobs | set(LAST)
    for cell in CELLS:
        folder = copied.root / "mini" / "toy" / cell
        first, again = (
            json.loads(file.read_text())["overall"]
            for file in (folder / "mtbench.json", folder / "mtbench" / "again" / "mtbench.json")
        )
        assert first == again
    with open(copied.root / "tables" / "mtbench.csv") as stream:
        assert [row["judge"] for row in csv.DictReader(stream)] == [""] * 3 + ["again"] * 3


def test_an_edited_plot_module_trains_nothing(copied: Workspace):
    figures = copied.folder / "code" / "owlore" / "compare" / "figures.py"
    figures.write_text(figures.read_text() + "\nEDITED = 1\n")
    assert copied.snakemake() == LAST


def test_an_edited_training_module_trains_again(copied: Workspace):
    sampling = copied.folder / "code" / "owlore" / "train" / "sampling.py"
    sampling.write_text(sampling.read_text() + "\nEDITED = 1\n")
    ran = set(copied.snakemake("finetune"))
    assert ran == {"train:full/seed0", "train:owlore/seed0", "finetune"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("outliers", {"score_outliers", "outliers"}),
        ("mtbench", {"answer", "judge", "mtbench"}),
        ("results/tiny/mini/toy/full/seed0/commonsense.json", {"evaluate"}),
    ],
)
def test_single_stages_by_target(target, expected, fresh: Workspace):
    ran = {job.split(":")[0] for job in fresh.snakemake(target)}
    assert expected <= ran
    assert not ran & {"tables", "report", "track"}
    if target == "outliers":
        assert "train" not in ran


def test_a_stage_can_be_forced(copied: Workspace):
    ran = copied.snakemake("report", "-R", "report")
    assert ran == ["report"]


def test_deleted_database_is_rebuilt_by_forcing_track(copied: Workspace):
    shutil.rmtree(copied.root / "mlflow")
    assert set(copied.snakemake("-R", "track")) == {"track", "all"}
    with sqlite3.connect(copied.root / "mlflow" / "mlflow.db") as database:
        names = database.execute(
            "select count(*) from tags where key = 'owlore.key'"
            " and run_uuid in (select run_uuid from runs where lifecycle_stage = 'active')"
        ).fetchone()
    assert names[0] >= len(CELLS) + 1


def test_snakemakes_own_report(copied: Workspace):
    copied.snakemake("--report", "report.html")
    page = (copied.folder / "report.html").read_text()
    assert "Figures" in page and len(page) > 100_000


def test_a_number_is_traced_to_files_that_nobody_altered(copied: Workspace):
    def explain(table: str, cell: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "owlore", "explain", table, cell, "--study", "study.yaml"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=copied.folder, env=copied.env
        )
        return done.returncode, done.stdout + done.stderr

    code, printed = explain("commonsense", "owlore:wordnet_antonym")
    assert code == 0 and "everything on the way is what was recorded" in printed, printed
    cell = copied.root / "mini" / "toy" / "owlore" / "seed0"
    for file in ("commonsense.json", "samples/commonsense.parquet", "model"):
        assert str((cell / file).relative_to(copied.folder)) in printed
    assert "mtbench.json" not in printed and "full/seed0" not in printed
    for table, row in (("efficiency", "full:seconds"), ("mtbench", "base:overall")):
        assert explain(table, row)[0] == 0

    for file, old, new in (
        (cell / "finetune.json", b'"threads"', b'"thread5"'),
        (cell / "commonsense.json", b'"seconds"', b'"second5"'),
        (cell / "samples" / "commonsense.parquet", b"pandas", b"pandaz"),
        (cell / "model" / "model.safetensors", None, None),
        (copied.root / "data" / "mini" / "seed0.jsonl", b"{", b"{ "),
        (copied.root / "outliers" / "toy.json", b'"seconds"', b'"second5"'),
        (copied.root / "tables" / "commonsense.csv", b"owlore", b"0wlore"),
        (copied.folder / "resources" / "models" / "toy" / "model.safetensors", None, None),
    ):
        before = file.read_bytes()
        after = (
            before[:-1] + bytes([before[-1] ^ 1]) if old is None else before.replace(old, new, 1)
        )
        assert after != before
        file.write_bytes(after)
        code, printed = explain("commonsense", "owlore:wordnet_antonym")
        assert code == 1 and "not what was recorded" in printed, (file, printed)
        assert "Traceback" not in printed
        file.write_bytes(before)
    file.unlink()
    assert explain("commonsense", "owlore:wordnet_antonym")[0] == 1
    assert explain("commonsense", "owlore:averages")[0] == 2


def test_bad_study_stops_snakemake_with_exit_code_2(fresh: Workspace):
    fresh.study("methods.full.learning_rate", -1)
    fresh.snakemake(expect=2)
    assert "methods.full: learning_rate: -1" in fresh.printed
    assert "Traceback" not in fresh.printed
    assert not (fresh.folder / "results").exists()


def test_what_does_not_fit_the_model_stops_before_training(fresh: Workspace):
    fresh.study("methods.owlore.gamma", 9)
    ran = fresh.snakemake(expect=1)
    assert "methods.owlore.gamma: 9: the model has 4 decoder layers" in fresh.printed
    assert not {job.split(":")[0] for job in ran} & {
        "train",
        "score_outliers",
        "evaluate",
        "answer",
    }


@pytest.mark.parametrize("tool", [["snakemake", "--lint"], ["snakefmt", "--check", "workflow"]])
def test_the_workflow_is_clean(tool):
    done = subprocess.run([sys.executable, "-m", *tool], cwd=REPOSITORY, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
