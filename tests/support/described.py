"""Records of a base model and of a trained cell, for tests that need no more than a few fields."""

from typing import Any

from owlore.records.finetune import FinetuneRecord, MemoryBytes
from owlore.records.sources import ModelRecord


def cell_of(**values: Any) -> FinetuneRecord:
    """A cell's finetune.json; `values` replace what says nothing."""
    whole: dict[str, Any] = {
        "model_dir": "model",
        "adapter": False,
        "weights_sha256": "ab" * 32,
        "base_sha256": "cd" * 32,
        "total_parameters": 1,
        "memory_bytes": MemoryBytes(),
        "checkpoint_bytes": 1,
        "config": {},
        "threads": 1,
        "device": "cpu",
    }
    return FinetuneRecord(**whole | values)


def model_of(**values: Any) -> ModelRecord:
    """A base model's model.json; `values` replace what says nothing."""
    whole: dict[str, Any] = {
        "model": "toy",
        "source": {},
        "weights_sha256": "cd" * 32,
        "parameters": 1,
        "decoder_layers": 1,
        "hidden_size": 1,
        "bytes": 1,
    }
    return ModelRecord(**whole | values)
