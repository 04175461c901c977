"""Results that do not prove what the study asks are refused, whatever their numbers (made up)."""

import json
import shutil
from pathlib import Path

import pytest
from support.results_studies import METHODS, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare import state
from owlore.compare.accept import accept
from owlore.compare.results import load
from owlore.compare.tables import make_tables
from owlore.core.errors import BadInput, OwloreError
from owlore.core.files import read_json, read_jsonl, write_json, write_jsonl
from owlore.records.base import Record
from owlore.records.contamination import ContaminationRecord
from owlore.records.evaluation import EvaluationRecord
from owlore.records.finetune import FinetuneRecord
from owlore.records.memory import MemoryRecord
from owlore.records.mtbench import AnswersRecord, JudgedRecord
from owlore.records.outliers import OutliersRecord
from owlore.records.questions import QuestionsRecord
from owlore.records.sources import ModelRecord
from owlore.records.study import Manifest

RUN = ["base", "full", "lora", "owlore"]
CELLS = Path("mini/tiny_model")
CHANGED = {"finetune": "optim/adamw.py", "mmlu": "evaluate/stage.py"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_made_up_results(made_up_study(run=RUN, seeds=[0, 1]), tmp_path, memory=False)
    return tmp_path


def test_made_up_results_prove_what_the_study_asks(tmp_path: Path):
    study, resources = made_up_study(seeds=[0, 1]), tmp_path / "resources"
    write_made_up_results(study, tmp_path, resources=resources)
    results = state.of(study, tmp_path, resources)
    assert state.unfit(results) == []
    assert {result.rule for result in results if not result.why} == {
        *("questions", "base_model", "score_outliers", "check_overlap", "simulate"),
        *("base", "train", "evaluate", "answer", "judge"),
    }
    assert load(study, tmp_path, resources).accepted == []


def test_another_learning_rate_refuses_the_cells_of_its_method(root: Path):
    methods = METHODS | {"lora": METHODS["lora"] | {"learning_rate": 1e-3}}
    with pytest.raises(OwloreError) as refused:
        load(made_up_study(run=RUN, seeds=[0, 1], methods=methods), root)
    said = str(refused.value)
    assert "train: 2 cells, settings changed: method.learning_rate: " in said
    named = {cell for cell in made_up_study(run=RUN, seeds=[0, 1]).cells() if cell.path in said}
    assert {(cell.method, cell.seed) for cell in named} == {("lora", 0), ("lora", 1)}
    assert "`owlore run`" in said and "`owlore accept`" in said
    assert len(said.splitlines()) == 1


def test_long_lists_of_files_are_cut(root: Path):
    study = made_up_study(run=RUN, seeds=[0, 1], training={"max_steps": 30, "weight_decay": 0.5})
    for cell in study.cells():
        for name in ("commonsense", "mmlu"):
            path = root / cell.path / f"{name}.json"
            values = read_json(path)
            values["proof"]["code"] = {"x.py": "0"}
            write_json(path, values)
    with pytest.raises(OwloreError, match=r" and 10 more\. `owlore run`"):
        load(study, root)  # 6 trainings, 14 scores


def test_a_finetune_json_of_another_cell_is_refused(root: Path):
    study, full, lora = made_up_study(run=RUN, seeds=[0, 1]), CELLS / "full", CELLS / "lora"
    kept = (root / lora / "seed0" / "finetune.json").read_text()
    shutil.copy(root / full / "seed0" / "finetune.json", root / lora / "seed0" / "finetune.json")
    with pytest.raises(OwloreError, match=r"lora/seed0/\w+.json: scored on weights"):
        load(study, root)
    # With its scores, so that all in the folder agrees
    (root / lora / "seed0" / "finetune.json").write_text(kept)
    shutil.rmtree(root / lora / "seed0")
    shutil.copytree(root / full / "seed0", root / lora / "seed0")
    with pytest.raises(OwloreError, match=r"train: 1 cell, settings changed: cell\.method, "):
        load(study, root)
    # Of another seed, trained on other rows
    shutil.rmtree(root / lora / "seed0")
    shutil.copytree(root / lora / "seed1", root / lora / "seed0")
    with pytest.raises(OwloreError, match=r"lora/seed0 was trained on"):
        load(study, root)


def test_results_of_before_there_were_proofs_are_refused(root: Path):
    path = root / CELLS / "lora" / "seed1" / "finetune.json"
    write_json(path, read_json(path) | {"proof": None})
    why = "train: 1 cell, no proof: made by an older owlore: .*lora/seed1/finetune.json"
    with pytest.raises(OwloreError, match=why):
        load(made_up_study(run=RUN, seeds=[0, 1]), root)


def test_an_accepted_result_is_read_and_its_tables_say_so(root: Path):
    study = made_up_study(run=RUN, seeds=[0, 1])
    cell = (CELLS / "lora" / "seed0").as_posix()
    for name in CHANGED:
        path = root / cell / f"{name}.json"
        values = read_json(path)
        values["proof"]["code"][CHANGED[name]] = "0" * 12
        write_json(path, values)
    with pytest.raises(OwloreError, match=r"1 cell, code changed: owlore/optim/adamw\.py"):
        load(study, root)
    taken = accept(study, root, root / "resources", [cell], "only a bar moved")
    assert {result.path.stem for result in taken} == {"finetune", "mmlu"}
    notes = {table.name: table.notes for table in make_tables(load(study, root))}
    start = "Accepted although made by other code: "
    trained = f"{cell} (train: only a bar moved)"
    both = f"{trained}; {cell} (evaluate: only a bar moved)"
    for name in ("commonsense", "mtbench", "mtbench_differences", "efficiency"):
        assert f"{start}{trained}." in notes[name]
    for name in ("mmlu", "significance", "claims", "contamination"):
        assert f"{start}{both}." in notes[name]


def test_nothing_is_said_where_nothing_was_accepted(root: Path):
    tables = make_tables(load(made_up_study(run=RUN, seeds=[0, 1]), root))
    assert not any("Accepted" in note for table in tables for note in table.notes)


# A key that is renamed where it is written

CELL = "mini/tiny_model/owlore/seed0"
FILES = {
    "manifest.json": Manifest,
    "questions/questions.json": QuestionsRecord,
    "resources/models/tiny_model/model.json": ModelRecord,
    "outliers/tiny_model.json": OutliersRecord,
    "memory/tiny_model.json": MemoryRecord,
    "contamination/mini.json": ContaminationRecord,
    f"{CELL}/finetune.json": FinetuneRecord,
    f"{CELL}/mmlu.json": EvaluationRecord,
    f"{CELL}/mtbench/answers.json": AnswersRecord,
    f"{CELL}/mtbench.json": JudgedRecord,
}
KEYS = [
    (file, key)
    for file, kind in FILES.items()
    for key, field in kind.model_fields.items()
    if field.is_required()
]
DEEPER = [
    ("outliers/tiny_model.json", "layers.3.outlier_ratio"),
    ("memory/tiny_model.json", "rows.0.peak_gib"),
    ("contamination/mini.json", "benchmarks.mmlu.mmlu_mini.doc_ids"),
    (f"{CELL}/mmlu.json", "tasks.mmlu_mini.value"),
    (f"{CELL}/mtbench.json", "judge.label"),
    (f"{CELL}/finetune.json", "proof.job_sha256"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    write_made_up_results(made_up_study(run=["owlore"]), root, resources=root / "resources")
    return root


def renamed(value: object, keys: list[str]) -> None:
    """Rename the last of the keys inside nested lists and mappings."""
    place, *deeper = keys
    if isinstance(value, list):
        renamed(value[int(place)], deeper)
    elif isinstance(value, dict) and deeper:
        renamed(value[place], deeper)
    elif isinstance(value, dict):
        value[f"{place}_now"] = value.pop(place)


@pytest.mark.parametrize(("file", "key"), [*KEYS, *DEEPER])
def test_a_renamed_key_is_named_with_its_file(whole: Path, file: str, key: str):
    path = whole / file
    kept = path.read_text()
    value = json.loads(kept)
    renamed(value, key.split("."))
    write_json(path, value)
    try:
        with pytest.raises(OwloreError) as refused:
            load(made_up_study(run=["owlore"]), whole, whole / "resources")
    finally:
        path.write_text(kept)
    said = str(refused.value)
    assert file in said
    assert f"{key}: this key is required" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (f"{CELL}/history.jsonl", "loss"),
        (f"{CELL}/mtbench/judgments.jsonl", "score"),
        ("questions/mtbench/question.jsonl", "category"),
    ],
)
def test_a_renamed_column_is_named_with_its_file(whole: Path, file: str, key: str):
    path = whole / file
    kept = path.read_text()
    rows = read_jsonl(path)
    renamed(rows[2], [key])
    write_jsonl(path, rows)
    try:
        with pytest.raises(BadInput, match=f"{file}: row 3: {key}: this key is required"):
            load(made_up_study(run=["owlore"]), whole, whole / "resources")
    finally:
        path.write_text(kept)


def test_a_file_that_lacks_what_came_later_is_read_with_it_empty(whole: Path):
    path = whole / CELL / "mtbench.json"
    kept = path.read_text()
    later = ("unrated", "judgings", "judgings_sd", "prompts_sha256", "requests")
    write_json(path, {key: value for key, value in json.loads(kept).items() if key not in later})
    try:
        (entry,) = load(made_up_study(run=["owlore"]), whole).cells
    finally:
        path.write_text(kept)
    scores = entry.judged[""].scores
    assert (scores.unrated, scores.judgings, scores.prompts_sha256) == (0, 1, None)


def test_every_rule_has_its_record():
    assert all(issubclass(kind, Record) for kind in state.RECORDS.values())
    rules = {result.rule for result in state.of(made_up_study(), Path("none"), Path("none"))}
    assert rules <= state.RECORDS.keys()
