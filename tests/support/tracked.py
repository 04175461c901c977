"""A study's made-up results, and how the tests track them and look into the database."""

from pathlib import Path
from typing import Any

from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.core.files import read_json, write_json, write_jsonl, write_text
from owlore.study.config import Cell
from owlore.tracking import stage as tracking
from owlore.tracking.store import MlflowClient, ViewType

METHODS = ["base", "full", "lisa"]
STUDY = made_up_study(run=METHODS)
BASE, FULL, LISA = STUDY.cells()
STAGES = {"finetune", "commonsense", "mmlu", "mtbench"}


def write_results(root: Path) -> None:
    write_made_up_results(STUDY, root)
    answers = []
    for number in range(81, 89):
        answers.append({"question_id": number, "choices": [{"index": 0, "turns": ["a < b", "no"]}]})
    for cell in STUDY.cells():
        write_jsonl(root / cell.path / "mtbench" / "answers.jsonl", answers)
    questions = [
        {"question_id": row["question_id"], "category": "writing", "turns": ["Why?", "Sure?"]}
        for row in answers
    ]
    write_jsonl(root / "questions" / "mtbench" / "question.jsonl", questions)
    for name in ("index", "answers"):
        write_text(root / "report" / f"{name}.html", "<p>report</p>\n")
    write_text(root / "tables" / "commonsense.csv", "method,average\nlisa,0.5\n")
    write_text(root / "figures" / "pareto.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>\n")


def client(root: Path) -> MlflowClient:
    uri = f"sqlite:///{root / 'mlflow' / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs(root: Path, view: str = ViewType.ACTIVE_ONLY) -> list[Any]:
    experiment = client(root).get_experiment_by_name("made-up")
    assert experiment is not None
    return list(client(root).search_runs([experiment.experiment_id], run_view_type=view))


def names(root: Path) -> list[str]:
    return sorted(run.info.run_name for run in runs(root))


def track(root: Path, cell: Cell = LISA) -> dict[str, Any]:
    receipt = tracking.receipt_path(root, cell.path)
    tracking.track_cell(STUDY, root, cell, receipt)
    value = read_json(receipt)
    assert isinstance(value, dict)
    return value


def edit(path: Path, **values: Any) -> None:
    write_json(path, read_json(path) | values)
