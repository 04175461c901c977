"""A track's training rows against its benchmarks: `contamination/<track>.json`."""

from typing import Any, Self

from pydantic import Field

from owlore.records.base import Job, Part, Record
from owlore.study.config import Benchmark, MTBench, Study


class Asked(Part):
    """MT-Bench's choice of questions."""

    questions: int = 80
    seed: int = 0


class ContaminationJob(Job):
    """Which questions a track is asked: what decides them, not how they are scored."""

    track: str
    seeds: list[int]
    benchmarks: dict[str, Benchmark] = {}
    mtbench: Asked | None = None

    @classmethod
    def of(cls, study: Study, track: str) -> Self:
        """Return the Job of one of a study's tracks."""
        wanted = study.tracks[track]
        return cls(
            track=track,
            seeds=study.seeds,
            benchmarks={
                name: _questions_of(settings)
                for name, settings in wanted.lm_eval_benchmarks.items()
            },
            mtbench=_asked(wanted.mtbench),
        )


def _questions_of(settings: Benchmark) -> Benchmark:
    """Return the settings that decide which questions there are, the others at their defaults."""
    tasks: dict[str, Any] = {
        name: task.model_dump(include={"limit", "revision"})
        for name, task in settings.tasks.items()
    }
    own = settings.model_dump(include={"split", "seed", "data_dir"})
    return Benchmark.model_validate({"tasks": tasks, **own})


def _asked(spec: MTBench | None) -> Asked | None:
    return None if spec is None else Asked(questions=spec.questions, seed=spec.seed)


class Overlap(Part):
    """One task's scored questions, and those that are in the training rows."""

    n: int = Field(description="scored questions")
    exact: int = Field(description="whose text is in a training row")
    ngram13: int = Field(description="of which 13 words in a row are")
    flagged: int = Field(description="either of the two")
    share: float = Field(description="flagged / n")
    doc_ids: list[int] = Field(description="the flagged ones, as in the samples")


class ContaminationRecord(Record):
    """The flagged questions of every benchmark and task."""

    track: str
    training_rows: int = Field(description="distinct rows of all seeds")
    training_sha256: dict[str, str] = Field(description="seed → hash of its rows")
    benchmarks: dict[str, dict[str, Overlap]] = Field(
        description="benchmark → task → what was found"
    )
    versions: dict[str, str] = {}
