"""The base model's cell: nothing is trained, its weights are the base's."""

import time
from pathlib import Path

import torch

from owlore.core import provenance
from owlore.core.files import sha256_file, write_jsonl, write_receipt
from owlore.records import proof
from owlore.records.finetune import FinetuneJob, FinetuneRecord, MemoryBytes, names_of
from owlore.records.sources import ModelRecord


def run(job: FinetuneJob, model: Path, output: Path) -> FinetuneRecord:
    """Write the finetune.json of a cell that is not trained, and an empty history.

    Args:
        job: a method that trains nothing.
        model: folder that the model stage wrote.
        output: the cell's folder.

    Raises:
        BadInput: the folder has no model.json.
    """
    started, clock = provenance.now(), time.monotonic()
    base = ModelRecord.load(model / "model.json")
    described, history = output / "finetune.json", output / "history.jsonl"
    asked = proof.of(job, __name__, {"base": base.weights_sha256})
    record = proof.kept(FinetuneRecord, described, asked, f"finetune {output}")
    if record is None:
        write_jsonl(history, [])
        record = FinetuneRecord(
            **names_of(job),
            model_dir=str(model),
            adapter=False,
            weights_sha256=base.weights_sha256,
            base_sha256=base.weights_sha256,
            total_parameters=base.parameters,
            memory_bytes=MemoryBytes(weights=base.bytes),
            checkpoint_bytes=base.bytes,
            config={"trainable": "none"},
            threads=torch.get_num_threads(),
            device="cpu",
            proof=asked.model_copy(update={"made": {history.name: sha256_file(history)}}),
            **{**provenance.stamp(started, clock), "seconds": 0.0},
        )
        record.save(described)
    write_receipt(output / "weights.sha256", record.weights_sha256)
    return record
