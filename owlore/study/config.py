"""The study: one typed, complete description of what is run (models × tracks × methods × seeds).

A study is a YAML file (the default `config.yaml`, or one of `workflow/studies/`). Everything that
changes a result is a key here; threads, memory and GPUs belong to the Snakemake profile.
`workflow/schemas/study.schema.json` is generated from these classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from owlore.core.errors import BadInput
from owlore.core.parsing import load_yaml, near, parse
from owlore.study.benchmarks import FAMILIES, LM_EVAL
from owlore.study.blocks import Name, PositiveInt, Strict
from owlore.study.judge import Judge
from owlore.study.method import Method, Override, parse_method

# A study is made before its commits are known to everybody: `owlore pin` fills in what is unpinned.
Revision = Annotated[str, Field(pattern=r"^([0-9a-f]{40}|unpinned)$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# lm-eval tasks of our own, whose questions the study makes itself
TASKS = Path(__file__).parents[1] / "evaluate" / "tasks"
EMBEDDED = frozenset(path.stem for path in TASKS.glob("[!_]*.yaml"))


class Archive(Strict):
    """A file on the package index, read without installing it. The key is the project's name."""

    filename: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.(whl|tar\.gz|zip)$")
    sha256: Sha256


class Model(Strict):
    """Where a base model comes from: a GGUF file in an archive, a local folder, or the hub."""

    archive: Name | None = None
    gguf: str | None = Field(None, description="path of the GGUF file inside the archive")
    path: str | None = Field(None, description="folder with a Hugging Face checkpoint")
    hub: str | None = Field(None, pattern=r"^[\w.-]+/[\w.-]+$")
    revision: Revision | None = Field(None, description="commit of the hub")

    @model_validator(mode="after")
    def one_source(self) -> "Model":
        if sum(source is not None for source in (self.archive, self.path, self.hub)) != 1:
            raise ValueError("give exactly one of archive, path, hub")
        if (self.archive is None) != (self.gguf is None):
            raise ValueError("archive and gguf go together")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision go together")
        return self


class WordNet(Strict):
    """Rules of the WordNet question generator (see `owlore.questions.wordnet`)."""

    archive: Name = "wn"
    folder: str = "wn/data/wordnet-3.0"
    categories: Annotated[int, Field(ge=4, le=20)] = 10
    words_per_category: PositiveInt = 150
    min_tagged_frequency: Annotated[int, Field(ge=0)] = 1
    max_definition_words: Annotated[int, Field(ge=3)] = 9


class HubPool(Strict):
    """Training rows on the hub: a split of a data set at a commit, or one of its files."""

    path: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="the data set, owner/name")
    name: str | None = Field(None, description="its configuration")
    split: str = Field("train", pattern=r"^\w+$")
    revision: Revision = Field(description="commit of the data set")
    file: str | None = Field(
        None, description="read this JSON, JSONL or Parquet file of it, not a split"
    )

    @model_validator(mode="after")
    def one_source(self) -> "HubPool":
        if self.file is not None and (self.name is not None or self.split != "train"):
            raise ValueError("file is read whole: give it without name and split")
        return self


class Questions(Strict):
    """The embedded questions; `files` and `hub` add pools of training rows by name."""

    seed: int = 0
    wordnet: WordNet | None = None
    evals: Name | None = Field(None, description="archive with Social IQa, QuaRTz, MMLU")
    mtbench: Name | None = Field(None, description="archive with MT-Bench's questions")
    files: dict[Name, str] = Field(default_factory=dict)
    hub: dict[Name, HubPool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def names(self) -> "Questions":
        for name in self.files.keys() & self.hub.keys():
            raise ValueError(f"{name!r} is both in files and in hub")
        return self


class Calibration(Strict):
    """Text for the outlier scores: `samples` windows of `seqlen` tokens."""

    text: str = Field("embedded", description="embedded, or a JSONL file with a text column")
    samples: PositiveInt = 128
    seqlen: Annotated[int, Field(ge=8)] = 2048
    seed: int = 0
    threshold: float = Field(13, gt=0, description="M: an outlier exceeds M times the block mean")
    thresholds: list[Annotated[float, Field(gt=0)]] = Field([3, 5, 7, 10, 13])


class Task(Strict):
    """One lm-eval task: the metric that enters the average, and how many questions."""

    metric: Literal["acc", "acc_norm", "exact_match", "exact_match_flexible"] = "acc"
    limit: PositiveInt | None = Field(None, description="a seeded subset of this many questions")
    revision: str | None = Field(
        None, pattern=r"^[0-9a-f]{40}$", description="commit of the task's data set on the hub"
    )


class Benchmark(Strict):
    """A set of lm-eval tasks scored together."""

    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    num_fewshot: Annotated[int, Field(ge=0)] = 0
    split: Literal["test", "validation"] = "test"
    seed: int = 1234
    max_length: Annotated[int, Field(ge=16)] = 1024
    batch_size: PositiveInt = 16
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the weights while scoring"
    )
    data_dir: str | None = Field(None, description="local copies of the data sets, no hub")

    def questions_in(self, embedded: Path) -> Path | None:
        """Return where the questions lie, given the folder of the embedded; None: on the hub."""
        if self.data_dir is not None:
            return Path(self.data_dir)
        return None if EMBEDDED.isdisjoint(self.tasks) else embedded


class MTBench(Strict):
    """MT-Bench: how many questions (spread over the 8 categories) and who judges."""

    questions: Annotated[int, Field(ge=1, le=80)] = 80
    max_new_tokens: PositiveInt = 1024
    batch_size: PositiveInt = Field(16, description="questions answered at a time")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the weights while answering"
    )
    seed: int = 0
    reference_set: Literal["gpt-4", "gpt-4-0125-preview"] = "gpt-4"
    judge: Judge = Field(description="the headline: its scores are in mtbench.json")
    further_judges: dict[Name, Judge] = Field(
        default_factory=dict, description="more judges of the same answers, in mtbench/<name>/"
    )

    @property
    def judges(self) -> dict[str, Judge]:
        """All judges by name, the headline first; its name is empty."""
        return {"": self.judge, **self.further_judges}


class _Trained(Strict):
    train: Annotated[dict[Name, PositiveInt], Field(min_length=1)]


# A track has an optional block for each family that lm-eval scores: the table of families names
# them, so that a new row is a new key. A type checker cannot see such keys:
# `Track.lm_eval_benchmarks` has them.
if TYPE_CHECKING:
    _Scored = _Trained
else:
    _blocks = {name: (Benchmark | None, None) for name in LM_EVAL}
    _Scored = create_model("_Scored", __base__=_Trained, **_blocks)


class Track(_Scored):
    """A training mixture (pool name → number of examples) and the benchmarks it is scored on."""

    mtbench: MTBench | None = None

    @property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks this track is scored on, in table order."""
        return [name for name in FAMILIES if getattr(self, name) is not None]

    @property
    def lm_eval_benchmarks(self) -> dict[str, Benchmark]:
        """The benchmarks of this track that lm-eval scores, by name."""
        settings = {name: getattr(self, name) for name in LM_EVAL}
        return {name: block for name, block in settings.items() if block is not None}

    @property
    def score_files(self) -> list[str]:
        """Names of a cell's score files without .json: the benchmarks, then the further judges."""
        further = self.mtbench.further_judges if self.mtbench is not None else ()
        return [*self.benchmarks, *(f"mtbench/{name}/mtbench" for name in further)]


class Comparison(Strict):
    """When two methods count as equally good: their difference is shown to be below a margin.

    The default for accuracies lies just below the smallest gain that the paper claims (1.1 points):
    methods within it differ by less than the paper's smallest claim. That of MT-Bench is what
    judging the same answers again moves a score by (FastChat #3018: 0.16 to 0.2).
    """

    equivalence_margin: float = Field(1.0, gt=0, lt=100, description="accuracies, in points")
    mtbench_margin: float = Field(0.2, gt=0, lt=9, description="MT-Bench, in points of 10")

    def margin(self, benchmark: str) -> float:
        """The margin of a benchmark in the unit of its scores: a fraction, or points of 10."""
        family = FAMILIES[benchmark]
        margin: float = getattr(self, family.margin)
        return margin / family.scale.factor


class Cell(BaseModel):
    """One model trained one way with one seed (`seed` is None for the base model)."""

    model_config = ConfigDict(frozen=True)

    track: str
    model: str
    method: str
    seed: int | None

    @property
    def path(self) -> str:
        """Folder below `results/<study>/`. The base model has no seed; it lies in seed0."""
        return f"{self.track}/{self.model}/{self.method}/seed{self.seed or 0}"


class Study(Strict):
    """A whole study; see the module docstring."""

    study: Name
    description: str = ""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    run: Annotated[list[Name], Field(min_length=1)]
    archives: dict[Name, Archive] = Field(default_factory=dict)
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    questions: Questions = Questions()
    calibration: Calibration = Calibration()
    tracks: Annotated[dict[Name, Track], Field(min_length=1)]
    comparison: Comparison = Comparison()
    training: dict[str, Any] = Field(
        default_factory=dict, description="method keys shared by all methods; a method may override"
    )
    methods: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]

    @model_validator(mode="after")
    def references(self) -> "Study":
        for key, values in (("seeds", self.seeds), ("run", self.run)):
            if len(set(values)) != len(values):
                raise ValueError(f"{key}: {values} names something twice")
        for name in self.run:
            if name not in self.methods:
                raise ValueError(f"run: {name!r} is not in methods ({near(name, self.methods)})")
        embedded = self.questions
        needed = [
            *(model.archive for model in self.models.values()),
            embedded.evals,
            embedded.mtbench,
        ]
        needed.append(embedded.wordnet.archive if embedded.wordnet else None)
        for archive in filter(None, needed):
            if archive not in self.archives:
                raise ValueError(
                    f"archive {archive!r} is not in archives ({near(archive, self.archives)})"
                )
        return self

    def method(self, name: str, track: str | None = None, model: str | None = None) -> Method:
        """Return method `name` as it holds for a track and a model, all defaults filled in.

        Raises:
            BadInput: a key or value of the block, or of an override, is not allowed.
        """
        block = self.methods[name]
        where = f"methods.{name}"
        merged = self._on_training(block)
        for override in parse_method(merged, where).overrides:
            if override.track in (None, track) and override.model in (None, model):
                block = {**block, **override.values}
        merged = self._on_training(block)
        merged.pop("overrides", None)
        return parse_method(merged, where)

    def _on_training(self, block: dict[str, Any]) -> dict[str, Any]:
        """Lay a method's block over `training:`, which says nothing of the base model."""
        shared = self.training if block.get("trainable") != "none" else {}
        return {**shared, **block}

    def cells(self) -> list[Cell]:
        """Every cell of the study: the base model once per model and track, the rest per seed."""
        return [
            Cell(track=track, model=model, method=method, seed=seed)
            for track in self.tracks
            for model in self.models
            for method in self.run
            for seed in ([None] if self.methods[method].get("trainable") == "none" else self.seeds)
        ]


def load_study(path: Path) -> Study:
    """Read and check a whole study, every method of every cell included.

    Raises:
        BadInput: see `parse`.
    """
    return check_study(load_yaml(path), str(path))


def check_study(value: Any, where: str = "study") -> Study:
    """Check a study given as plain data, every method of every cell included.

    Raises:
        BadInput: see `parse`.
    """
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected a mapping of keys, got {type(value).__name__}")
    study = parse(Study, value, where)
    for name, override, place in _overrides(study):
        for key, known in (("track", study.tracks), ("model", study.models)):
            wanted = getattr(override, key)
            if wanted is not None and wanted not in known:
                raise BadInput(
                    f"{where}: methods.{name}.overrides[{place}].{key}: {wanted!r} is not in "
                    f"{key}s ({near(wanted, known)})"
                )
    for cell in study.cells():
        try:
            study.method(cell.method, cell.track, cell.model)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
    return study


def _overrides(study: Study) -> Iterator[tuple[str, Override, int]]:
    for name in study.run:
        blocks = study.methods[name].get("overrides") or study.training.get("overrides") or []
        for place, block in enumerate(blocks if isinstance(blocks, list) else []):
            yield name, parse(Override, block, f"methods.{name}.overrides[{place}]"), place
