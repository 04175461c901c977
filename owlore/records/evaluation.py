"""One cell on one lm-eval benchmark: `<benchmark>.json`, beside `samples/<benchmark>.parquet`."""

from typing import Self

from pydantic import Field

from owlore.records.base import Job, Made, Part
from owlore.study.config import Benchmark, Cell, Study


class EvaluationJob(Job):
    """The benchmark's tasks, shots, subsets and dtype, and how contexts are read."""

    benchmark: str
    settings: Benchmark
    engine: str = "shared-prefix"

    @classmethod
    def of(cls, study: Study, cell: Cell, benchmark: str) -> Self:
        """Return the Job of one benchmark of a study's cell."""
        settings = study.tracks[cell.track].lm_eval_benchmarks[benchmark]
        return cls(benchmark=benchmark, settings=settings)


class GroupScore(Part):
    """A subgroup of a task that is a group; the metric's own name is a key, too."""

    model_config = Part.model_config | {"extra": "allow"}
    n: int = Field(description="questions")


class TaskScore(Part):
    """A task's score by its metric, and by all the others that it has; fractions."""

    model_config = Part.model_config | {"extra": "allow"}

    metric: str = Field(description="what the task is scored by")
    value: float = Field(description="that metric, a fraction")
    stderr: float | None = Field(None, description="over questions")
    acc: float | None = None
    acc_stderr: float | None = None
    acc_norm: float | None = None
    acc_norm_stderr: float | None = None
    exact_match: float | None = None
    exact_match_stderr: float | None = None
    exact_match_flexible: float | None = None
    exact_match_flexible_stderr: float | None = None
    n: int = Field(description="questions that were scored")
    n_available: int = Field(description="questions that there are")
    num_fewshot: int = Field(description="examples before each question")
    version: float | str | None = Field(None, description="of the task, lm-eval's")
    revision: str | None = Field(None, description="commit of the data set on the hub")
    split: str | None = None
    truncated: int = Field(0, description="questions whose context was cut")
    groups: dict[str, GroupScore] | None = Field(
        None, description="subgroup → score, of a task that is a group"
    )


class EvaluationRecord(Made):
    """Every task's score and their average, tasks weighing the same."""

    benchmark: str
    weights_sha256: str = Field(description="of the weights that were scored")
    tasks: dict[str, TaskScore]
    average: float = Field(description="mean over the tasks, weighing the same")
    average_stderr: float | None = None
    split: str
    seed: int = Field(description="of the subsets and the examples")
    engine: str = Field(description="how contexts are read")
    lm_eval_version: str
    dtype: str
    device: str | None = None
    max_length: int | None = None
    batch_size: int | None = None

    @property
    def headline(self) -> float:
        """The score that stands for the benchmark."""
        return self.average
