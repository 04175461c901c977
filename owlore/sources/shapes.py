"""Shapes of models as their owners published them, so that memory can be planned without the hub.

Each is what the model's config.json says of sizes; neither weights nor a tokenizer come with it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from owlore.core.errors import BadInput
from owlore.study.config import Study

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Shape:
    """A published model: its repository on the hub, its parameters, and its configuration."""

    hub: str
    parameters: int
    model_type: str
    values: dict[str, Any]


def _large(**values: Any) -> dict[str, Any]:
    """What the three large ones have in common."""
    shared = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
    return {**shared, "tie_word_embeddings": False, **values}


PUBLISHED = {
    "llama2-7b": Shape(
        "meta-llama/Llama-2-7b-hf",
        6_738_415_616,
        "llama",
        _large(
            vocab_size=32000,
            intermediate_size=11008,
            num_key_value_heads=32,
            max_position_embeddings=4096,
        ),
    ),
    "llama2-70b": Shape(
        "meta-llama/Llama-2-70b-hf",
        68_976_648_192,
        "llama",
        {
            "vocab_size": 32000,
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": False,
        },
    ),
    "llama3-8b": Shape(
        "meta-llama/Meta-Llama-3-8B",
        8_030_261_248,
        "llama",
        _large(
            vocab_size=128256,
            intermediate_size=14336,
            num_key_value_heads=8,
            max_position_embeddings=8192,
        ),
    ),
    "mistral-7b": Shape(
        "mistralai/Mistral-7B-v0.1",
        7_241_732_096,
        "mistral",
        _large(
            vocab_size=32000,
            intermediate_size=14336,
            num_key_value_heads=8,
            max_position_embeddings=32768,
            sliding_window=4096,
        ),
    ),
    "smollm2-135m": Shape(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        134_515_008,
        "llama",
        {
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    ),
}


def on_hub(repository: str | None) -> str | None:
    """Return the name in PUBLISHED of a repository on the hub, or None."""
    found = (name for name, shape in PUBLISHED.items() if shape.hub == repository)
    return next(found, None)


def published(name: str) -> "PretrainedConfig":
    """Return the configuration of a model in PUBLISHED."""
    from transformers import AutoConfig

    shape = PUBLISHED[name]
    config: PretrainedConfig = AutoConfig.for_model(shape.model_type, **shape.values)
    return config


def configuration(source: str | Path) -> "tuple[str, PretrainedConfig]":
    """Return a model's name and configuration: a name of PUBLISHED, a folder or a config.json.

    Raises:
        BadInput: it is none of them.
    """
    from owlore.sources import models

    if str(source) in PUBLISHED:
        return str(source), published(str(source))
    path = Path(source)
    if not path.exists():
        raise BadInput(
            f"--model: {source}: allowed: a checkpoint folder, a config.json, "
            f"{', '.join(PUBLISHED)}"
        )
    name = path.parent.name if path.name == "config.json" else path.stem
    return name, models.read_config(path)


def of_study(study: Study, name: str, resources: Path) -> "PretrainedConfig | None":
    """Return the configuration of a study's model, None if it cannot be known yet.

    It is read from the built checkpoint, from the study's folder, or from PUBLISHED for a hub
    model that is there.

    Raises:
        BadInput: a configuration is there but cannot be read.
    """
    from owlore.sources import models

    model = study.models[name]
    folders = [resources / "models" / name, *([Path(model.path)] if model.path else [])]
    for folder in folders:
        if (folder / "config.json").is_file():
            return models.read_config(folder)
    known = on_hub(model.hub)
    return published(known) if known is not None else None
