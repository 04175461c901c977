"""Does a method fit a model? What needs the model's shape, checked before data and training."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from owlore.core.errors import BadInput
from owlore.core.files import read_json
from owlore.study.config import Study
from owlore.study.method import Layers, Method, Trained


def check_method(shape: Mapping[str, Any], method: Method, where: str) -> None:
    """Check one method against a model's shape.

    Args:
        shape: decoder_layers, hidden_size, max_position_embeddings (None: no limit).
        method: the method with all defaults filled in.
        where: what the error calls the method.

    Raises:
        BadInput: gamma exceeds the decoder layers, a rank the hidden size, or a length the window;
            or the precision needs a package that is not installed.
    """
    layers, hidden = shape["decoder_layers"], shape["hidden_size"]
    if isinstance(method, Layers) and method.gamma > layers:
        raise BadInput(f"{where}.gamma: {method.gamma}: the model has {layers} decoder layers")
    for key, rank in method.ranks.items():
        if rank > hidden:
            raise BadInput(f"{where}.{key}: {rank}: at most the model's hidden size, {hidden}")
    if not isinstance(method, Trained):
        return
    if method.precision == "bfloat16-lean" and importlib.util.find_spec("torchao") is None:
        raise BadInput(f"{where}.precision: {method.precision} needs torchao: pip install torchao")
    window = shape["max_position_embeddings"]
    if window is not None and method.max_length > window:
        raise BadInput(f"{where}.max_length: {method.max_length}: the model's window is {window}")


def check_models(study: Study, resources: Path) -> None:
    """Check every cell whose base model is already there.

    Args:
        study: a checked study.
        resources: folder with `models/<name>/model.json`.

    Raises:
        BadInput: see `check_method`.
    """
    for name in study.models:
        described = resources / "models" / name / "model.json"
        if described.exists():
            check_cells(study, name, read_json(described))


def check_cells(study: Study, model: str, shape: Mapping[str, Any]) -> None:
    """Check every cell of one model against its shape.

    Raises:
        BadInput: see `check_method`.
    """
    for cell in study.cells():
        if cell.model == model:
            method = study.method(cell.method, cell.track, cell.model)
            check_method(shape, method, f"methods.{cell.method}")
