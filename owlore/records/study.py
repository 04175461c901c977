"""A whole study: the tables' and the report's Job, and `manifest.json`."""

import json
from typing import Any, Self

from pydantic import Field

from owlore.records.base import Git, Job, Part
from owlore.records.finetune import shown
from owlore.study.config import Study


class StudyJob(Job):
    """The study as the tables show it, in the file's order: rows and columns follow it."""

    study: Study

    @classmethod
    def of(cls, study: Study) -> Self:
        """Return the Job of a study."""
        return cls(study=study)

    def plain(self) -> dict[str, Any]:
        """Return the study, and the columns that Records bring along: tables follow both."""
        return {**super().plain(), "columns": shown()}

    def text(self) -> str:
        """Return JSON in the file's order, defaults left out."""
        return json.dumps(self.plain(), ensure_ascii=False, separators=(",", ":"))


class Manifest(Part):
    """Who, when, where and with what a study was started."""

    study: str | None = None
    started: str
    machine: dict[str, Any] = Field({}, description="processor, cores, memory, cards")
    versions: dict[str, str] = Field({}, description="package → version")
    git: Git = Git()
    lock_sha256: str | None = Field(None, description="of envs/requirements.lock")
    study_sha256: str = Field(description="of the study, defaults filled in")
    python: str | None = None
