"""Read YAML and check it against a pydantic class; every finding becomes one readable line."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from owlore.core.errors import BadInput

Block = TypeVar("Block", bound=BaseModel)


def parse(kind: type[Block], value: Any, where: str) -> Block:
    """Validate `value` as a `kind`; `where` names the file or block in the error.

    Raises:
        BadInput: one line that names the key, the value and what is allowed.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise BadInput(_one_line(error, kind, where)) from None


def load_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        BadInput: the file is missing, is not YAML, or names a key twice.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_UniqueKeys)
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not YAML ({' '.join(str(error).split())})") from None


def near(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Say which of the known names was probably meant; if none, `otherwise` or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return otherwise or "allowed: " + (", ".join(names) or "none")


class _UniqueKeys(yaml.SafeLoader):
    """YAML's plain loader, except that a key given twice is an error and 1e-4 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen and key != "<<":
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-4 as a string; everybody who writes a learning rate means a number.
_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _one_line(error: ValidationError, kind: type[BaseModel], where: str) -> str:
    """Turn pydantic's first finding into `where: key: value: what is allowed`."""
    first, *others = error.errors(include_url=False)
    location = ".".join(str(part) for part in first["loc"] if part != "[key]")
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(kind, first["loc"][:-1])
        message = f"unknown key ({near(str(first['loc'][-1]), allowed)})"
    elif first["type"] == "missing":
        message = "this key is required"
    elif first["type"] != "value_error":
        message = f"{first['input']!r}: {message}"
    more = f" (and {len(others)} more)" if others else ""
    return ": ".join(filter(None, (where, location, message))) + more


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the keys allowed where pydantic found an unknown one."""
    current: Any = kind
    for part in location:
        fields = getattr(current, "model_fields", {})
        annotation = fields[part].annotation if part in fields else None
        if annotation is None:  # an index or a mapping's key: stay with the block it holds
            continue
        current = _block_in(annotation) or current
    return list(getattr(current, "model_fields", {}))


def _block_in(annotation: Any) -> type[BaseModel] | None:
    """The block class named in an annotation such as `dict[str, Track] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _block_in(inner):
            return found
    return None
