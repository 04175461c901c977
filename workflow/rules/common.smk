# What the rules share: the checked study, its cells, and what a rule is run again by.
# A result is decided by its Job (canonical JSON without defaults, a param), by the code that
# computes it (a short hash over its imports, a param), and by its inputs: receipts, small files
# that hold the hash of what is read and no times. See owlore/records.
import re

from owlore.core import code
from owlore.core.errors import BadInput
from owlore.records.contamination import ContaminationJob
from owlore.records.data import DataJob
from owlore.records.evaluation import EvaluationJob
from owlore.records.finetune import FinetuneJob
from owlore.records.memory import MemoryJob
from owlore.records.mtbench import AnswerJob, JudgeJob
from owlore.records.outliers import OutliersJob
from owlore.records.questions import QuestionsJob
from owlore.records.sources import ModelJob
from owlore.records.stages import MODULES
from owlore.records.study import StudyJob
from owlore.study.benchmarks import FAMILIES, LM_EVAL
from owlore.study.config import check_study
from owlore.study.fit import check_models

try:
    STUDY = check_study(config, "config")
    check_models(STUDY, Path("resources"))
except BadInput as error:
    print(error, file=sys.stderr)
    sys.exit(2)

ROOT = f"results/{STUDY.study}"
# Written when the workflow starts; it decides no result.
STUDY_FILE = f"{ROOT}/study.json"
CODE = {rule: code.digest(code.of(module)) for rule, module in MODULES.items()}
ARCHIVES = {archive.filename: name for name, archive in STUDY.archives.items()}
TEXT = STUDY.calibration.text
CELLS = {cell.path: cell for cell in STUDY.cells()}
TRAINED = [path for path, cell in CELLS.items() if cell.seed is not None]
JUDGES = sorted(
    {
        name
        for track in STUDY.tracks.values()
        if track.mtbench
        for name in track.mtbench.further_judges
    }
)
TABLES = [
    *FAMILIES,
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
    archive=any_of(ARCHIVES),
    model=any_of(STUDY.models),
    track=any_of(STUDY.tracks),
    cell=any_of(CELLS),
    benchmark=any_of(LM_EVAL),
    judge=any_of(JUDGES),
    seed=r"\d+",


def archive_receipts(names):
    files = [STUDY.archives[name].filename for name in names if name]
    return [f"resources/archives/{file}.sha256" for file in files]


def base_model(wildcards):
    return f"resources/models/{CELLS[wildcards.cell].model}"


def track_of(wildcards):
    return STUDY.tracks[CELLS[wildcards.cell].track]


def needs_outliers(cell):
    return STUDY.method(cell.method, cell.track, cell.model).needs_outliers


def scores(cells, *benchmarks):
    """The result files of these cells on these benchmarks, with those of further judges."""
    return [
        f"{ROOT}/{path}/{name}.json"
        for path in cells
        for name in STUDY.tracks[CELLS[path].track].score_files
        if name.split("/")[0] in benchmarks
    ]


def training_inputs(wildcards):
    """The receipts of what a cell is trained on."""
    cell = CELLS[wildcards.cell]
    inputs = {
        "model": f"resources/models/{cell.model}/weights.sha256",
        "data": f"{ROOT}/data/{cell.track}/seed{cell.seed}.sha256",
    }
    if needs_outliers(cell):
        inputs["outliers"] = f"{ROOT}/outliers/{cell.model}.sha256"
    return inputs


def data_folder(wildcards):
    return f"{ROOT}/data"
