"""Layers: the file, the environment and the flags that settings come from, and the report of invalid ones."""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from dualreg.messages import mask

#: The prefix of our environment variables.
PREFIX = "DUALREG_"
#: Names the configuration file; without it, the first of DEFAULT_FILES that exists is read.
CONFIG_VARIABLE = "DUALREG_CONFIG"
DEFAULT_FILES = (Path("dualreg.toml"), Path("/etc/dualreg/dualreg.toml"))

#: Variables of the global options of commands, which are no settings.
_OF_COMMANDS = frozenset(f"{PREFIX}SERVER{end}" for end in ("", "_KEY", "_KEY_FILE", "_CA"))

#: What pydantic's own checks expect, by their name.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a table for each",
    "greater_than_equal": "{ge} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
    "time_delta_type": "a duration such as 90s, 15m, 24h or 7d",
}
#: Longest part of a value that is shown.
_SHOWN = 200
#: Values that are no paths, of settings that can be paths.
_NO_PATH = re.compile(r"-$|off$|https?://|:memory:$|file:")


class SettingsInvalid(Exception):
    """An unreadable file, an unknown setting or an invalid value; one line for each, which names it."""


class ChosenValue(NamedTuple):
    """A value that the operator chose.

    Attributes:
        source: The file, variable or flag that it comes from.
        origin: Likewise, with the key within a file.
    """

    value: Any
    source: str
    origin: str


def read_layers(
    environ: Mapping[str, str],
    config: Path | None,
    flags: Mapping[str, Any],
    paths: Mapping[str, str],
    tables: Mapping[str, Mapping[str, str]],
) -> Mapping[str, ChosenValue]:
    """Return the chosen values by name; the environment overrides the file, and *flags* override both.

    Args:
        paths: The settings that are or contain paths, and a regular expression of what precedes the path;
            relative ones in the file are relative to its directory.
        tables: The settings that are tables of tables, and likewise the members of these.

    Raises:
        SettingsInvalid: the file cannot be read.
    """
    named = config or (Path(text) if (text := environ.get(CONFIG_VARIABLE)) else None)
    path = named or next(filter(_exists, DEFAULT_FILES), None)
    choices = {}
    if path:
        for key, value in _read_file(path).items():
            located = _located(value, path, paths[key]) if key in paths else value
            if key in tables and isinstance(value, dict):
                located = {name: _located_in(each, path, tables[key]) for name, each in value.items()}
            choices[key] = ChosenValue(located, f"{path}", f"{key} in {path}")
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and variable not in {CONFIG_VARIABLE, *_OF_COMMANDS}:
            choices[variable.removeprefix(PREFIX).lower()] = ChosenValue(value, variable, variable)
    for key, value in flags.items():
        if value is not None:
            flag = f"--{key.replace('_', '-')}"
            choices[key] = ChosenValue(value, flag, flag)
    return choices


def _exists(path: Path) -> bool:
    """Return whether there is a file, readable or not: reading another one instead would be a surprise."""
    return os.path.lexists(path)


def _located(value: object, file: Path, before: str) -> object:
    """Return a path in *file* as it is from the working directory; other values are returned unchanged.

    Args:
        before: A regular expression of what precedes the path.
    """
    start = re.match(before, value) if isinstance(value, str) else None
    path = start.string[start.end() :] if start else ""
    if start is None or not path or path.startswith("~") or _NO_PATH.match(path):
        return value
    return f"{start[0]}{file.parent / path}"


def _located_in(table: object, file: Path, members: Mapping[str, str]) -> object:
    """Return a table in *file* with its *members* that are paths, or contain paths, as ``_located``."""
    if not isinstance(table, dict):
        return table
    return {
        key: _located_each(each, file, members[key]) if key in members else each
        for key, each in table.items()
    }


def _located_each(value: object, file: Path, before: str) -> object:
    """Return a path, or each of a list of them, as ``_located``."""
    if isinstance(value, list):
        return [_located(each, file, before) for each in value]
    return _located(value, file, before)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsInvalid(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"{path}: {error}") from error


def describe(error: ValidationError, choices: Mapping[str, ChosenValue]) -> str:
    """Return one line for each mistake: the setting, its value, what is expected, and its source."""
    lines = []
    for mistake in error.errors():
        expected = _EXPECTED.get(mistake["type"])
        reason = mistake["msg"].removeprefix("Value error, ")
        if expected:
            reason = f"expected {expected.format_map(mistake.get('ctx', {}))}".replace("'", "")
        if not mistake["loc"]:  # settings that are invalid together
            lines.append(reason)
            continue
        name = ".".join(_key(str(part)) for part in mistake["loc"])
        choice = choices[str(mistake["loc"][0])]
        if mistake["type"] == "extra_forbidden":
            lines.append(f'unknown setting "{name}" (from {choice.source})')
        elif mistake["type"] == "missing":
            lines.append(f"{name}: required (from {choice.source})")
        else:
            value = choice.value if len(mistake["loc"]) == 1 else mistake["input"]
            shown = "" if isinstance(value, Mapping) else f" = {_shown(value)}"
            lines.append(f"{name}{shown}: {reason} (from {choice.source})")
    return "\n".join(lines)


def _key(text: str) -> str:
    """Return a part of a key as in TOML."""
    return text if re.fullmatch(r"[\w-]+", text, re.ASCII) else json.dumps(text)


def _shown(value: object) -> str:
    """Return a value as in TOML, without secrets in URLs."""
    text = mask(str(value))
    if isinstance(value, bool | int | float):
        return text.lower()
    return json.dumps(
        text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…", ensure_ascii=not text.isprintable()
    )
