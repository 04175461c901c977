"""What a study would run: `owlore check`. Reads the study and what is on disk; loads no model."""

from pathlib import Path

from owlore.core.files import free_bytes, read_jsonl
from owlore.data.training_formats import texts
from owlore.records.sources import ModelRecord
from owlore.sources.shapes import PUBLISHED, on_hub
from owlore.study.config import Cell, Study
from owlore.study.method import Trained
from owlore.train.precision import dtype_of

GIB = 2**30
WORDS_TO_TOKENS = 1.5  # a rough count while the training data is only text
PROMPT_TOKENS = 1000  # of MT-Bench: the judge's instructions, both turns, a reference; at most
GRADE_TOKENS = 300  # a judge's explanation


def describe(study: Study, root: Path, resources: Path) -> str:
    """Return a readable plan: cells, training tokens, disk.

    Args:
        study: a checked study.
        root: `results/<study>/`.
        resources: folder of archives and models.
    """
    cells = study.cells()
    trained = [cell for cell in cells if cell.seed is not None]
    done = [cell for cell in cells if (root / cell.path / "finetune.json").exists()]
    lines = [
        f"study {study.study}: valid",
        f"  models     {', '.join(study.models)}",
        "  tracks     "
        + "; ".join(f"{name} ({', '.join(t.benchmarks)})" for name, t in study.tracks.items()),
        f"  methods    {', '.join(study.run)}",
        f"  seeds      {', '.join(map(str, study.seeds))}",
        f"  cells      {len(cells)}, {len(trained)} of them trained, {len(done)} done so far",
        "  training   " + _training(study, root),
        "  judging    " + _judging(study),
        "  disk       " + _disk(study, root, resources, trained),
    ]
    return "\n".join(lines)


def _training(study: Study, root: Path) -> str:
    methods = [
        study.method(name, track, model)
        for track in study.tracks
        for model in study.models
        for name in study.run
    ]
    examples = [m.max_steps * m.examples_per_step for m in methods if isinstance(m, Trained)]
    cells = len(examples) * len(study.seeds)
    total = sum(examples) * len(study.seeds)
    text = f"{cells} runs, {total:,} examples in all"
    lengths = [
        sum(len(text.split()) for text in texts(row))
        for track in study.tracks
        for seed in study.seeds
        if (file := root / "data" / track / f"seed{seed}.jsonl").exists()
        for row in read_jsonl(file)
    ]
    if lengths:
        tokens = total * WORDS_TO_TOKENS * sum(lengths) / len(lengths)
        return f"{text}, about {tokens:,.0f} tokens"
    return f"{text} (tokens are known once the data stage has run)"


def _judging(study: Study) -> str:
    """The most tokens that a judge reads, and about what it writes."""
    read = graded = written = 0
    for cell in study.cells():
        asked = study.tracks[cell.track].mtbench
        if asked is not None:
            # Two turns a question: the first judged with one answer, the second with both.
            read += asked.questions * (2 * PROMPT_TOKENS + 3 * asked.max_new_tokens)
            graded += 2 * asked.questions
            if asked.judge.explains:
                written += 2 * asked.questions * GRADE_TOKENS
    if not graded:
        return "none"
    return (
        f"{graded:,} grades; at most {read / 1e6:,.2f} million tokens to read, about "
        f"{written / 1e6:,.2f} million to write"
    )


def _disk(study: Study, root: Path, resources: Path, trained: list[Cell]) -> str:
    free = free_bytes(root) / GIB
    sizes, parameters = {}, {}
    for name, model in study.models.items():
        file, known = resources / "models" / name / "model.json", on_hub(model.hub)
        if file.exists():
            record = ModelRecord.load(file)
            sizes[name], parameters[name] = record.bytes, record.parameters
        elif known is not None:  # on the hub in two bytes a parameter
            parameters[name] = PUBLISHED[known].parameters
            sizes[name] = 2 * parameters[name]
    if len(sizes) < len(study.models):
        return f"{free:.0f} GiB free (the need is known once the models are there)"
    kept = sum(sizes.values())
    for cell in trained:
        method = study.method(cell.method, cell.track, cell.model)
        if isinstance(method, Trained) and not method.adapter:
            width = 4 if dtype_of(method.precision) == "float32" else 2
            kept += parameters[cell.model] * width
    # A full fine-tuning checkpoint holds weights and two moments; two of them may lie on disk.
    working = 6 * max(sizes.values())
    return (
        f"about {kept / GIB:.1f} GiB of weights to keep, {working / GIB:.1f} GiB more while a "
        f"cell trains; {free:.0f} GiB free"
    )
