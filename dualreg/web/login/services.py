"""Services of logins: what the handlers under ``/login`` get from the current application."""

from typing import cast

from flask import current_app

from dualreg.auth.external_logins import ExternalLogins
from dualreg.web.context import audit, registry
from dualreg.web.credentials import claim_account
from dualreg.web.forwarded import client_address
from dualreg.web.identified import current_id
from dualreg.web.rates import Rates

_EXTENSION, _DEVICES = "dualreg.login", "dualreg.login.devices"
#: Logins that the devices of one network may begin in a period, in seconds, by each process; and how many
#: networks are known. Anybody can have us ask the issuer for each of them, and write a line of the audit log.
_BEGUN, _PERIOD, _NETWORKS = 30, 60.0, 1 << 12


def install(logins: ExternalLogins, extensions: dict[str, object]) -> None:
    """Make *logins* available to the handlers of the application that owns *extensions*."""
    extensions[_EXTENSION] = logins
    extensions[_DEVICES] = Rates(_BEGUN, _PERIOD, slots=_NETWORKS)


def logins() -> ExternalLogins:
    """Return what logs people in."""
    return cast("ExternalLogins", current_app.extensions[_EXTENSION])


def devices() -> Rates:
    """Return what counts the logins that devices begin."""
    return cast("Rates", current_app.extensions[_DEVICES])


def record_login(account: str, issuer: str) -> None:
    """Have the log and the audit log say who has logged in by an issuer."""
    claim_account(account)
    audit().write(
        registry().now(),
        "login",
        account=account,
        issuer=issuer,
        address=client_address(),
        request_id=current_id(),
    )
