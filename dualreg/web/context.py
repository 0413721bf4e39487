"""Context: what a handler may ask of the application it runs in."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from dualreg.auth.audit import Audit
from dualreg.auth.authority import Authority
from dualreg.errors import Unsupported
from dualreg.registry import Registry
from dualreg.settings import Settings

_EXTENSION = "dualreg"


@dataclass(frozen=True, slots=True)
class Parts:
    """What an application is made of."""

    registry: Registry
    authority: Authority
    audit: Audit
    settings: Settings


def install(parts: Parts, extensions: dict[str, object]) -> None:
    """Hand the application's parts to its handlers."""
    extensions[_EXTENSION] = parts


def registry() -> Registry:
    """Return the registry that this application serves."""
    return _parts().registry


def authority() -> Authority:
    """Return what decides who may."""
    return _parts().authority


def audit() -> Audit:
    """Return where writes and denials are recorded."""
    return _parts().audit


def settings() -> Settings:
    """Return the settings that this application was made with."""
    return _parts().settings


def require_deletes() -> None:
    """Raise Unsupported if the operator has switched deleting off, for both dialects alike."""
    if not settings().delete:
        raise Unsupported(setting="delete")


def _parts() -> Parts:
    return cast("Parts", current_app.extensions[_EXTENSION])
