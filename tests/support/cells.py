"""Cells to fine-tune on a toy: methods, inputs on disk, the command line, a stop on the way."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.small_models import save_tiny

from owlore.records.finetune import FinetuneJob
from owlore.study.method import Trained, parse_method
from owlore.train import loop as training
from owlore.train import stage

COMMON = {
    "max_steps": 6,
    "per_device_train_batch_size": 4,
    "learning_rate": 0.01,
    "checkpoint_steps": 2,
    "padding_free": True,
    "max_length": 64,
}
LAYERS = {"trainable": "layers", "gamma": 1, "interval_steps": 3}
LOW_RANK = {"projection": "low-rank", "rank": 4, "update_proj_gap": 2}
METHODS = {
    "full": {"trainable": "all"},
    "lora": {"trainable": "lora", "r": 2, "lora_alpha": 4, "lora_dropout": 0.1},
    "galore": {"trainable": "all", **LOW_RANK},
    "lisa": {**LAYERS, "sampling": "uniform"},
    "owlore": {**LAYERS, **LOW_RANK, "sampling": "outlier", "law": "marginal"},
    "owlore-keep": {**LAYERS, **LOW_RANK, "sampling": "outlier", "state": "keep"},
    "frozen-embeddings": {**LAYERS, "sampling": "decrease", "train_embeddings": False},
    "owlore-master": {**LAYERS, **LOW_RANK, "sampling": "outlier", "precision": "bfloat16-master"},
    "full-stochastic": {"trainable": "all", "precision": "bfloat16-stochastic"},
    "dora": {"trainable": "lora", "r": 2, "lora_alpha": 4, "use_dora": True},
    "rslora": {"trainable": "lora", "r": 2, "lora_alpha": 4, "use_rslora": True},
    "pissa": {"trainable": "lora", "r": 2, "lora_alpha": 4, "init_lora_weights": "pissa"},
}


def method(name: str, **changes) -> Trained:
    return parse_method({**COMMON, **METHODS[name], **changes}, name)


def write_inputs(folder: Path) -> Path:
    """Write a tiny checkpoint, training rows and outlier scores; return the folder."""
    save_tiny(folder / "model")
    rows = [
        {"prompt": f"Question: {i}\nAnswer:", "completion": f" the {'abcdefghij'[i % 10]}"}
        for i in range(16)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = [{"index": i, "outlier_ratio": ratio} for i, ratio in enumerate([0.4, 0.1, 0.2, 0.3])]
    (folder / "outliers.json").write_text(json.dumps({"layers": scores}))
    return folder


def command(inputs: Path, output: Path, chosen: Trained, ranks: int = 1) -> list[str]:
    """The command line that trains a cell; on several ranks under torchrun."""
    block = json.dumps(chosen.model_dump(mode="json", exclude={"overrides"}, exclude_unset=True))
    line = [sys.executable, "-m"]
    if ranks > 1:
        line += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    line += ["owlore", "finetune", "--model", str(inputs / "model")]
    line += ["--data", str(inputs / "train.jsonl"), "--method", block, "--output", str(output)]
    return [*line, "--outliers", str(inputs / "outliers.json")] if chosen.needs_outliers else line


@contextmanager
def stopped_at_step(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Interrupt the training inside after so many steps, in this process."""
    real_loss = training.CellTrainer.compute_loss

    def stop(self, *arguments, **keywords):
        if self.state.global_step == step:
            raise KeyboardInterrupt
        return real_loss(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(training.CellTrainer, "compute_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            yield


def train(inputs: Path, output: Path, chosen: Trained, seed: int = 0) -> dict:
    torch.set_num_threads(1)
    scores = inputs / "outliers.json" if chosen.needs_outliers else None
    job = FinetuneJob(method=chosen, seed=seed)
    stage.run(job, stage.Inputs(inputs / "model", inputs / "train.jsonl", scores), output)
    return json.loads((output / "finetune.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
