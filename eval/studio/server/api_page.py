"""The API's documentation as a page, made from its OpenAPI description without anything from a network."""

from __future__ import annotations

import json
from typing import Any

import jinja2

_JSON = "application/json"


def api_page(openapi: dict[str, Any]) -> str:
    """The page.

    Args:
        openapi: As ``FastAPI.openapi`` returns it.
    """
    schemas = openapi.get("components", {}).get("schemas", {})
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    names = [name for name in schemas if name.endswith("Request") or name in _RECIPES]
    shown = {name: schemas[name] for name in sorted(names)}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("eval.studio", "page"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("api.html.j2").render(
        title=openapi["info"]["title"],
        description=openapi["info"]["description"],
        groups=groups,
        schemas={name: _fields(schema) for name, schema in shown.items()},
        about={name: schema.get("description", "") for name, schema in shown.items()},
    )


_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "minItems": "at least",
    "maxItems": "at most",
}
_RECIPES = ("Recipe", "Sample", "Mean", "Stored", "Uploaded", "Given")


def _operation(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {})
    answer = operation["responses"]["200"].get("content", {})
    return {
        "method": method.upper(),
        "path": path,
        "about": operation.get("description", ""),
        "parameters": [
            (parameter["name"], _type(parameter["schema"]), parameter.get("description", ""))
            for parameter in operation.get("parameters", [])
        ],
        "body": _type(body[_JSON]["schema"]) if _JSON in body else ", ".join(body),
        "answer": _type(answer[_JSON]["schema"]) if _JSON in answer else ", ".join(answer) or "a file",
    }


def _fields(schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    needed, fields = schema.get("required", []), schema.get("properties", {})
    defaults = {
        name: f", default {json.dumps(fields[name].get('default', {}))}" for name in fields if name not in needed
    }
    return [(name, _type(field) + defaults.get(name, ""), _about(field)) for name, field in fields.items()]


def _about(field: dict[str, Any]) -> str:
    texts = [f"{words} {field[key]:g}" for key, words in _LIMITS.items() if key in field]
    return " ".join(part for part in (field.get("description", ""), f"({', '.join(texts)})" if texts else "") if part)


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type(option) for option in schema[key])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    return schema.get("type", "any")
