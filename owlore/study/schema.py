"""The JSON schema of a study, for editors: `owlore schema > workflow/schemas/study.schema.json`.

It knows of a block what `owlore check` knows, as far as the block can be judged alone: a method's
block may leave out what `training:` supplies, so that it cannot ask for any key but `trainable`.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import models_json_schema

from owlore.study.blocks import Kind
from owlore.study.config import Study
from owlore.study.judge import JUDGES
from owlore.study.method import LOW_RANK, METHODS, LowRank, MethodKind, TrainedKind


def study_schema() -> dict[str, Any]:
    """Return the schema of a study file, method blocks included.

    `Study` holds its methods as plain mappings, because a block is checked only when the study's
    `training` defaults have been laid under it; an editor should still know a block's keys.
    """
    schema = Study.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    _, methods = models_json_schema([(kind, "validation") for kind in METHODS])
    definitions.update(methods["$defs"])
    training: dict[str, Any] = {}
    for method in METHODS:
        block = definitions[method.__name__]
        training |= {key: value for key, value in block["properties"].items() if key != method.tag}
        block["required"] = [method.tag]
        if rules := list(_rules(method)):
            block["allOf"] = rules
    kinds: tuple[type[Kind], ...] = (*METHODS, *JUDGES)
    for kind in kinds:
        _add_foreign_keys(definitions[kind.__name__], kind)
    named = schema["properties"]["methods"]["patternProperties"]
    for pattern in named:  # the one that names must match
        named[pattern] = {"oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in METHODS]}
    schema["properties"]["training"] = {
        "type": "object",
        "description": "method keys shared by all methods; a method may override",
        "properties": training,
        "additionalProperties": False,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _add_foreign_keys(block: dict[str, Any], kind: type[Kind]) -> None:
    """Let the other kinds' keys stand in a block of this kind at their defaults alone."""
    for key, default in kind.foreign_keys().items():
        block["properties"][key] = {
            "const": default,
            "description": f"says nothing with {kind.tag}: {kind.tag_value()}",
        }


def _rules(kind: type[MethodKind]) -> Iterator[dict[str, Any]]:
    """Yield what `check` asks of a kind's own keys together, where the block has both.

    A block without `projection` may get it from `training:`.
    """
    if issubclass(kind, LowRank):
        yield _defaults_where(kind, LOW_RANK, "projection", {"const": "none"})
        yield {
            "if": {"properties": {"projection": {"const": "low-rank"}}, "required": ["projection"]},
            "then": {"properties": {"rank": {"not": {"const": None}}}},
        }
    if issubclass(kind, TrainedKind):
        yield _defaults_where(
            kind, ("mixed_precision",), "precision", {"not": {"const": "float32"}}
        )


def _defaults_where(
    kind: type[MethodKind], keys: tuple[str, ...], other: str, has: dict[str, Any]
) -> dict[str, Any]:
    """Return the rule that `keys` are at their defaults where the key `other` is as `has` says."""
    defaults = {key: {"const": kind.model_fields[key].default} for key in keys}
    return {
        "if": {"properties": {other: has}, "required": [other]},
        "then": {"properties": defaults},
    }


def text() -> str:
    """Return the schema as the committed file has it."""
    return json.dumps(study_schema(), indent=1, sort_keys=True)
