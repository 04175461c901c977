"""Models: load a checkpoint, find its decoder layers, hash its weights."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from owlore.core.errors import BadInput
from owlore.core.files import read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Weights:
    """What is scored: a checkpoint's folder, an adapter's to merge into it, and their hash."""

    model: Path
    adapter: Path | None
    sha256: str


def load(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """Load a causal language model from a local folder, never from the hub.

    Raises:
        BadInput: the folder is not a checkpoint.
    """
    if not (folder / "config.json").is_file():
        raise BadInput(f"model: {folder} is not a checkpoint folder (it has no config.json)")
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], local_files_only=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"model: {folder}: {_first_line(error)}") from None
    return model


def merged(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Return the model with a peft adapter merged into its weights.

    Raises:
        BadInput: the folder holds no adapter.
    """
    from peft import PeftModel  # takes seconds to import, and few checkpoints are adapters

    if not (adapter / "adapter_config.json").is_file():
        raise BadInput(f"adapter: {adapter}: no peft adapter (it has no adapter_config.json)")
    whole: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return whole


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a local folder; a missing padding token becomes the end token.

    Raises:
        BadInput: the folder has no tokenizer, or one without an end-of-text token.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"model: {folder}: no tokenizer ({_first_line(error)})") from None
    if tokenizer.eos_token_id is None:
        raise BadInput(f"model: {folder}: the tokenizer has no end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the list of decoder layers of any Hugging Face causal language model.

    It is the longest `nn.ModuleList` whose members are all of one class and hold parameters:
    `model.layers` of Llama, Mistral and Qwen2, `transformer.h` of GPT-2. Lists inside a layer
    (experts) are shorter paths down and are passed over.

    Raises:
        BadInput: the model has no such list.
    """
    candidates = [
        (path.count("."), -len(module), module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) > 0
        and len({type(member) for member in module}) == 1
        and any(True for _ in module.parameters())
    ]
    if not candidates:
        raise BadInput(f"model: {type(model).__name__} has no list of decoder layers")
    return min(candidates, key=lambda item: item[:2])[2]


def linear_modules(layer: nn.Module) -> dict[str, nn.Linear]:
    """Return a decoder layer's linear maps by name: nn.Linear, and GPT-2's transposed Conv1D."""
    return {
        name: cast("nn.Linear", module)
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }


def without_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model that peft has wrapped, with the adapter's layers in it, or the model."""
    unwrap = getattr(model, "get_base_model", None)  # importing peft to ask it takes seconds
    return cast("PreTrainedModel", unwrap()) if unwrap is not None else model


def decoder(model: PreTrainedModel) -> nn.Module:
    """Return the model without its head: token ids in, hidden states out."""
    inner: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    return inner


def head(model: PreTrainedModel) -> nn.Module | None:
    """Return the map from hidden states to logits, None if the model has none."""
    found: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return found


class Shape(TypedDict):
    """What methods are checked against, and what model.json has of it."""

    decoder_layers: int
    hidden_size: int
    max_position_embeddings: int | None


def shape(config: PretrainedConfig) -> Shape:
    """Return what `owlore.study.fit` checks methods against."""
    text = config.get_text_config()
    return {
        "decoder_layers": text.num_hidden_layers,
        "hidden_size": text.hidden_size,
        "max_position_embeddings": positions(config),
    }


def positions(config: PretrainedConfig) -> int | None:
    """Return how many tokens fit into the model's window; None if it sets no limit."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def read_config(folder_or_file: Path) -> PretrainedConfig:
    """Read a model's configuration from a checkpoint folder or a config.json.

    Raises:
        BadInput: neither is there, or it is not a configuration.
    """
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder_or_file, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadInput(f"model: {folder_or_file}: {_first_line(error)}") from None
    return config


def recorded_sha256(folder: Path) -> str:
    """Return the weights' hash as model.json has it; computed for a folder without one.

    Raises:
        BadInput: see `weights_sha256`.
    """
    described = folder / "model.json"
    if described.exists():
        return str(read_json(described)["weights_sha256"])
    return weights_sha256(folder)


def weights_sha256(folder: Path) -> str:
    """Return a hash of all tensors in a checkpoint's safetensors files.

    Names, dtypes, shapes and bytes enter, in the order of their names; the file's metadata and
    the way it is cut into shards do not.

    Raises:
        BadInput: the folder holds no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(f"{folder}: no safetensors file")
    places = {}
    for file in files:
        with safe_open(file, framework="pt") as shard:
            places.update(dict.fromkeys(shard.keys(), file))
    digest = hashlib.sha256()
    for name in sorted(places):
        with safe_open(places[name], framework="pt") as shard:
            tensor = shard.get_tensor(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
