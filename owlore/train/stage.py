"""Fine-tune one cell: transformers' Trainer with our optimizer, layer switch and answer-only loss.

Run as: `owlore finetune --model DIR --data TRAIN.jsonl --method METHOD.yaml [--outliers OUT.json]
--seed K --output DIR`

A killed run resumes from its last whole checkpoint and ends with the same weights as one never
killed: data order, layer draws, optimizer and random states are all restored. Under torchrun the
model is sharded (`owlore.train.sharding`); a checkpoint resumes on any number of ranks.
"""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore.core import provenance, ranks
from owlore.core.errors import BadInput
from owlore.core.files import (
    canonical_json,
    put_in_place,
    read_jsonl,
    require_free_space,
    sha256_file,
    sha256_text,
    write_jsonl,
    write_receipt,
)
from owlore.data import examples as data
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.finetune import FinetuneJob, FinetuneRecord, names_of
from owlore.records.outliers import LayerScores
from owlore.sources import models
from owlore.study.fit import check_method
from owlore.study.method import Full, Layers, Method, require_trained
from owlore.train import sharding
from owlore.train.loop import CellTrainer
from owlore.train.methods import kept_model, trainable_model
from owlore.train.precision import dtype_of


@dataclass(frozen=True)
class Inputs:
    """What a training reads: the base model's folder, rows, and where it draws by them, scores."""

    model: Path
    data: Path
    outliers: Path | None = None


def run(
    job: FinetuneJob,
    inputs: Inputs,
    output: Path,
    device: str = "cpu",
    checkpoint_steps: int | None = None,
) -> FinetuneRecord | None:
    """Train one cell and write model/, history.jsonl and, last, finetune.json into `output`.

    Args:
        job: the method with all defaults filled in, and the seed: of the layer draw, the data order
            after the first epoch, and dropout.
        inputs: see `Inputs`.
        output: the cell's folder.
        device: cpu or cuda.
        checkpoint_steps: between two checkpoints; it decides no result. None: the method's.

    Returns:
        What was written; None on ranks other than the first.

    Raises:
        BadInput: method, data and model do not fit each other.
        TrainingStopped: the loss or a gradient is not finite, or another rank has died.
    """
    what = f"finetune {job.cell.path}" if job.cell is not None else "finetune"
    models.read_config(inputs.model)  # that it is a model at all is said first
    scores = _outlier_ratios(job.method, inputs)
    if not inputs.data.is_file():
        raise BadInput(f"{inputs.data}: no such file")
    read = {"base": models.recorded_sha256(inputs.model), "data": sha256_file(inputs.data)}
    if scores is not None:  # not their file: it also says when and how fast they were made
        read["outliers"] = sha256_text(canonical_json(scores))
    asked = proof.of(job, __name__, read)
    described = output / "finetune.json"
    # Every rank looks for itself: nothing is written before all have met.
    record = proof.kept(FinetuneRecord, described, asked, what)
    if record is None or not _is_whole(record):
        record = _trained(job, inputs, output, device, scores, checkpoint_steps, asked)
        if record is None:
            return None
        made = {"history.jsonl": sha256_file(output / "history.jsonl")}
        accepted = record.proof.accepted if record.proof is not None else None
        rests_on = asked.model_copy(update={"made": made, "accepted": accepted})
        record = record.model_copy(update={"proof": rests_on})
        record.save(described)
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
    if ranks.is_first():
        write_receipt(output / "weights.sha256", record.weights_sha256)
    return record


def _is_whole(record: FinetuneRecord) -> bool:
    """Whether the weights are still there, and still the ones."""
    folder = Path(record.model_dir)
    there = any(folder.glob("*.safetensors"))
    return there and models.weights_sha256(folder) == record.weights_sha256


def _trained(
    job: FinetuneJob,
    inputs: Inputs,
    output: Path,
    device: str,
    scores: list[float] | None,
    checkpoint_steps: int | None,
    asked: Proof,
) -> FinetuneRecord | None:
    started, clock = provenance.now(), time.monotonic()
    method = require_trained(job.method, "train")
    model_dir, device = inputs.model, _checked_device(device)
    if checkpoint_steps is not None:
        method = method.model_copy(update={"checkpoint_steps": checkpoint_steps})
    config = models.read_config(model_dir)
    check_method(models.shape(config), method, "method")
    sharding.check(method)
    tokenizer = models.load_tokenizer(model_dir)
    rows = read_jsonl(inputs.data)
    examples = data.tokenise(rows, tokenizer, method.max_length, method.too_long)
    largest = max(max(example.input_ids) for example in examples)
    if largest >= config.get_text_config().vocab_size:
        raise BadInput(f"data: token {largest} is outside the model's vocabulary")
    size = sum(file.stat().st_size for file in model_dir.glob("*.safetensors"))
    require_free_space(output, size * (8 if isinstance(method, Full) else 4))

    with sharding.together(device):
        torch.manual_seed(job.seed)
        model = trainable_model(models.load(model_dir, dtype_of(method.precision)), method)
        trainer = CellTrainer.assemble(
            model, tokenizer, examples, method, job.seed, scores, output / "checkpoints", device
        )
        resume_from = trainer.prepare_resume(asked)
        torch.manual_seed(job.seed)
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        result = trainer.results()
        weights = sharding.whole_weights(model) if ranks.count() > 1 else None
    if not ranks.is_first():
        return None
    kept, adapter = kept_model(model, method)
    if weights is not None and adapter != method.adapter:
        raise BadInput(
            "torchrun: what this method keeps is merged, which works on one process only"
        )
    _save(kept, tokenizer, output / "model", weights)
    write_jsonl(output / "history.jsonl", trainer.history())
    stamp = provenance.stamp(started, clock)
    return FinetuneRecord(
        **names_of(job),
        model_dir=str(output / "model"),
        adapter=adapter,
        weights_sha256=models.weights_sha256(output / "model"),
        base_sha256=asked.read["base"],
        data_sha256=asked.read["data"],
        outliers_sha256=asked.read.get("outliers"),
        checkpoint_bytes=sum(
            file.stat().st_size for file in (output / "model").glob("*.safetensors")
        ),
        resumed_from_step=int(resume_from.name.split("-")[1]) if resume_from else None,
        config=method.model_dump(mode="json", exclude={"overrides"}),
        threads=torch.get_num_threads(),
        device=device,
        proof=trainer.proof,
        started=stamp["started"],
        ended=stamp["ended"],
        versions=stamp["versions"],
        git=stamp["git"],
        **result,
    )


def _outlier_ratios(method: Method, inputs: Inputs) -> list[float] | None:
    if not isinstance(method, Layers) or not method.needs_outliers:
        return None
    if inputs.outliers is None:
        raise BadInput(f"--outliers: sampling: {method.sampling} needs a file of outlier scores")
    try:
        ratios = LayerScores.load(inputs.outliers).ratios
    except BadInput as error:
        raise BadInput(f"{error}: not a file of outlier scores") from None
    layers = models.read_config(inputs.model).get_text_config().num_hidden_layers
    if len(ratios) != layers:
        raise BadInput(f"{inputs.outliers}: {len(ratios)} layers, the model has {layers}")
    return ratios


def _checked_device(device: str) -> str:
    if device not in ("cpu", "cuda"):
        raise BadInput(f"--device: {device!r}: allowed cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device: cuda: this machine has no usable CUDA device")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cuda" and torch.cuda.device_count() < here:
        raise BadInput(
            f"torchrun: {here} processes on this machine want a GPU each, to be seen are "
            f"{torch.cuda.device_count()}"
        )
    return device


def _save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    weights: dict[str, Tensor] | None,
) -> None:
    """Save a checkpoint or adapter so that `folder` is whole or absent."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial, state_dict=weights)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    put_in_place(partial, folder)
