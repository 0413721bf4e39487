"""Context: what a handler may ask of the application it runs in."""

from typing import cast

from flask import current_app

from dualreg.errors import Unsupported
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry
from dualreg.settings import Settings

_EXTENSION = "dualreg"


def install(registry: Registry, settings: Settings, extensions: dict[str, object]) -> None:
    """Hand the application's parts to its handlers."""
    extensions[_EXTENSION] = (registry, settings)


def registry() -> Registry:
    """Return the registry that this application serves."""
    return _parts()[0]


def settings() -> Settings:
    """Return the settings that this application was made with."""
    return _parts()[1]


def may_read(_: RepositoryName) -> bool:
    """Tell whether the client may read the repository: without accounts, everybody may read all of them."""
    return True


def require_deletes() -> None:
    """Raise Unsupported if the operator has switched deleting off, for both dialects alike."""
    if not settings().delete:
        raise Unsupported(setting="delete")


def _parts() -> tuple[Registry, Settings]:
    return cast("tuple[Registry, Settings]", current_app.extensions[_EXTENSION])
