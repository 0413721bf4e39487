"""Values: how arguments and answers are written as JSON, read again, and described by a JSON Schema.

All of it follows from their types: rows, dataclasses and named tuples are objects with the names of their
fields; what has a text form, such as a digest or a time, is text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from inspect import getdoc
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.settings.values import format_duration, parse_duration

#: Numbers that a database can hold.
_LARGEST = (1 << 63) - 1
_LISTS = (Sequence, tuple, frozenset, list)
_SCALARS: Mapping[Any, Mapping[str, object]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    timedelta: {"type": "string", "pattern": "^[0-9]{1,6}[smhd]$"},
    Digest: {"type": "string", "pattern": "^[a-z0-9]+:[0-9a-f]+$"},
}
_FIELD = re.compile(r"^    (\w+(?:, \w+)*): (.*)$")


class Schemas(dict[str, dict[str, Any]]):
    """JSON Schemas of records by name, each of which has another name."""

    def __init__(self) -> None:
        super().__init__()
        self._names = dict[Any, str]()

    def name_of(self, kind: Any) -> str:  # noqa: ANN401 -- any type of a record
        """Return the name of a type, chosen when it is first asked for."""
        if kind not in self._names:
            origin, arguments = get_origin(kind) or kind, get_args(kind)
            name = "Of".join((origin.__name__, *(each.__name__ for each in arguments)))
            module = str(origin.__module__).rpartition(".")[2]
            taken = name in self._names.values()
            self._names[kind] = f"{module.title()}{name}" if taken else name
        return self._names[kind]


def encode(value: Any) -> Any:  # noqa: ANN401 -- what JSON has
    """Return *value* as JSON has it."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind, write in _ENCODERS.items():
        if isinstance(value, kind):
            return write(value)
    if members := _members(value.__class__):
        return {name: encode(getattr(value, name)) for name in members}
    if isinstance(value, Sequence):
        return [*map(encode, value)]
    raise AssertionError(value)


def decode(kind: Any, document: object) -> Any:  # noqa: ANN401 -- any type of an operation
    """Return the value of the type *kind* that ``encode`` wrote as *document*.

    Raises:
        ValueError: it is no such value. Also what the ``parse`` of a type raises.
    """
    if options := _options(kind):
        return _decode_option(options, document)
    if kind in _DECODERS:
        return _DECODERS[kind](document)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in _LISTS:
        if not isinstance(document, list):
            raise ValueError("expected a list")
        return (tuple if origin is Sequence else origin)(decode(arguments[0], each) for each in document)
    if origin is Mapping:
        return {key: decode(arguments[1], each) for key, each in _object(document).items()}
    if members := _members(origin):
        return _decode_members(origin, members, arguments, document)
    text = _text(document)
    return kind.parse(text) if hasattr(kind, "parse") else kind(text)


def schema(kind: Any, named: Schemas) -> dict[str, Any]:  # noqa: ANN401 -- any type of an operation
    """Return the JSON Schema of a type; those of records are added to *named*, and referred to."""
    if options := _options(kind):
        return _optional([schema(each, named) for each in options if each is not NoneType], options)
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in _LISTS:
        return {"type": "array", "items": schema(arguments[0], named)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": schema(arguments[1], named)}
    if kind in _SCALARS or not _members(origin):
        return _scalar(kind)
    name = named.name_of(kind)
    if name not in named:
        named[name] = {}  # a record may contain records of its own type
        named[name] = _object_schema(origin, arguments, named)
    return {"$ref": f"#/components/schemas/{name}"}


def documented(text: str | None, section: str) -> dict[str, str]:
    """Return what a docstring says of each name in a *section*, such as ``Args``."""
    found, names = dict[str, str](), list[str]()
    lines = (text or "").partition(f"\n{section}:\n")[2].splitlines()
    for line in lines:
        if line and not line.startswith("    "):
            break
        if match := _FIELD.match(line):
            names = match[1].split(", ")
            found |= dict.fromkeys(names, match[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found


@cache
def _members(kind: Any) -> tuple[str, ...]:  # noqa: ANN401 -- any type
    """Return the fields of a record; empty: it is none."""
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    return tuple(getattr(kind, "_fields", ()))


def _options(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401 -- any type
    """Return the types of a union; empty: it is none."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else ()


def _decode_option(options: Sequence[Any], document: object) -> Any:  # noqa: ANN401 -- one of the types
    if document is None and NoneType in options:
        return None
    *others, last = [each for each in options if each is not NoneType]
    for each in others:
        try:
            return decode(each, document)
        except (ValueError, RegistryError):
            continue
    return decode(last, document)


def _decode_members(
    kind: Any,  # noqa: ANN401 -- any record
    members: Sequence[str],
    arguments: tuple[Any, ...],
    document: object,
) -> Any:  # noqa: ANN401 -- one of them
    given, types = _object(document), _types(kind, arguments)
    values = {name: decode(types[name], given[name]) for name in members if name in given}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: a member is missing") from error


@cache
def _types(kind: Any, arguments: tuple[Any, ...]) -> Mapping[str, Any]:  # noqa: ANN401 -- any record
    """Return the types of the fields of a record, with *arguments* in place of its parameter."""
    hints = get_type_hints(kind)
    if not arguments:
        return hints
    parameters = getattr(kind, "__parameters__", ())
    chosen = dict(zip(parameters, arguments, strict=True))
    return {
        name: hint[tuple(chosen[each] for each in hint.__parameters__)]
        if getattr(hint, "__parameters__", ())
        else hint
        for name, hint in hints.items()
    }


def _object_schema(kind: Any, arguments: tuple[Any, ...], named: Schemas) -> dict[str, Any]:  # noqa: ANN401 -- any record
    types, said = _types(kind, arguments), documented(getdoc(kind), "Attributes")
    properties = {name: schema(types[name], named) for name in _members(kind)}
    for name, text in said.items():
        if name in properties:
            properties[name]["description"] = text
    defaults = (
        {each.name for each in fields(kind) if each.default is not MISSING} if is_dataclass(kind) else {}
    )
    return {
        "type": "object",
        "description": (getdoc(kind) or "").partition("\n")[0],
        "required": [name for name in properties if name not in defaults],
        "properties": properties,
    }


def _scalar(kind: Any) -> dict[str, Any]:  # noqa: ANN401 -- any type without members
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    pattern = getattr(kind, "PATTERN", None)
    return {"type": "string", "pattern": pattern} if pattern else dict(_SCALARS.get(kind, _SCALARS[str]))


def _optional(schemas: Sequence[dict[str, Any]], options: Sequence[Any]) -> dict[str, Any]:
    """Return the schema of a union."""
    if len(schemas) == 1 and NoneType not in options:
        return schemas[0]
    if len(schemas) == 1 and isinstance(schemas[0].get("type"), str):
        return {**schemas[0], "type": [schemas[0]["type"], "null"]}
    return {"anyOf": [*schemas, *([{"type": "null"}] if NoneType in options else ())]}


def _object(document: object) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("expected an object")  # noqa: TRY004 -- of JSON
    return document


def _text(document: object) -> str:
    if not isinstance(document, str):
        raise ValueError("expected text")  # noqa: TRY004 -- of JSON
    return document


def _integer(document: object) -> int:
    if isinstance(document, bool) or not isinstance(document, int) or abs(document) > _LARGEST:
        raise ValueError("expected a whole number")
    return document


def _boolean(document: object) -> bool:
    if not isinstance(document, bool):
        raise ValueError("expected true or false")  # noqa: TRY004 -- of JSON
    return document


def _number(document: object) -> float:
    if isinstance(document, bool) or not isinstance(document, (int, float)):
        raise ValueError("expected a number")  # noqa: TRY004 -- of JSON
    return float(document)


def _time(document: object) -> datetime:
    try:
        found = datetime.fromisoformat(_text(document))
        if found.tzinfo:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected a time with an offset, such as 2026-01-31T12:00Z")


_DECODERS: Mapping[Any, Callable[[object], Any]] = {
    str: _text,
    int: _integer,
    bool: _boolean,
    float: _number,
    datetime: _time,
    timedelta: lambda document: parse_duration(_text(document)),
    Digest: lambda document: Digest.parse(_text(document)),
}
_ENCODERS: Mapping[type, Callable[[Any], Any]] = {
    Enum: lambda value: value.value,
    str: str,
    Digest: str,
    datetime: lambda value: value.isoformat(),
    timedelta: format_duration,
    frozenset: lambda value: sorted(map(encode, value)),
    Mapping: lambda value: {str(key): encode(each) for key, each in value.items()},
}
