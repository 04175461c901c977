"""Fine-tune one cell: transformers' Trainer with our optimizer, layer switch and answer-only loss.

Run as: `owlore finetune --model DIR --data TRAIN.jsonl --method METHOD.yaml [--outliers OUT.json]
--seed K --output DIR`

A killed run resumes from its last whole checkpoint and ends with the same weights as one never
killed: data order, layer draws, optimizer and random states are all restored. Under torchrun the
model is sharded (`owlore.train.sharding`); a checkpoint resumes on any number of ranks.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore.core import provenance, ranks
from owlore.core.errors import BadInput
from owlore.core.files import (
    canonical_json,
    read_json,
    read_jsonl,
    require_free_space,
    sha256_file,
    sha256_text,
    write_json,
    write_jsonl,
)
from owlore.data import examples as data
from owlore.sources import models
from owlore.study.fit import check_method
from owlore.study.method import Method
from owlore.train import sharding
from owlore.train.loop import CellTrainer
from owlore.train.methods import trainable_model


def finetune(
    model_dir: Path,
    train_file: Path,
    method: Method,
    output: Path,
    *,
    seed: int,
    outliers: Path | None,
    device: str = "cpu",
    cell: dict[str, Any] | None = None,
) -> None:
    """Train one cell and write model/, history.jsonl and, last, finetune.json into `output`.

    Args:
        model_dir: checkpoint folder of the base model.
        train_file: JSONL of training rows.
        method: the method with all defaults filled in.
        output: the cell's folder.
        seed: of the layer draw, the data order after the first epoch, and dropout.
        outliers: outlier scores of this model, where the method samples by them.
        device: cpu or cuda.
        cell: names (track, model, method, seed) to record.

    Raises:
        BadInput: method, data and model do not fit each other.
        TrainingStopped: the loss or a gradient is not finite, or another rank has died.
    """
    started, device = provenance.now(), _checked_device(device)
    config = models.read_config(model_dir)
    check_method(models.shape(config), method, "method")
    sharding.check(method)
    tokenizer = models.load_tokenizer(model_dir)
    examples = data.tokenise(read_jsonl(train_file), tokenizer, method.max_length, method.too_long)
    largest = max(max(example.input_ids) for example in examples)
    if largest >= config.get_text_config().vocab_size:
        raise BadInput(f"data: token {largest} is outside the model's vocabulary")
    scores = _outlier_ratios(method, outliers, model_dir)
    fingerprint = {
        "base": models.recorded_sha256(model_dir),
        "data": sha256_file(train_file),
        # The scores, not their file: it also says when and how fast they were made.
        "outliers": sha256_text(canonical_json(scores)) if scores is not None else None,
        "method": method.model_dump(mode="json", exclude={"overrides", "checkpoint_steps"}),
        "seed": seed,
    }
    size = sum(file.stat().st_size for file in model_dir.glob("*.safetensors"))
    require_free_space(output, size * (8 if method.trainable == "all" else 4))

    with sharding.together(device):
        torch.manual_seed(seed)
        model = trainable_model(models.load(model_dir, method.dtype), method)
        trainer = CellTrainer.assemble(
            model, tokenizer, examples, method, seed, scores, output / "checkpoints", device
        )
        resume_from = trainer.prepare_resume(fingerprint)
        torch.manual_seed(seed)
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        result = trainer.results()
        weights = sharding.whole_weights(model) if ranks.count() > 1 else None
    if not ranks.is_first():
        return
    _save(model, tokenizer, output / "model", weights)
    write_jsonl(output / "history.jsonl", trainer.history())
    write_json(
        output / "finetune.json",
        {
            **(cell or {"seed": seed}),
            "status": "done",
            "model_dir": str(output / "model"),
            "adapter": method.trainable == "lora",
            "weights_sha256": models.weights_sha256(output / "model"),
            "base_sha256": fingerprint["base"],
            "data_sha256": fingerprint["data"],
            "outliers_sha256": fingerprint["outliers"],
            "examples": len(examples),
            **result,
            "checkpoint_bytes": sum(
                file.stat().st_size for file in (output / "model").glob("*.safetensors")
            ),
            "resumed_from_step": int(resume_from.name.split("-")[1]) if resume_from else None,
            "config": method.model_dump(mode="json", exclude={"overrides"}),
            "started": started,
            "ended": provenance.now(),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
            "threads": torch.get_num_threads(),
            "device": device,
        },
    )
    shutil.rmtree(output / "checkpoints", ignore_errors=True)


def describe_base(model_dir: Path, output: Path, cell: dict[str, Any]) -> None:
    """Write the base model's finetune.json: nothing is trained, the weights are the base's."""
    base = read_json(model_dir / "model.json")
    write_jsonl(output / "history.jsonl", [])
    write_json(
        output / "finetune.json",
        {
            **cell,
            "status": "done",
            "model_dir": str(model_dir),
            "adapter": False,
            "weights_sha256": base["weights_sha256"],
            "base_sha256": base["weights_sha256"],
            "data_sha256": None,
            "outliers_sha256": None,
            "seconds": 0.0,
            "ranks": 1,
            "tokens": 0,
            "tokens_per_second": None,
            "examples": 0,
            "steps": 0,
            "first_loss": None,
            "final_loss": None,
            "trainable_parameters": 0,
            "total_parameters": base["parameters"],
            "memory_bytes": {"weights": base["bytes"], "gradients": 0, "optimizer": 0},
            "peak_bytes": None,
            "optimizer_bytes": 0,
            "decoder_optimizer_bytes": 0,
            "checkpoint_bytes": base["bytes"],
            "layer_activations": None,
            "switches": 0,
            "projector_refreshes": 0,
            "projector_seconds": 0.0,
            "resumed_from_step": None,
            "config": {"trainable": "none"},
            "started": provenance.now(),
            "ended": provenance.now(),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
            "threads": torch.get_num_threads(),
            "device": "cpu",
        },
    )


def _outlier_ratios(method: Method, outliers: Path | None, model_dir: Path) -> list[float] | None:
    if not method.needs_outliers:
        return None
    if outliers is None:
        raise BadInput(f"--outliers: sampling: {method.sampling} needs a file of outlier scores")
    scores = read_json(outliers)
    try:
        ratios = [float(layer["outlier_ratio"]) for layer in scores["layers"]]
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{outliers}: not a file of outlier scores") from None
    layers = models.read_config(model_dir).get_text_config().num_hidden_layers
    if len(ratios) != layers:
        raise BadInput(f"{outliers}: {len(ratios)} layers, the model has {layers}")
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
    os.replace(partial, folder)
