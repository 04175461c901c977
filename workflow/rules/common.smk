# What the rules share: the checked study, its cells, and the functions that name inputs and params.
# Whatever changes a result enters a rule as a named input or as one canonical JSON string, so that
# neither key order nor a default spelt out ever triggers a rerun.
import re

from owlore.study.config import BENCHMARKS, EMBEDDED, TRANSPORT, check_study
from owlore.core.errors import BadInput
from owlore.core.files import canonical_json
from owlore.study.fit import check_models

try:
    STUDY = check_study(config, "config")
    check_models(STUDY, Path("resources"))
except BadInput as error:
    print(error, file=sys.stderr)
    sys.exit(2)

ROOT = f"results/{STUDY.study}"
STUDY_FILE = f"{ROOT}/study.json"  # written when the workflow starts
PACKAGE = Path(workflow.basedir).parent / "owlore"
if PACKAGE.is_relative_to(Path.cwd()):  # so that a moved repository retrains nothing
    PACKAGE = PACKAGE.relative_to(Path.cwd())
CELLS = {cell.path: cell for cell in STUDY.cells()}
TRAINED = [path for path, cell in CELLS.items() if cell.seed is not None]
UNTRAINED = [path for path in CELLS if path not in TRAINED]
MTBENCH = [
    path for path, cell in CELLS.items() if STUDY.tracks[cell.track].mtbench is not None
]
JUDGES = sorted(
    {
        name
        for track in STUDY.tracks.values()
        if track.mtbench
        for name in track.mtbench.further_judges
    }
)
TABLES = [
    "commonsense",
    "mmlu",
    "gsm8k",
    "mtbench",
    "mtbench_differences",
    "contamination",
    "efficiency",
    "memory",
    "significance",
    "claims",
]


def any_of(names):
    """A wildcard constraint; the second part matches nothing, for an empty list."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    archive=any_of(archive.filename for archive in STUDY.archives.values()),
    model=any_of(STUDY.models),
    track=any_of(STUDY.tracks),
    cell=any_of(CELLS),
    benchmark=any_of(BENCHMARKS),
    judge=any_of(JUDGES),
    seed=r"\d+",


def sources(*names):
    """Package files whose content decides a result; their time stamps do not matter."""
    return [str(PACKAGE / name) for name in names]


def questions_json():
    """What the embedded questions are made by: another training pool is none of their business."""
    wanted = {"questions": {"files", "hub"}}
    return canonical_json(
        STUDY.model_dump(mode="json", include={"questions", "archives"}, exclude=wanted)
    )


def method_of(wildcards):
    cell = CELLS[wildcards.cell]
    return STUDY.method(cell.method, cell.track, cell.model)


def method_json(wildcards):
    return canonical_json(
        method_of(wildcards).model_dump(mode="json", exclude={"overrides"})
    )


def model_id(wildcards):
    """The cell's name in FastChat's files."""
    return "__".join(wildcards.cell.split("/"))


def data_folder(wildcards):
    return f"{ROOT}/data"


def methods_json(wildcards):
    """Every method as it holds for one model, by track and name."""
    return canonical_json(
        {
            f"{track}/{name}": STUDY.method(name, track, wildcards.model).model_dump(
                mode="json"
            )
            for track in STUDY.tracks
            for name in STUDY.run
        }
    )


def cell_json(wildcards):
    return CELLS[wildcards.cell].model_dump_json()


def cell_seed(wildcards):
    return CELLS[wildcards.cell].seed or 0


def base_model(wildcards):
    return f"resources/models/{CELLS[wildcards.cell].model}"


def track_of(wildcards):
    return STUDY.tracks[CELLS[wildcards.cell].track]


def archive_name(wildcards):
    """The index's name of the project that holds this file."""
    return next(n for n, a in STUDY.archives.items() if a.filename == wildcards.archive)


def archive_files(names):
    """Receipts of verified archives: small files, so that time stamps of big ones do not count."""
    files = [STUDY.archives[name].filename for name in names if name]
    return [f"resources/archives/{file}.sha256" for file in files]


def model_archives(wildcards):
    return archive_files([STUDY.models[wildcards.model].archive])


def model_archive_json(wildcards):
    """The model's source with the hash of its archive."""
    model = STUDY.models[wildcards.model]
    archive = STUDY.archives[model.archive].model_dump() if model.archive else None
    return canonical_json([model.model_dump(mode="json"), archive])


def question_archives(wildcards):
    wanted = STUDY.questions
    return archive_files(
        [wanted.wordnet and wanted.wordnet.archive, wanted.evals, wanted.mtbench]
    )


def training_json(wildcards):
    """A track's mixture and where its pools come from, if not from the embedded questions."""
    mixture, given = STUDY.tracks[wildcards.track].train, STUDY.questions
    return canonical_json(
        [
            mixture,
            {name: file for name, file in given.files.items() if name in mixture},
            {
                name: pool.model_dump(mode="json")
                for name, pool in given.hub.items()
                if name in mixture
            },
        ]
    )


def training_files(wildcards):
    """Pools that are local files of the user's, in this track's mixture."""
    mixture = STUDY.tracks[wildcards.track].train
    return [file for name, file in STUDY.questions.files.items() if name in mixture]


def drawn_files(wildcards):
    """A track's training rows of all seeds."""
    return [f"{ROOT}/data/{wildcards.track}/seed{seed}.jsonl" for seed in STUDY.seeds]


def calibration_text(wildcards):
    text = STUDY.calibration.text
    return f"{ROOT}/questions/calibration.jsonl" if text == "embedded" else text


def training_inputs(wildcards):
    cell = CELLS[wildcards.cell]
    inputs = {
        "model": f"resources/models/{cell.model}/model.json",
        "data": f"{ROOT}/data/{cell.track}/seed{cell.seed}.jsonl",
    }
    if method_of(wildcards).needs_outliers:
        inputs["outliers"] = f"{ROOT}/outliers/{cell.model}.json"
    return inputs


def outliers_flag(wildcards, input):
    return f"--outliers {input.outliers}" if method_of(wildcards).needs_outliers else ""


def benchmark_json(wildcards):
    return canonical_json(
        getattr(track_of(wildcards), wildcards.benchmark).model_dump(mode="json")
    )


def asked_json(wildcards):
    """Which questions a track is asked: what decides them, not how they are scored."""
    drawn = {"tasks": {"__all__": {"limit", "revision"}}}
    drawn |= {"split": True, "seed": True, "data_dir": True}
    asked = {"mtbench": {"questions", "seed"}, **dict.fromkeys(BENCHMARKS, drawn)}
    return canonical_json(
        STUDY.tracks[wildcards.track].model_dump(mode="json", include=asked)
    )


def data_dir_flag(wildcards):
    """Local copies of the questions; without any, tasks other than the embedded read the hub."""
    benchmark = getattr(track_of(wildcards), wildcards.benchmark)
    if benchmark.data_dir is not None:
        return f"--data-dir {benchmark.data_dir}"
    return (
        "" if EMBEDDED.isdisjoint(benchmark.tasks) else f"--data-dir {ROOT}/questions"
    )


def judge_name(wildcards):
    """Which of the track's judges; the headline's name is empty."""
    return getattr(wildcards, "judge", "")


def further_flag(wildcards):
    """Whose pace and caps are read from the study; without it the headline's."""
    name = judge_name(wildcards)
    return f"--name {name}" if name else ""


def judge_json(wildcards):
    """What decides the judgments of one judge; how it is asked is read from the study."""
    spec = track_of(wildcards).mtbench
    judge = spec.judges[judge_name(wildcards)]
    alone = spec.model_copy(update={"judge": judge})
    exclude = {"judge": set(TRANSPORT), "further_judges": True, "batch_size": True}
    return alone.model_dump_json(exclude=exclude)


def answer_json(wildcards):
    """What decides the answers: everything but the judges' side."""
    return track_of(wildcards).mtbench.model_dump_json(
        exclude={"judge", "further_judges", "reference_set"}
    )


def reference_file(wildcards):
    name = track_of(wildcards).mtbench.reference_set
    return f"{ROOT}/questions/mtbench/reference_answer/{name}.jsonl"


def scores(cells, *benchmarks):
    """The result files of these cells on these benchmarks, with those of further judges."""
    return [
        f"{ROOT}/{path}/{name}.json"
        for path in cells
        for name in STUDY.tracks[CELLS[path].track].score_files
        if name.split("/")[0] in benchmarks
    ]


def cell_scores(wildcards):
    return scores([wildcards.cell], *BENCHMARKS, "mtbench")


def outlier_files():
    """Scores of every model that some method samples by."""
    models = {
        cell.model
        for cell in CELLS.values()
        if STUDY.method(cell.method, cell.track, cell.model).needs_outliers
    }
    return [f"{ROOT}/outliers/{model}.json" for model in sorted(models)]
