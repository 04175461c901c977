"""Take results of other code as they are, on somebody's word, and say so wherever they are shown.

    owlore accept --study config.yaml --because "only the progress bar changed" mini/m/full/seed0

After an upgrade every result is of other code, also a cell that took days and that the change
cannot have touched. Its inputs and settings are checked all the same; only the code is accepted.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from owlore.compare import state
from owlore.compare.state import Result
from owlore.core import provenance
from owlore.core.errors import BadInput
from owlore.core.files import read_json, write_json
from owlore.records.base import Acceptance, Proof
from owlore.records.proof import ASIDE, CODE_CHANGED, NO_PROOF
from owlore.study.config import Study


def accept(
    study: Study, root: Path, resources: Path, names: Collection[str], because: str
) -> list[Result]:
    """Write into every result of other code that it is accepted; return those.

    Args:
        study: a checked study.
        root: `results/<study>`.
        resources: folder with `models/<name>`.
        names: cells, models or tracks whose results are meant; none: all.
        because: the reason, which the tables show.

    Raises:
        BadInput: a name is none of the study's results, or no reason is given.
    """
    if not because.strip():
        raise BadInput("--because: a reason is needed: the tables show it")
    results = state.of(study, root, resources)
    known = {result.what for result in results} - {""}
    for name in names:
        if name not in known:
            raise BadInput(f"{name}: no such result; there are {', '.join(sorted(known))}")
    taken = []
    for result in results:
        if names and result.what not in names:
            continue
        if result.rule == "train":
            _accept_checkpoints(result.path.parent, result.asked, because)
        if result.why.startswith((CODE_CHANGED, NO_PROOF)):
            _write(result.path, result.asked, because)
            taken.append(result)
    return taken


def _write(path: Path, now: Proof, because: str) -> None:
    """Add the acceptance to a Record; nothing else in the file changes."""
    values: dict[str, Any] = read_json(path)
    before = values.get("proof") or {**now.model_dump(mode="json"), "code": {}, "made": {}}
    values["proof"] = before | {"accepted": _acceptance(now, because)}
    write_json(path, values)


def _accept_checkpoints(folder: Path, now: Proof, because: str) -> None:
    """Put checkpoints of other code, which were set aside, back to where a training resumes."""
    for aside in sorted((folder / ASIDE).glob("checkpoint-*")):
        marker = aside / "owlore.json"
        values: dict[str, Any] = read_json(marker)
        values["proof"] |= {"accepted": _acceptance(now, because)}
        write_json(marker, values)
        target = folder / "checkpoints" / aside.name
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    shutil.rmtree(folder / ASIDE, ignore_errors=True)


def _acceptance(now: Proof, because: str) -> dict[str, Any]:
    word = Acceptance(code=now.code, because=because.strip(), date=provenance.now())
    return word.model_dump(mode="json")
