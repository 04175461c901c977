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

from owlore.core.files import require_free_space, write_json
from owlore.sources.assets import open_member
from owlore.sources.models import load, load_tokenizer, read_config, shape, weights_sha256
from owlore.study.config import Model


def build(name: str, model: Model, archives: Path, filename: str | None, output: Path) -> None:
    """Save the base model as a plain safetensors checkpoint in `output`, model.json last.

    Args:
        name: the model's name in the study.
        model: where it comes from.
        archives: folder of the downloaded archives.
        filename: the archive's file in that folder, for a GGUF source.
        output: folder to make.

    Raises:
        BadInput: the source is missing or not a causal language model.
    """
    output.mkdir(parents=True, exist_ok=True)
    if model.archive is not None and model.gguf is not None and filename is not None:
        language_model, tokenizer = _from_gguf(archives / filename, model.gguf, output)
    else:
        language_model, tokenizer = _from_folder_or_hub(model)
    require_free_space(output, 2 * _parameter_bytes(language_model))
    language_model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    config = json.loads((output / "config.json").read_text())
    write_json(
        output / "model.json",
        {
            "model": name,
            "source": model.model_dump(mode="json", exclude_none=True),
            "weights_sha256": weights_sha256(output),
            "parameters": sum(p.numel() for p in language_model.parameters()),
            **shape(language_model.config),
            "architecture": config.get("architectures", [None])[0],
            "bytes": sum(p.stat().st_size for p in output.glob("*.safetensors")),
        },
    )


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
