"""The embedded questions: `questions/questions.json`."""

from typing import Self

from pydantic import Field

from owlore.records.base import Job, Part, Record
from owlore.study.config import Archive, Questions, Study


class QuestionsJob(Job):
    """Which archives are read, and by what rules; pools of the user's are not made here."""

    questions: Questions
    archives: dict[str, Archive] = {}

    @classmethod
    def of(cls, study: Study) -> Self:
        """Return the Job of a study."""
        asked = study.questions
        names = (asked.wordnet and asked.wordnet.archive, asked.evals, asked.mtbench)
        return cls(
            questions=asked.model_copy(update={"files": {}, "hub": {}}),
            archives={name: study.archives[name] for name in names if name},
        )


class QuestionFile(Part):
    """One of the files."""

    rows: int
    sha256: str


class QuestionsRecord(Record):
    """The files that were written, what they are made of, and the rows that were left out."""

    files: dict[str, QuestionFile] = Field(description="file → rows and hash")
    archives: dict[str, str] = Field({}, description="archive → hash")
    dropped: dict[str, dict[str, int]] = Field(
        {}, description="file or task → reason → rows left out"
    )
