"""Layers: the file, the environment and the flags that settings come from, and what is said of mistakes."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

#: What every environment variable of ours starts with.
PREFIX = "DUALREG_"
#: Names the configuration file; without it, DEFAULT_FILE is read if there is one.
CONFIG_VARIABLE = "DUALREG_CONFIG"
DEFAULT_FILE = Path("dualreg.toml")

#: A value, and what it is called where it was written.
Choice = tuple[Any, str]


class SettingsInvalid(Exception):
    """A setting that does not exist or cannot have its value; the message names the key, variable or flag."""


def chosen(environ: Mapping[str, str], config: Path | None, flags: Mapping[str, Any]) -> Mapping[str, Choice]:
    """Return what was chosen, by name: the file, then the environment, then *flags*; what is read later wins.

    Raises:
        SettingsInvalid: the file cannot be read.
    """
    path = config or (Path(named) if (named := environ.get(CONFIG_VARIABLE)) else None)
    layers = [
        {key: (value, f"{key} in {path or DEFAULT_FILE}") for key, value in _read(path).items()},
        {
            variable.removeprefix(PREFIX).lower(): (value, variable)
            for variable, value in environ.items()
            if variable.startswith(PREFIX) and variable != CONFIG_VARIABLE
        },
        {key: (value, f"--{key.replace('_', '-')}") for key, value in flags.items() if value is not None},
    ]
    return {key: choice for layer in layers for key, choice in layer.items()}


def _read(path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads((path or DEFAULT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if path is None:
            return {}
        raise SettingsInvalid(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"{path or DEFAULT_FILE}: {error}") from error


def explain(error: ValidationError, choices: Mapping[str, Choice]) -> str:
    """Return one line a mistake, each beginning with the name that the operator wrote."""
    lines = []
    for mistake in error.errors():
        unknown = mistake["type"] == "extra_forbidden"
        reason = "no such setting" if unknown else mistake["msg"].removeprefix("Value error, ")
        names = [f"{choices[str(key)][1]}: " for key in mistake["loc"][:1]]  # none if two do not go together
        lines.append("".join([*names, reason]))
    return "\n".join(lines)
