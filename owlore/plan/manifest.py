"""Who, when, where and with what a study was started: study.json and manifest.json."""

import sys
from pathlib import Path

from owlore.core import provenance
from owlore.core.files import canonical_json, read_json, sha256_file, sha256_text, write_json
from owlore.records.base import Git
from owlore.records.study import Manifest
from owlore.study.config import Study


def write_study(study: Study, folder: Path) -> None:
    """Write study.json (the whole study, defaults filled in) and manifest.json into `folder`.

    The workflow does it whenever it starts; a manifest that would only say a later time stays.
    """
    write_json(folder / "study.json", study.model_dump(mode="json"))
    file = folder / "manifest.json"
    earlier = read_json(file) if file.exists() else {}
    now = manifest(study).model_dump(mode="json")
    if {**now, "started": earlier.get("started")} != earlier:
        write_json(file, now)


def manifest(study: Study) -> Manifest:
    """Return who, when, where and with what a study was started."""
    return Manifest(
        study=study.study,
        started=provenance.now(),
        machine=provenance.machine(),
        versions=provenance.versions(),
        git=Git.model_validate(provenance.git_state()),
        lock_sha256=sha256_file(provenance.LOCK) if provenance.LOCK.exists() else None,
        study_sha256=sha256_text(canonical_json(study.model_dump(mode="json"))),
        python=sys.version.split()[0],
    )
