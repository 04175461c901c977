"""The JSON schema of a study, for editors: `owlore schema > workflow/schemas/study.schema.json`."""

import json
from typing import Any

from owlore.study.config import Study
from owlore.study.method import Method


def study_schema() -> dict[str, Any]:
    """Return the schema of a study file, method blocks included.

    `Study` holds its methods as plain mappings, because a block is checked only when the study's
    `training` defaults have been laid under it; an editor should still know a block's keys.
    """
    schema = Study.model_json_schema()
    method = Method.model_json_schema()
    definitions = schema["$defs"]
    definitions.update(method.pop("$defs", {}))
    definitions["Method"] = method
    schema["properties"]["methods"]["additionalProperties"] = {"$ref": "#/$defs/Method"}
    shared = {key: value for key, value in method["properties"].items() if key != "trainable"}
    schema["properties"]["training"] = {
        "type": "object",
        "description": "method keys shared by all methods; a method may override",
        "properties": shared,
        "additionalProperties": False,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def text() -> str:
    """Return the schema as the committed file has it."""
    return json.dumps(study_schema(), indent=1, sort_keys=True)
