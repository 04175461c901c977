"""Make an ordinary checkpoint of a study's base model: from a GGUF file, a folder or the hub.

Run as: `owlore model --study config.yaml --name smollm2-135m --archives resources/archives
--output resources/models/smollm2-135m`
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from owlore.core.files import require_free_space, write_receipt
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.sources import ModelJob, ModelRecord
from owlore.sources.assets import open_member
from owlore.sources.models import load, load_tokenizer, read_config, shape, weights_sha256
from owlore.study.config import Model


def run(job: ModelJob, archives: Path, output: Path) -> ModelRecord:
    """Save the base model as a plain safetensors checkpoint in `output`, model.json last.

    Args:
        job: where the model comes from.
        archives: folder of the downloaded archives.
        output: folder to make.

    Raises:
        BadInput: the source is missing or not a causal language model.
    """
    source = job.source
    # A hub's commit and an archive's hash stand in the Job; a folder may hold anything.
    read = {"weights": weights_sha256(Path(source.path))} if source.path else {}
    described, asked = output / "model.json", proof.of(job, __name__, read)
    record = proof.kept(ModelRecord, described, asked, f"model {job.model}")
    if record is None or not _is_whole(output, record):
        record = _build(job, archives, output, asked)
        record.save(described)
    write_receipt(output / "weights.sha256", record.weights_sha256)
    return record


def _build(job: ModelJob, archives: Path, output: Path, asked: Proof) -> ModelRecord:
    output.mkdir(parents=True, exist_ok=True)
    (output / "model.json").unlink(missing_ok=True)  # until it is back, the folder is not whole
    source = job.source
    if job.archive is not None and source.gguf is not None:
        language_model, tokenizer = _from_gguf(archives / job.archive.filename, source.gguf, output)
    else:
        language_model, tokenizer = _from_folder_or_hub(source)
    require_free_space(output, 2 * _parameter_bytes(language_model))
    language_model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    config = json.loads((output / "config.json").read_text())
    return ModelRecord(
        model=job.model,
        source=source.model_dump(mode="json", exclude_none=True),
        weights_sha256=weights_sha256(output),
        parameters=sum(p.numel() for p in language_model.parameters()),
        **shape(language_model.config),
        architecture=config.get("architectures", [None])[0],
        bytes=sum(p.stat().st_size for p in output.glob("*.safetensors")),
        proof=asked,
    )


def _is_whole(folder: Path, record: ModelRecord) -> bool:
    there = (folder / "config.json").exists() and any(folder.glob("*.safetensors"))
    return there and weights_sha256(folder) == record.weights_sha256


def _from_gguf(
    archive: Path, member: str, output: Path
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a quantised GGUF file out of an archive and dequantise it to float32."""
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        name = Path(member).name
        (Path(scratch) / name).write_bytes(open_member(archive, member))
        model = AutoModelForCausalLM.from_pretrained(
            scratch,
            gguf_file=name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=name)
    return model, tokenizer


def _from_folder_or_hub(model: Model) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if model.path is not None:
        folder = Path(model.path)
        config = read_config(folder)
        language_model = load(folder, _dtype_name(config))
        return language_model, load_tokenizer(folder)
    from owlore.sources import hub  # it imports datasets, which takes a second

    assert model.hub is not None
    with hub.explained("models: hub", model.hub, model.revision):
        source: dict[str, Any] = {"revision": model.revision}
        language_model = AutoModelForCausalLM.from_pretrained(model.hub, dtype="auto", **source)
        tokenizer = AutoTokenizer.from_pretrained(model.hub, **source)
    return language_model, tokenizer


def _dtype_name(config: PretrainedConfig) -> str:
    return "bfloat16" if config.dtype == torch.bfloat16 else "float32"


def _parameter_bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())
