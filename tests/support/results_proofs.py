"""Proofs of made-up results: what each stage would have written, from its Job and its files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from owlore.compare import state
from owlore.core.files import (
    read_json,
    sha256_file,
    sha256_text,
    write_json,
    write_jsonl,
    write_receipt,
)
from owlore.evaluate import questions_read
from owlore.records import proof
from owlore.records.base import Git, Job, Proof
from owlore.records.questions import QuestionFile, QuestionsJob, QuestionsRecord
from owlore.records.sources import ModelJob, ModelRecord
from owlore.records.stages import MODULES
from owlore.study.config import EMBEDDED, Benchmark, Study

STARTED, ENDED = "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00"
VERSIONS, GIT = {"torch": "0.0"}, Git(commit="0" * 40, dirty=False)
PROMPTS = sha256_text("prompts")
CATEGORIES = ("writing", "roleplay", "reasoning", "math")
CATEGORIES += ("coding", "extraction", "stem", "humanities")


def proven(
    job: Job, rule: str, read: Mapping[str, str], folder: Path, made: Iterable[Path] = ()
) -> Proof:
    """What a Record in `folder` proves that was written together with the files `made`."""
    now = proof.of(job, MODULES[rule], read)
    hashes = {path.relative_to(folder).as_posix(): sha256_file(path) for path in made}
    return now.model_copy(update={"made": hashes})


def weights_of_base(model: str) -> str:
    return sha256_text(model)


def rows_hash(track: str, seed: int | None) -> str:
    """The hash of a track's training rows, which are not made up."""
    return sha256_text(f"{track} {seed}")


def read_of_questions(root: Path, settings: Benchmark) -> dict[str, str]:
    """What an evaluation reads of local questions; a hub's stand in the Job."""
    local = None if EMBEDDED.isdisjoint(settings.tasks) else root / "questions"
    local = Path(settings.data_dir) if settings.data_dir is not None else local
    if local is None:
        return {}
    return {"questions": questions_read.digest(local, settings.tasks)}


def write_inputs(study: Study, root: Path) -> None:
    """MT-Bench's made-up questions with their Record, and the receipts of the training rows."""
    rows = [
        {
            "question_id": 81 + place,
            "category": CATEGORIES[place % 8],
            "turns": [f"Made-up <question> {place}?", "And made-up again?"],
        }
        for place in range(80)
    ]
    folder = root / "questions"
    file = folder / "mtbench" / "question.jsonl"
    write_jsonl(file, rows)
    name = file.relative_to(folder).as_posix()
    QuestionsRecord(
        files={name: QuestionFile(rows=len(rows), sha256=sha256_file(file))},
        proof=proven(QuestionsJob.of(study), "questions", {}, folder, [file]),
    ).save(folder / "questions.json")
    write_receipt(folder / "questions.sha256", sha256_text("questions"))
    for track in study.tracks:
        for seed in study.seeds:
            receipt = root / "data" / track / f"seed{seed}.sha256"
            receipt.parent.mkdir(parents=True, exist_ok=True)
            write_receipt(receipt, rows_hash(track, seed))


def write_models(study: Study, resources: Path) -> None:
    """The base models' Records and receipts, as `resources/models/<name>` has them."""
    for model, source in study.models.items():
        folder = resources / "models" / model
        record = ModelRecord(
            model=model,
            source=source.model_dump(mode="json"),
            weights_sha256=weights_of_base(model),
            parameters=134_515_008,
            decoder_layers=12,
            hidden_size=64,
            bytes=270_000_000,
            proof=proven(ModelJob.of(study, model), "base_model", {}, folder),
        )
        record.save(folder / "model.json")
        write_receipt(folder / "weights.sha256", record.weights_sha256)


def reprove(study: Study, root: Path) -> None:
    """Let every result that a test has changed prove what the study asks, and its files as now."""
    for result in state.unfit(state.of(study, root, root / "no resources")):
        values = read_json(result.path)
        names = values["proof"]["made"]
        made = {name: sha256_file(result.path.parent / name) for name in names}
        values["proof"] = result.asked.model_copy(update={"made": made}).model_dump(mode="json")
        write_json(result.path, values)
