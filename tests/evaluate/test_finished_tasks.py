"""An evaluation that is killed goes on behind the tasks that it had finished."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from support.scoring import questions
from support.small_models import save_tiny

from owlore.core.files import write_jsonl
from owlore.evaluate.finished_tasks import FinishedTasks


def test_finished_tasks_are_of_these_weights_and_questions_only(tmp_path: Path) -> None:
    finished = FinishedTasks(tmp_path, {"weights": "a"})
    finished.keep("arc", [["q1"]], [{"doc_id": 0}])
    assert finished.rows("arc", [["q1"]]) == [{"doc_id": 0}]
    assert finished.rows("arc", [["q2"]]) is None
    assert FinishedTasks(tmp_path, {"weights": "b"}).rows("arc", [["q1"]]) is None


def test_a_process_that_is_killed_asks_no_finished_task_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_jsonl(data / "wordnet_category_test.jsonl", questions(12, "category"))
    write_jsonl(data / "mmlu_mini_test.jsonl", questions(4000, "mmlu"))  # long enough to be hit
    save_tiny(tmp_path / "model")

    def command(name: str) -> list[str]:
        return [
            *(sys.executable, "-m", "owlore", "evaluate", "--model", str(tmp_path / "model")),
            *("--tasks", "wordnet_category,mmlu_mini", "--data-dir", str(data)),
            *("--output", str(tmp_path / name / "mini.json")),
            *("--samples", str(tmp_path / name / "samples")),
        ]

    def result(name: str) -> tuple[dict[str, object], pd.DataFrame]:
        record = json.loads((tmp_path / name / "mini.json").read_text())
        return record["tasks"], pd.read_parquet(tmp_path / name / "samples" / "mini.parquet")

    whole = subprocess.run(command("whole"), capture_output=True, text=True, check=True)
    assert "finished before" not in whole.stdout

    killed = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL)
    parts = tmp_path / "killed" / "samples" / ".mini.parts"
    deadline = time.monotonic() + 120
    while not list(parts.glob("wordnet_category-*.jsonl")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "mini.json").exists()

    again = subprocess.run(command("killed"), capture_output=True, text=True, check=True)
    assert "wordnet_category: was finished before" in again.stdout
    assert "mmlu_mini: was finished before" not in again.stdout
    (record, rows), (expected, expected_rows) = result("killed"), result("whole")
    assert record == expected and rows.equals(expected_rows)
    assert not parts.exists()
