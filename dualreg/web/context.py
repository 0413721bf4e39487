"""Context: the services that handlers get from the current application."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, cast

from flask import Flask

from dualreg.auth.audit import Audit
from dualreg.auth.authority import Authority
from dualreg.auth.delegation import Delegation
from dualreg.auth.self_service import SelfService
from dualreg.errors import Unsupported
from dualreg.operations.control import TaskControl
from dualreg.registry import Registry
from dualreg.registry.activity import KeyUses
from dualreg.registry.writes import Writes
from dualreg.settings import Settings
from dualreg.web.current import current_application
from dualreg.web.late import LateAnswers
from dualreg.web.rates import Rates
from dualreg.web.slots import Slots

if TYPE_CHECKING:
    from dualreg.tracing.exporting import Tracing

_EXTENSION = "dualreg"


@dataclass(frozen=True, slots=True)
class Parts:
    """The services and settings of one application."""

    registry: Registry
    authority: Authority
    audit: Audit
    settings: Settings
    slots: Slots
    late: LateAnswers
    writes: Writes = field(default_factory=Writes)
    rates: Rates = field(default_factory=Rates)
    followers: Slots = field(default_factory=lambda: Slots(1))
    key_uses: KeyUses | None = None
    self_service: SelfService | None = None
    delegation: Delegation | None = None
    tracing: "Tracing | None" = None
    tasks: TaskControl | None = None
    previews: Lock = field(default_factory=Lock)


def install(parts: Parts, extensions: dict[str, object]) -> None:
    """Make *parts* available to the handlers of the application that owns *extensions*."""
    extensions[_EXTENSION] = parts


def close(app: Flask) -> None:
    """Write what *app* has noted and not written yet, and close its registry and its audit log."""
    parts = parts_in(app.extensions)
    if parts.key_uses:
        parts.key_uses.close()
    parts.registry.close()
    parts.audit.close()
    if parts.tracing:
        parts.tracing.close()


def parts_in(extensions: Mapping[str, object]) -> Parts:
    """Return the parts that are installed in the *extensions* of an application."""
    return cast("Parts", extensions[_EXTENSION])


def registry() -> Registry:
    """Return the registry that this application serves."""
    return parts().registry


def authority() -> Authority:
    """Return the authority, which authenticates and authorizes requests."""
    return parts().authority


def audit() -> Audit:
    """Return the audit log."""
    return parts().audit


def settings() -> Settings:
    """Return the settings of this application."""
    return parts().settings


def slots() -> Slots:
    """Return the slots of uploads and downloads."""
    return parts().slots


def late() -> LateAnswers:
    """Return the answers that wait."""
    return parts().late


def followers() -> Slots:
    """Return the slots of clients that are sent what is still on its way here."""
    return parts().followers


def rates() -> Rates:
    """Return what counts the requests of clients."""
    return parts().rates


def writes() -> Writes:
    """Return what says whether content may be added or changed now."""
    return parts().writes


def key_uses() -> KeyUses | None:
    """Return what notes when API keys are used; None: there are none."""
    return parts().key_uses


def self_service() -> SelfService:
    """Return what changes the account of a request; only registries with accounts have it."""
    return cast("SelfService", parts().self_service)


def delegation() -> Delegation:
    """Return what changes permission rules for managers; only registries with accounts have it."""
    return cast("Delegation", parts().delegation)


def require_deletes() -> None:
    """Raise Unsupported if the setting ``delete`` is off."""
    if not settings().delete:
        raise Unsupported(setting="delete")


def parts() -> Parts:
    """Return all of it."""
    found: Parts = current_application().extensions[_EXTENSION]
    return found
