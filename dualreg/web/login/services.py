"""Services of logins: what the handlers under ``/login`` get from the current application."""

from typing import cast

from flask import current_app

from dualreg.auth.external_logins import ExternalLogins

_EXTENSION = "dualreg.login"


def install(logins: ExternalLogins, extensions: dict[str, object]) -> None:
    """Make *logins* available to the handlers of the application that owns *extensions*."""
    extensions[_EXTENSION] = logins


def logins() -> ExternalLogins:
    """Return what logs people in."""
    return cast("ExternalLogins", current_app.extensions[_EXTENSION])
