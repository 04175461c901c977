"""MT-Bench of one cell: `mtbench/answers.json` beside the answers, `mtbench.json` of each judge."""

from typing import NotRequired, Self, TypedDict

from owlore.records.base import Job, Made, Part
from owlore.study.config import Cell, MTBench, Study
from owlore.study.judge import TRANSPORT, Judge


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

    model_id: str
    weights_sha256: str
    answers: int
    answers_sha256: str
    truncated: int = 0  # prompts that were cut


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
    label: str


class RequestsSent(Part):
    """What was sent to an endpoint, in this run and those before."""

    sent: int
    prompt_tokens: int
    completion_tokens: int
    unreadable_asked_again: int = 0
    repeated_after_a_kill: int = 0


class JudgedRecord(Made):
    """A judge's scores, 1 to 10, as means over turns; see `owlore.mtbench.ratings`."""

    judge: JudgeUsed
    comparable: bool
    weights_sha256: str
    reference_set: str
    prompt_version: str
    prompts_sha256: str | None = None
    date: str
    overall: float | None = None
    turn_1: float | None = None
    turn_2: float | None = None
    categories: dict[str, float | None] = {}
    n: int
    failed: int
    unrated: int = 0
    judgings: int = 1
    judgings_sd: float | None = None
    questions: int
    requests: RequestsSent | None = None
    truncated_prompts: int = 0
    truncated_answers: int = 0
    max_new_tokens: int

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
