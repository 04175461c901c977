"""The page on result files, field by field: `python -m owlore.plan.results_page`.

It is made of the Records that write and read them, under what a person wrote about the folder, so
that it cannot fall behind. A test keeps results/README.md in step.
"""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from owlore.core.files import write_text
from owlore.core.provenance import REPOSITORY
from owlore.records.base import Part
from owlore.records.contamination import ContaminationRecord
from owlore.records.data import DataRecord
from owlore.records.evaluation import EvaluationRecord
from owlore.records.finetune import FinetuneRecord, HistoryRow
from owlore.records.memory import MemoryRecord
from owlore.records.mtbench import AnswersRecord, JudgedRecord
from owlore.records.outliers import OutliersRecord
from owlore.records.questions import QuestionsRecord
from owlore.records.sources import ModelRecord
from owlore.records.study import Manifest

PAGE = REPOSITORY / "results" / "README.md"
START = "## Fields"  # what follows on the page is generated
CELL = "<track>/<model>/<method>/seed<k>"
FILES: dict[str, type[Part]] = {
    "manifest.json": Manifest,
    "resources/models/<model>/model.json": ModelRecord,
    "questions/questions.json": QuestionsRecord,
    "data/<track>/seed<k>.json": DataRecord,
    "outliers/<model>.json": OutliersRecord,
    "memory/<model>.json": MemoryRecord,
    "contamination/<track>.json": ContaminationRecord,
    f"{CELL}/finetune.json": FinetuneRecord,
    f"{CELL}/history.jsonl": HistoryRow,
    f"{CELL}/<benchmark>.json": EvaluationRecord,
    f"{CELL}/mtbench/answers.json": AnswersRecord,
    f"{CELL}/mtbench.json": JudgedRecord,
}
NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything"}


def text(page: str) -> str:
    """Return the page with its fields as the Records have them now.

    Args:
        page: the page as it is; all before "## Fields" stays.
    """
    written, _, _ = page.partition(f"{START}\n")
    parts = dict.fromkeys(part for kind in FILES.values() for part in _parts_of(kind))
    lines = [
        START,
        "",
        "Made of the classes in `owlore/records`. A field that is not required may be missing in a",
        "file of an older owlore and is then read as empty.",
    ]
    for file, kind in FILES.items():
        lines += ["", f"### `{file}`", "", *_table(kind)]
    for part in sorted(parts, key=lambda part: part.__name__):
        lines += ["", f"### {part.__name__}", "", *_table(part)]
    return written + "\n".join(lines) + "\n"


def _table(kind: type[Part]) -> Iterator[str]:
    yield " ".join((kind.__doc__ or "").split())
    yield ""
    yield "| field | type | required | meaning |"
    yield "|---|---|---|---|"
    for name, field in kind.model_fields.items():
        required = "yes" if field.is_required() else ""
        yield f"| `{name}` | {_named(field.annotation)} | {required} | {field.description or ''} |"


def _named(annotation: Any) -> str:
    """Return what a person calls a type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_named(one) for one in inner)
    if annotation is NoneType:
        return "null"
    if origin is list:
        return f"list of {_named(inner[0])}"
    if origin is tuple:
        return f"{len(inner)} × {_named(inner[0])}"
    if origin is dict:
        return f"{_named(inner[1])} by name"
    if _is_part(annotation):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return NAMES[annotation]


def _parts_of(kind: type[Part]) -> Iterator[type[Part]]:
    """Yield the blocks inside a Record, and those inside them."""
    for field in kind.model_fields.values():
        for part in _in(field.annotation):
            yield part
            yield from _parts_of(part)


def _in(annotation: Any) -> Iterator[type[Part]]:
    if _is_part(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from _in(inner)


def _is_part(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Part)


def write(path: Path = PAGE) -> None:
    """Bring the page's fields to what the Records have."""
    write_text(path, text(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    write()
