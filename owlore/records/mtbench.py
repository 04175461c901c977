"""MT-Bench of one cell: `mtbench/answers.json` beside the answers, `mtbench.json` of each judge."""

from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

from pydantic import Field

from owlore.records.base import Job, Made, Part
from owlore.study.config import Cell, MTBench, Study
from owlore.study.judge import TRANSPORT, Judge, LocalJudge


class AnswerJob(Job):
    """Which questions are answered and how; whoever judges them is another Job's."""

    model_id: str = "model"
    questions: int = 80
    max_new_tokens: int = 1024
    batch_size: int = 16
    dtype: str = "float32"
    seed: int = 0

    @classmethod
    def of(cls, study: Study, cell: Cell) -> Self:
        """Return the Job of one of a study's cells."""
        asked = study.tracks[cell.track].mtbench
        assert asked is not None, f"{cell.track} is not asked MT-Bench"
        return cls.of_settings(asked, "__".join(cell.path.split("/")))

    @classmethod
    def of_settings(cls, asked: MTBench, model_id: str) -> Self:
        """Return the Job of these settings; `model_id` is the name in FastChat's files."""
        own = ("questions", "max_new_tokens", "batch_size", "dtype", "seed")
        return cls(model_id=model_id, **{name: getattr(asked, name) for name in own})


class AnswersRecord(Made):
    """What lies in answers.jsonl; the hash leaves times out."""

    model_id: str = Field(description="the model's name in FastChat's files")
    weights_sha256: str
    answers: int = Field(description="how many")
    answers_sha256: str = Field(description="of what was said, not when")
    truncated: int = Field(0, description="prompts that were cut")


class JudgeJob(Job):
    """A judge without its pace and caps, the questions that were chosen, and the references."""

    judge: Judge
    questions: int = 80
    seed: int = 0
    max_new_tokens: int = 1024
    reference_set: str = "gpt-4"

    @classmethod
    def of(cls, study: Study, cell: Cell, judge: str = "") -> Self:
        """Return the Job of one of the track's judges; the headline's name is empty."""
        asked = study.tracks[cell.track].mtbench
        assert asked is not None, f"{cell.track} is not asked MT-Bench"
        return cls.of_settings(asked, asked.judges[judge])

    @classmethod
    def of_settings(cls, asked: MTBench, judge: Judge) -> Self:
        """Return the Job of these settings and this judge, whose pace and caps do not count."""
        own = ("questions", "seed", "max_new_tokens", "reference_set")
        return cls(judge=without_pace(judge), **{name: getattr(asked, name) for name in own})

    def shown(self) -> dict[str, Any]:
        """A local judge is known by its weights, which are read, and by its folder's name."""
        judge = self.judge
        if isinstance(judge, LocalJudge):
            judge = judge.model_copy(update={"model": Path(judge.model).name})
        return self.model_copy(update={"judge": judge}).plain()


def without_pace(judge: Judge) -> Judge:
    """Return the judge with what decides no judgment at its default."""
    fields = type(judge).model_fields
    return judge.model_copy(
        update={name: fields[name].default for name in TRANSPORT if name in fields}
    )


class JudgeUsed(Part):
    """Who judged."""

    provider: str
    model: str
    label: str = Field(description="as tables show it")


class RequestsSent(Part):
    """What was sent to an endpoint, in this run and those before."""

    sent: int = Field(description="in this run and those before")
    prompt_tokens: int
    completion_tokens: int
    unreadable_asked_again: int = 0
    repeated_after_a_kill: int = 0


class JudgedRecord(Made):
    """A judge's scores, 1 to 10, as means over turns; see `owlore.mtbench.ratings`."""

    judge: JudgeUsed
    comparable: bool = Field(description="false: a plumbing check, too small to grade")
    weights_sha256: str
    reference_set: str = Field(description="whose reference answers the judge saw")
    prompt_version: str
    prompts_sha256: str | None = None
    date: str
    overall: float | None = Field(
        None, description="mean rating, 1 to 10; null where none was readable"
    )
    turn_1: float | None = Field(None, description="of first turns")
    turn_2: float | None = Field(None, description="of second turns")
    categories: dict[str, float | None] = Field({}, description="category → mean rating")
    n: int = Field(description="judgments")
    failed: int = Field(description="without a readable rating")
    unrated: int = Field(0, description="turns without any readable judgment")
    judgings: int = Field(1, description="how often each turn was judged")
    judgings_sd: float | None = Field(
        None, description="standard deviation of the judgings' overall averages"
    )
    questions: int
    requests: RequestsSent | None = Field(None, description="what was sent to an endpoint")
    truncated_prompts: int = Field(0, description="that were cut")
    truncated_answers: int = Field(0, description="that were cut")
    max_new_tokens: int = Field(description="of an answer, at most")

    @property
    def headline(self) -> float | None:
        """The score that stands for the benchmark; None where no turn was rated."""
        return self.overall


class Question(TypedDict):
    """What readers need of a row of FastChat's question.jsonl."""

    question_id: int
    category: str
    turns: list[str]


class Choice(TypedDict):
    """A model's answers to a question's turns."""

    turns: list[str]


class Answer(TypedDict):
    """What readers need of a row of FastChat's answers.jsonl."""

    question_id: int
    choices: list[Choice]


class Judgment(TypedDict):
    """What readers need of a row of judgments.jsonl: FastChat's, and which judging it is of."""

    question_id: int
    turn: int
    score: float
    judgment: str
    judging: NotRequired[int]
