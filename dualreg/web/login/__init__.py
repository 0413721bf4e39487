"""Logins of people by an OpenID Connect issuer, under ``/login``: pages for browsers, JSON for terminals.

The pages need no scripts. What changes something is a form of a page of ours, sent with the session's cookie
and the token that the page contains. The cookie is valid for nothing else: registry and API take credentials.
"""

from flask import Blueprint, Flask, Response, g, request

from dualreg.auth.external_logins import ExternalLogins
from dualreg.errors import RegistryError, TooManyAttempts
from dualreg.web.context import writes
from dualreg.web.credentials import count_request
from dualreg.web.login import browser, device, keys, services
from dualreg.web.login.page import render_error, seal_page
from dualreg.web.responses import READS


def install(app: Flask, logins: ExternalLogins) -> None:
    """Add ``/login`` to the application."""
    services.install(logins, app.extensions)
    blueprint = Blueprint("login", __name__, url_prefix="/login", template_folder="templates")
    for module in (browser, keys, device):
        module.register(blueprint)
    blueprint.before_request(_guard)
    blueprint.after_request(seal_page)
    blueprint.register_error_handler(RegistryError, _render)
    app.register_blueprint(blueprint)


def _guard() -> None:
    """Count the request for its client, and refuse it if it would change something that may not change.

    Raises:
        TooManyRequests, ReadOnly: it must not run.
    """
    count_request()
    if request.method not in READS or "callback" in str(request.endpoint):
        writes().require_allowed()


def _render(error: RegistryError) -> Response:
    """Return an error as the client can read it: a page, or what RFC 6749 has for terminals."""
    g.locked_out = isinstance(error, TooManyAttempts)  # for the audit log
    return (device.render if device.is_asked() else render_error)(error)
