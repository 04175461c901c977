"""One cell on one lm-eval benchmark: `<benchmark>.json`, beside `samples/<benchmark>.parquet`."""

from typing import Self

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
    n: int


class TaskScore(Part):
    """A task's score by its metric, and by all the others that it has; fractions."""

    metric: str
    value: float
    stderr: float | None = None
    acc: float | None = None
    acc_stderr: float | None = None
    acc_norm: float | None = None
    acc_norm_stderr: float | None = None
    exact_match: float | None = None
    exact_match_stderr: float | None = None
    exact_match_flexible: float | None = None
    exact_match_flexible_stderr: float | None = None
    n: int
    n_available: int
    num_fewshot: int
    version: float | str | None = None
    revision: str | None = None
    split: str | None = None
    truncated: int = 0
    groups: dict[str, GroupScore] | None = None


class EvaluationRecord(Made):
    """Every task's score and their average, tasks weighing the same."""

    benchmark: str
    weights_sha256: str
    tasks: dict[str, TaskScore]
    average: float
    average_stderr: float | None = None
    split: str
    seed: int
    engine: str
    lm_eval_version: str
    dtype: str
    device: str | None = None
    max_length: int | None = None
    batch_size: int | None = None

    @property
    def headline(self) -> float:
        """The score that stands for the benchmark."""
        return self.average
