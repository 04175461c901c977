"""Does a result on disk prove what is asked for now? If it does, a stage does nothing.

A Record holds the Job that it answers, the code that computed it and what was read of its inputs.
A stage makes the same of what it is asked, and keeps what is there if they agree: lost records of
Snakemake's, a copied folder or a cell trained to the very same weights again cost seconds. With
OWLORE_AGAIN=1, which the workflow sets where a user forces a rule, nothing is kept.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from owlore.core import code
from owlore.core.errors import BadInput
from owlore.core.files import flattened, sha256_file
from owlore.core.progress import line
from owlore.records.base import Job, Proof, Record

AGAIN = "OWLORE_AGAIN"
CODE_CHANGED = "code changed"
NO_PROOF = "no proof: made by an older owlore"
ASIDE = "checkpoints-of-other-code"  # beside a cell's `checkpoints`
SAME = "is there, with the same inputs, settings and code"
SHOWN = 4  # files or keys that a reason names

AnyRecord = TypeVar("AnyRecord", bound=Record)


def of(job: Job, module: str, read: Mapping[str, str]) -> Proof:
    """Return what a result of this Job by this module would prove now.

    Args:
        job: what is asked.
        module: the stage's, such as "owlore.train.stage".
        read: input → hash of what is read of it.
    """
    ordered = dict(sorted(read.items()))
    return Proof(job=job.shown(), job_sha256=job.sha256, code=code.of(module), read=ordered)


def kept(kind: type[AnyRecord], path: Path, now: Proof, what: str) -> AnyRecord | None:
    """Return the Record at `path` if it proves `now`, and say so; else None.

    Args:
        kind: the Record's class.
        path: its file; what was made with it lies beside.
        now: what is asked.
        what: the stage and what it works on, for the line that is said.
    """
    if os.environ.get(AGAIN, "0") == "1" or not path.exists():
        return None
    try:
        record = kind.load(path)
    except BadInput:  # of before Records, or broken: made again
        return None
    if misfit(record.proof, now) or altered(record.proof, path.parent):
        return None
    line(f"{what}: {SAME} ({AGAIN}=1 computes it again)")
    return record


def misfit(before: Proof | None, now: Proof) -> str:
    """Say in plain words why a result does not prove what is asked now; empty if it does."""
    if before is None:
        return NO_PROOF
    if before.job_sha256 != now.job_sha256:
        return f"settings changed: {_listed(_changed_keys(before, now))}"
    changed = [name for name, value in now.read.items() if before.read.get(name) != value]
    if changed or before.read.keys() - now.read.keys():
        names = changed or sorted(before.read.keys() - now.read.keys())
        return f"input changed: {_listed(names)}"
    if before.code == now.code or (before.accepted and before.accepted.code == now.code):
        return ""
    return f"{CODE_CHANGED}: {_listed(code.differing(before.code, now.code))}"


def altered(before: Proof | None, folder: Path) -> str:
    """Say which file that was made with a Record is gone or another; empty if none is."""
    for name, sha256 in before.made.items() if before is not None else ():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if sha256_file(path) != sha256:
            return f"{name} was altered"
    return ""


def _changed_keys(before: Proof, now: Proof) -> list[str]:
    old, new = flattened(before.job), flattened(now.job)
    names = sorted(old.keys() | new.keys())
    return [name for name in names if old.get(name) != new.get(name)]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
