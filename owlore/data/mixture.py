"""Draw a track's training examples from its pools.

Run as: `owlore data --study config.yaml --track mini --seed 0 --questions DIR --output TRAIN.jsonl`
"""

import random
from pathlib import Path

from owlore.core.errors import BadInput
from owlore.core.files import sha256_file, write_jsonl, write_receipt
from owlore.data.pools import pool_file, read_pool
from owlore.data.training_formats import Row
from owlore.records import proof
from owlore.records.data import DataJob, DataRecord
from owlore.study.config import Questions


def run(job: DataJob, questions: Path, output: Path) -> DataRecord:
    """Draw a track's rows and write them to `output`; the Record lies beside, as `.json`.

    Args:
        job: the mixture and the seed.
        questions: folder that the questions stage wrote.
        output: TRAIN.jsonl.

    Raises:
        BadInput: see `training_rows`.
    """
    given = Questions(files=job.files, hub=job.hub)
    files = {pool: pool_file(given, pool, questions) for pool in job.train}
    read = {
        pool: sha256_file(file)
        for pool, file in files.items()
        if file is not None and file.is_file()  # a hub's commit stands in the Job
    }
    described, asked = output.with_suffix(".json"), proof.of(job, __name__, read)
    record = proof.kept(DataRecord, described, asked, f"data {job.track} seed {job.seed}")
    if record is None:
        rows = training_rows(job, questions)
        write_jsonl(output, rows)
        sha256 = sha256_file(output)
        record = DataRecord(
            track=job.track,
            seed=job.seed,
            rows=len(rows),
            sha256=sha256,
            proof=asked.model_copy(update={"made": {output.name: sha256}}),
        )
        record.save(described)
    write_receipt(output.with_suffix(".sha256"), record.sha256)
    return record


def training_rows(job: DataJob, questions: Path) -> list[Row]:
    """Draw a track's training mixture; every method with this seed sees the same rows in order.

    Args:
        job: the mixture, where its pools come from, and the seed: it draws the examples of each
            pool and their order.
        questions: folder that the questions stage wrote.

    Raises:
        BadInput: a pool is missing, cannot be read, is too small, or has rows of an unknown shape.
    """
    rows: list[Row] = []
    given = Questions(files=job.files, hub=job.hub)
    for pool, wanted in job.train.items():
        key = f"tracks.{job.track}.train.{pool}"
        available = read_pool(given, pool, questions, key)
        if len(available) < wanted:
            raise BadInput(f"{key}: {wanted}: the pool has {len(available)} rows")
        drawn = random.Random(f"{job.seed}/{pool}").sample(available, wanted)
        rows += [{**row, "source": pool} for row in drawn]
    random.Random(f"{job.seed}/order").shuffle(rows)
    return rows
