"""OpenAPI: the description of all requests, made from their tables."""

from collections.abc import Mapping
from typing import Any

from dualreg.operations.operation import PREFIX, Operation, Parameter
from dualreg.operations.own import OWN_REQUESTS, OwnRequest
from dualreg.operations.table import OPERATIONS
from dualreg.operations.values import Schemas, encode, schema

_ABOUT = """\
What operators do by commands, and accounts for themselves, over HTTP. Send the password or an API
key of an account as Basic credentials; tokens are refused. Bodies are JSON objects, with
`Content-Type: application/json`. Lists are pages: give `next` as `after` to get the next one. No answer is
stored by caches.
"""
_ERRORS: dict[str, Any] = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {
                        "type": "string",
                        "description": "What is wrong with what, and what to do about it, in one line.",
                    },
                },
            },
        }
    },
}


def document(version: str) -> Mapping[str, Any]:
    """Return the OpenAPI 3.1 description of all requests, as served by a *version* of dualreg."""
    named = Schemas()
    named["Errors"] = _ERRORS
    paths: dict[str, dict[str, Any]] = {}
    for each in (*OWN_REQUESTS, *OPERATIONS):
        paths.setdefault(f"{PREFIX}{each.path}", {})[each.method.lower()] = _described(each, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dualreg, administration", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "responses": {"Refused": _content("It is refused; the message says why.", "Errors")},
            "schemas": named,
        },
    }


def _content(about: str, name: str) -> dict[str, Any]:
    return {
        "description": about,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }


def _described(operation: Operation | OwnRequest, named: Schemas) -> dict[str, Any]:
    about = [
        operation.about,
        f"Requires {operation.required_permission}.",
        operation.command and f"The command is `dualreg {operation.command}`.",
    ]
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.path.split("/")[1]],
        "summary": operation.summary,
        "description": "\n\n".join(filter(None, about)),
        "responses": {**_answer(operation, named), "default": {"$ref": "#/components/responses/Refused"}},
    }
    parameters = operation.parameters.values()
    if operation.in_query:
        found["parameters"] = [_in_query(each, operation.path, named) for each in parameters]
    else:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _body(operation, named)}},
        }
    return found


def _answer(operation: Operation | OwnRequest, named: Schemas) -> dict[str, Any]:
    """Return the responses of success."""
    if not operation.has_answer:
        return {str(operation.status): {"description": "It is done."}}
    content = {"application/json": {"schema": schema(operation.answer, named)}}
    return {str(operation.status): {"description": "What was found, or was done.", "content": content}}


def _in_query(parameter: Parameter, path: str, named: Schemas) -> dict[str, Any]:
    found = {
        "name": parameter.name,
        "in": "path" if f"{{{parameter.name}}}" in path else "query",
        "required": parameter.required,
        "schema": _with_default(parameter, named),
    }
    return found | ({"description": parameter.about} if parameter.about else {})


def _body(operation: Operation | OwnRequest, named: Schemas) -> dict[str, Any]:
    properties = {}
    for each in operation.parameters.values():
        properties[each.name] = _with_default(each, named)
        if each.about:
            properties[each.name]["description"] = each.about
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [each.name for each in operation.parameters.values() if each.required],
        "properties": properties,
    }


def _with_default(parameter: Parameter, named: Schemas) -> dict[str, Any]:
    found = schema(parameter.kind, named)
    default = None if parameter.required else encode(parameter.default)
    return found | ({"default": default} if default not in (None, "", []) else {})
