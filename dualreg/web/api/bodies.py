"""Bodies of the API: JSON objects with known members, all of them text or lists of text."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from flask import request

from dualreg.errors import RequestInvalid
from dualreg.web.body import read_limited

_BODY_LIMIT = 64 << 10


def read_members(kind: Any) -> Mapping[str, Any]:  # noqa: ANN401 -- a type of ``operations.own``
    """Return the members of the body, which are the fields of a record; those that are null are left out.

    Raises:
        RequestInvalid: it is no such object, lacks a member that has no default, or has an unknown one.
        ManifestTooLarge, BodyTruncated, ServerBusy: see ``read_limited``.
    """
    document = read_any()
    if unknown := sorted(document.keys() - {each.name for each in fields(kind)}):
        raise RequestInvalid(reason=f"unknown member {unknown[0][:100]!r}")
    members = {name: value for name, value in document.items() if value is not None}
    required = [each.name for each in fields(kind) if each.default is MISSING]
    if missing := [name for name in required if name not in members]:
        raise RequestInvalid(reason=f"{missing[0]} is missing")
    return members


def read_any() -> Mapping[str, Any]:
    """Return the members of the body, whatever they are.

    Raises:
        RequestInvalid: it is no JSON object, or is not sent as one.
        ManifestTooLarge, BodyTruncated, ServerBusy: see ``read_limited``.
    """
    if request.mimetype != "application/json":
        raise RequestInvalid(reason="send JSON, with the header Content-Type: application/json")
    try:
        document = json.loads(read_limited(_BODY_LIMIT))
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(reason="the body is not JSON") from error
    if not isinstance(document, dict):
        raise RequestInvalid(reason="the body is not a JSON object")
    return document


def text(members: Mapping[str, Any], name: str) -> str:
    """Return a member that is text; empty if it is missing.

    Raises:
        RequestInvalid: it is something else, or text that no file can hold.
    """
    value = members.get(name, "")
    if not isinstance(value, str) or not _is_unicode(value):
        raise RequestInvalid(reason=f"{name} is not text")
    return value


def texts(members: Mapping[str, Any], name: str) -> list[str]:
    """Return a member that is a list of text; empty if it is missing.

    Raises:
        RequestInvalid: it is something else.
    """
    values = members.get(name, [])
    if not isinstance(values, list) or not all(
        isinstance(each, str) and _is_unicode(each) for each in values
    ):
        raise RequestInvalid(reason=f"{name} is not a list of text")
    return values


def _is_unicode(value: str) -> bool:
    """Return whether a text can be written: JSON has half characters."""
    return not any("\ud800" <= each <= "\udfff" for each in value)
