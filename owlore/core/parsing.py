"""Read YAML and check it against a pydantic class; every finding becomes one readable line."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from owlore.core.errors import BadInput

Block = TypeVar("Block", bound=BaseModel)


class OneOf(Generic[Block]):
    """A discriminated union of blocks, for `parse` to take in place of a class."""

    def __init__(self, annotation: Any):
        """Take the union as it is annotated: `Annotated[A | B, Field(discriminator="key")]`."""
        self.annotation = annotation
        self.adapter: TypeAdapter[Block] = TypeAdapter(annotation)


def parse(kind: type[Block] | OneOf[Block], value: Any, where: str) -> Block:
    """Validate `value` as a `kind`; `where` names the file or block in the error.

    Raises:
        BadInput: one line that names the key, the value and what is allowed.
    """
    try:
        if isinstance(kind, OneOf):
            return kind.adapter.validate_python(value)
        return kind.model_validate(value)
    except ValidationError as error:
        annotation = kind.annotation if isinstance(kind, OneOf) else kind
        raise BadInput(_one_line(error, annotation, where)) from None


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


def _one_line(error: ValidationError, kind: Any, where: str) -> str:
    """Turn pydantic's first finding into `where: key: value: what is allowed`."""
    first, *others = error.errors(include_url=False)
    location, block = _walk(kind, [part for part in first["loc"] if part != "[key]"])
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key ({near(location[-1], getattr(block, 'model_fields', ()))})"
    elif first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = first["ctx"]["discriminator"].strip("'")
        location.append(tag)
        message = "this key is required"
        if first["type"] == "union_tag_invalid":
            *most, last = first["ctx"]["expected_tags"].split(", ")
            message = f"{first['input'][tag]!r}: Input should be {', '.join(most)} or {last}"
    elif first["type"] == "missing":
        message = "this key is required"
    elif first["type"] != "value_error":
        message = f"{first['input']!r}: {message}"
    more = f" (and {len(others)} more)" if others else ""
    return ": ".join(filter(None, (where, ".".join(location), message))) + more


def _walk(kind: Any, location: list[int | str]) -> tuple[list[str], Any]:
    """Follow pydantic's location of a finding through the annotations.

    Returns:
        the location as the user knows it, without the tags that pydantic adds where a union is
        told apart by a key; and the innermost block on the way.
    """
    shown, current, block = [], _plain(kind), _plain(kind)
    for part in location:
        members = get_args(current) if get_origin(current) in (Union, UnionType) else ()
        tagged = [member for member in members if part in _tags(member)]
        if tagged:
            current = block = tagged[0]
            continue
        shown.append(str(part))
        if get_origin(current) in (dict, list):
            current = _plain(get_args(current)[-1])
        else:
            field = getattr(current, "model_fields", {}).get(part)
            current = _plain(field.annotation) if field is not None else None
        if hasattr(current, "model_fields"):
            block = current
    return shown, block


def _plain(annotation: Any) -> Any:
    """Take off `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return _plain(members[0])
    return annotation


def _tags(kind: Any) -> list[Any]:
    """Return the values by which a block's class may be told apart from its siblings."""
    fields = getattr(kind, "model_fields", {}).values()
    return [
        value
        for field in fields
        if get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
        if field.is_required()
    ]
