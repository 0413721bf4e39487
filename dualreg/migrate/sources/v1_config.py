"""The configuration of docker-registry 0.6 to 0.9: where it kept its tree.

Source: docker-registry 0.6 to 0.9, ``lib/config.py`` and ``config/config_sample.yml``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dualreg.migrate.sources.base import NoSource

#: Where the sample configuration keeps files.
_DEFAULT_PATH = "/tmp/registry"  # noqa: S108 -- the old registry's own default
_ENV = "_env:"
_FILES = ("local", "file")


def storage_path(config: Path, flavor: str, environ: Mapping[str, str]) -> Path:
    """Return the folder in which *flavor* of the configuration keeps its files.

    Args:
        environ: For values that say ``_env:NAME`` or ``_env:NAME:DEFAULT``.

    Raises:
        NoSource: it cannot be read, has no such flavor, or keeps nothing in files.
    """
    try:
        document = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise NoSource(f"{config}: {error}") from error
    flavors = {name: value for name, value in _mapping(document).items() if isinstance(value, dict)}
    if flavor not in flavors:
        raise NoSource(f"{config} has no flavor {flavor}: {', '.join(sorted(flavors)) or 'none at all'}")
    chosen = {
        name: _resolve(value, environ)
        for name, value in (flavors.get("common", {}) | flavors[flavor]).items()
    }
    storage = chosen.get("storage") or "local"
    if storage not in _FILES:
        raise NoSource(f"{config}, flavor {flavor}: storage {storage} is not in files")
    return Path(chosen.get("storage_path") or _DEFAULT_PATH)


def _mapping(document: object) -> Mapping[str, Any]:
    return document if isinstance(document, dict) else {}


def _resolve(value: object, environ: Mapping[str, str]) -> str:
    text = "" if value is None else str(value)
    if not text.startswith(_ENV):
        return text
    name, _, default = text.removeprefix(_ENV).partition(":")
    return environ.get(name, default)
