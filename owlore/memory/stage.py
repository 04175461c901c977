"""Simulated peak memory of every trained method of a study on one of its models.

Run as: `snakemake --cores all memory`; `owlore memory` alone asks `owlore.memory.plan`.
"""

from pathlib import Path

import pandas as pd

from owlore.core.errors import BadInput
from owlore.core.files import read_jsonl, sha256_file, write_text
from owlore.core.progress import Progress, line
from owlore.core.provenance import versions
from owlore.data import examples as data
from owlore.memory.simulate import simulate
from owlore.records import proof
from owlore.records.memory import MemoryJob, MemoryRecord, MemoryRow
from owlore.sources import models


def run(job: MemoryJob, model: Path, train_data: Path, output: Path) -> MemoryRecord:
    """Simulate every method and write JSON and CSV.

    A step is as large as the largest of the first seed's training data: that many tokens over
    `per_device_train_batch_size` sequences.

    Args:
        job: the methods of each track, and the seed.
        model: the model's checkpoint folder; its shape and its tokenizer are read.
        train_data: folder with `<track>/seed<k>.jsonl`.
        output: JSON file to write; the CSV lies beside it.

    Raises:
        BadInput: see `simulate`, or a training file is missing or malformed.
    """
    files = {track: train_data / track / f"seed{job.seed}.jsonl" for track in job.methods}
    for path in files.values():
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
    read = {f"data/{track}": sha256_file(path) for track, path in files.items()}
    read["shape"] = sha256_file(model / "config.json")
    asked, table = proof.of(job, __name__, read), output.with_suffix(".csv")
    record = proof.kept(MemoryRecord, output, asked, f"memory {job.model}")
    if record is not None:
        return record
    config, tokenizer = models.read_config(model), models.load_tokenizer(model)
    rows: list[MemoryRow] = []
    todo = [
        (track, name, method)
        for track, methods in job.methods.items()
        for name, method in methods.items()
    ]
    for track, name, method in Progress(todo, desc="memory", unit="method"):
        examples = data.tokenise(
            read_jsonl(files[track]), tokenizer, method.max_length, method.too_long
        )
        size = method.per_device_train_batch_size
        seqlen = data.longest_step(examples, size, method.padding_free)
        split = simulate(config, method, size, seqlen)
        rows.append(MemoryRow(method=name, track=track, micro_batch=size, seqlen=seqlen, **split))
        line(f"memory {job.model} {name}: simulated peak {split['peak_gib']:.2f} GiB")
    shown = [row.model_dump(exclude_none=True) for row in rows]
    write_text(table, pd.DataFrame(shown).to_csv(index=False))
    made = {table.name: sha256_file(table)}
    record = MemoryRecord(
        model=job.model,
        rows=rows,
        versions=versions(),
        proof=asked.model_copy(update={"made": made}),
    )
    record.save(output)
    return record
