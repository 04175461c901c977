"""What all Jobs and all Records have in common.

A Job holds all that decides a result, and nothing else. Its text is canonical JSON with defaults
left out, so that neither key order nor a default spelt out, nor a key that has come to the package
since, makes anything run again. A default that changes needs a new `version` of the Job: see
`owlore.records.defaults`.

A Record is what a stage writes. The same class serves the writer, every reader, the tests and
results/README.md. A file that lacks a newer field is read with it empty.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from owlore.core.errors import BadInput
from owlore.core.files import canonical_json, read_json, sha256_text, write_json
from owlore.core.parsing import parse


class Job(BaseModel):
    """All that decides the result of one stage; `version` counts the changes of defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: ClassVar[int] = 1

    def plain(self) -> dict[str, Any]:
        """Return the Job as plain values, defaults left out."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return values if self.version == 1 else {"job_version": self.version, **values}

    def shown(self) -> dict[str, Any]:
        """Return what a Record keeps of the Job: what names a place of this machine is left out."""
        return self.plain()

    def text(self) -> str:
        """Return the Job as canonical JSON: what the workflow runs a rule again by."""
        return canonical_json(self.plain())

    @property
    def sha256(self) -> str:
        """The Job's identity, of what a Record keeps."""
        return sha256_text(canonical_json(self.shown()))

    @classmethod
    def of_text(cls, text: str, where: str = "--job") -> Self:
        """Read what `text` has written.

        Raises:
            BadInput: it is no such Job, or of another version.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"{where}: not JSON ({error})") from None
        if not isinstance(values, dict):
            raise BadInput(f"{where}: expected a mapping of keys")
        version = values.pop("job_version", 1)
        if version != cls.version:
            raise BadInput(f"{where}: job_version: {version}: this owlore has {cls.version}")
        return parse(cls, values, where)


class Part(BaseModel):
    """A block inside a Record; what a newer owlore has added to a file is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Acceptance(Part):
    """Somebody's word that a result of other code holds, see `owlore accept`."""

    code: dict[str, str] = Field(
        description="file of the package → hash: what it was accepted as the result of"
    )
    because: str = Field(description="the reason that was given; tables show it")
    date: str = Field(description="when")


class Proof(Part):
    """What a result rests on: its Job, the code that computed it, what was read from its inputs.

    Times are no part of it: a cell that is trained to the same weights again proves the same.
    """

    job: dict[str, Any] = Field(description="what was asked, defaults left out")
    job_sha256: str = Field(description="hash of that")
    code: dict[str, str] = Field(description="file of the package → hash of what it computes")
    read: dict[str, str] = Field(description="input → hash of what was read of it")
    made: dict[str, str] = Field(
        {}, description="file beside the Record that was written with it → hash"
    )
    accepted: Acceptance | None = Field(
        None, description="somebody's word that a result of other code holds"
    )


class Git(Part):
    """The commit of the code; None outside a checkout."""

    commit: str | None = Field(None, description="null outside a checkout")
    dirty: bool | None = Field(None, description="with changes that were not committed")


class Record(Part):
    """What a stage writes; `proof` is None in files of before there were proofs."""

    proof: Proof | None = Field(
        None, description="what the result rests on; null in files of before there were proofs"
    )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a Record.

        Raises:
            BadInput: the file is missing, is not JSON, or a field is missing or of the wrong kind.
        """
        return parse(cls, read_json(path), str(path))

    def save(self, path: Path) -> None:
        """Write the Record; the file is whole or absent."""
        write_json(path, self.model_dump(mode="json"))


class Made(Record):
    """A Record that says when it was made and with what."""

    started: str | None = Field(None, description="ISO 8601")
    ended: str | None = Field(None, description="ISO 8601")
    seconds: float | None = Field(None, description="wall clock")
    versions: dict[str, str] = Field({}, description="package → version")
    git: Git = Git()
