"""The defaults that Jobs leave out of their text, so that a changed one is noticed.

A Job's text has no defaults: a key that is new changes no identity. So a default that changes would
change a result and rerun nothing. `defaults.json` holds every default as it was when it came, and a
test compares: a changed one needs a new `version` of every Job that has it.

    python -m owlore.records.defaults    # writes defaults.json; refuses a change without a version
"""

import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from owlore.core.files import read_json, write_json
from owlore.records.base import Job
from owlore.records.contamination import ContaminationJob
from owlore.records.data import DataJob
from owlore.records.evaluation import EvaluationJob
from owlore.records.finetune import FinetuneJob
from owlore.records.memory import MemoryJob
from owlore.records.mtbench import AnswerJob, JudgeJob
from owlore.records.outliers import OutliersJob
from owlore.records.questions import QuestionsJob
from owlore.records.sources import ModelJob
from owlore.records.study import StudyJob

FILE = Path(__file__).with_name("defaults.json")
JOBS: tuple[type[Job], ...] = (
    ModelJob,
    QuestionsJob,
    DataJob,
    OutliersJob,
    FinetuneJob,
    EvaluationJob,
    AnswerJob,
    JudgeJob,
    ContaminationJob,
    MemoryJob,
    StudyJob,
)
Table = dict[str, dict[str, Any]]  # Job → its version and its defaults by place


def now() -> Table:
    """Return every Job's version and defaults, those of the blocks inside it included."""
    return {job.__name__: {"version": job.version, "defaults": _defaults(job)} for job in JOBS}


def changed(before: Table, after: Table) -> list[str]:
    """Return the defaults that changed, or went, while their Job's version did not."""
    found = []
    for name, job in before.items():
        if name not in after or after[name]["version"] != job["version"]:
            continue
        for place, value in job["defaults"].items():
            there = after[name]["defaults"].get(place, "gone")
            if there != value:
                found.append(f"{name}: {place}: {value!r} became {there!r}")
    return found


def _defaults(block: type[BaseModel]) -> dict[str, Any]:
    """Return the defaults of a block's keys, `Block.key` → value as JSON has it."""
    values: dict[str, Any] = {}
    for key, field in block.model_fields.items():
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            values[f"{block.__name__}.{key}"] = plain
        for inner in _blocks(field.annotation):
            values |= _defaults(inner)
    return values


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """Return the blocks named in an annotation such as `dict[str, Task] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for inner in get_args(annotation) for block in _blocks(inner)]


def main() -> int:
    """Write the file; refuse a changed default whose Job has the same version."""
    before = read_json(FILE) if FILE.exists() else {}
    wrong = changed(before, now())
    for text in wrong:
        print(f"{text}: give the Job a new version", file=sys.stderr)
    if not wrong:
        write_json(FILE, now())
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
