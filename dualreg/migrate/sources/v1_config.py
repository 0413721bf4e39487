"""The configuration of docker-registry 0.6 to 0.9, which says where it stored its files.

Source: docker-registry 0.6 to 0.9, ``lib/config.py`` and ``config/config_sample.yml``.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from dualreg.migrate.sources.base import SourceInvalid

#: Where the sample configuration stores files.
_DEFAULT_PATH = "/tmp/registry"  # noqa: S108 -- the old registry's own default
_ENV = "_env:"
_FILES = ("local", "file")


def storage_path(config: Path, flavor: str, environ: Mapping[str, str]) -> Path:
    """Return the folder in which *flavor* of the configuration stores files.

    Args:
        environ: The variables for values ``_env:NAME`` and ``_env:NAME:DEFAULT``.

    Raises:
        SourceInvalid: it cannot be read, has no such flavor, or does not store files.
    """
    try:
        document = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SourceInvalid(f"{config}: {' '.join(str(error).split())}") from error
    flavors = {str(name): value for name, value in _mapping(document).items() if isinstance(value, dict)}
    if flavor not in flavors:
        raise SourceInvalid(f"{config}: no flavor {flavor}; it has {', '.join(sorted(flavors)) or 'none'}")
    chosen = {
        name: _resolve(value, environ)
        for name, value in (flavors.get("common", {}) | flavors[flavor]).items()
    }
    storage = chosen.get("storage") or "local"
    if storage not in _FILES:
        raise SourceInvalid(
            f"{config}, flavor {flavor}: unsupported storage {storage}; expected {' or '.join(_FILES)}"
        )
    path = Path(chosen.get("storage_path") or _DEFAULT_PATH)
    if not path.is_absolute() and not path.exists():
        raise SourceInvalid(
            f"{config}, flavor {flavor}: storage_path {path} is relative to the old registry's directory;"
            " run this there, or use v1-tree:PATH"
        )
    return path


def _mapping(document: object) -> Mapping[str, Any]:
    return document if isinstance(document, dict) else {}


def _resolve(value: object, environ: Mapping[str, str]) -> str:
    """Return a value as text; a value from the environment, or its default, is parsed as YAML again."""
    if isinstance(value, str) and value.startswith(_ENV):
        name, _, default = value.removeprefix(_ENV).partition(":")
        value = environ.get(name, default)
        with suppress(yaml.YAMLError):
            parsed = yaml.safe_load(value)
            value = value if isinstance(parsed, dict | list) else parsed
    return "" if value is None else str(value)
