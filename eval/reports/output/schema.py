"""The JSON schema of ``report.json``, made from the dataclasses of ``results.py`` and the texts under their fields.

``make schema`` writes ``eval/reports/report.schema.json``; a test compares the two.
"""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, MinLen
from docstring_parser import parse_from_object

from eval.reports.results import FORMAT, Report

SCHEMA_FILE = Path(__file__).parents[1] / "report.schema.json"
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def report_schema() -> dict[str, Any]:
    """The schema; every field is required, and no others are allowed."""
    definitions: dict[str, Any] = {}
    schema = _object(Report, definitions)
    version = {"const": FORMAT.version, "description": "Grows when a key changes its meaning."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "report.json of python -m eval.report",
        **schema,
        "properties": {FORMAT.key: version, **schema["properties"]},
        "required": [FORMAT.key, *schema["required"]],
        "$defs": definitions,
    }


def schema_text() -> str:
    """The content of the file."""
    return json.dumps(report_schema(), indent=1) + "\n"


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    documentation = parse_from_object(kind)
    texts = {param.arg_name: " ".join((param.description or "").split()) for param in documentation.params}
    fields = get_type_hints(kind, include_extras=True)
    return {
        "type": "object",
        "description": documentation.short_description,
        "properties": {
            name: {**_schema(hint, definitions), "description": texts[name]} for name, hint in fields.items()
        },
        "required": list(fields),
        "additionalProperties": False,
    }


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field's type; dataclasses become definitions."""
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if is_dataclass(hint):
        assert isinstance(hint, type)
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**_schema(arguments[0], definitions), **_bound(arguments[1])}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is UnionType:
        return {"type": [_SCALARS[kind] for kind in arguments]}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    assert origin is dict, f"no schema for {hint}"
    key, value = arguments
    if get_origin(key) is Literal:
        properties = {name: _schema(value, definitions) for name in get_args(key)}
        return {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "object", "additionalProperties": _schema(value, definitions)}


def _bound(bound: Ge | MinLen) -> dict[str, Any]:
    return {"minimum": bound.ge} if isinstance(bound, Ge) else {"minItems": bound.min_length}


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
