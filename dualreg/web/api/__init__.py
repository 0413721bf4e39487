"""The API of accounts and administration, under ``/api/v1``: JSON, and errors as those of V2.

It takes passwords and API keys as Basic credentials. Tokens are for repositories, and are refused. Bodies
have to say that they are JSON, so that a page of another origin cannot send them.
"""

from flask import Blueprint, Response

from dualreg.auth.access import Action
from dualreg.errors import RegistryError
from dualreg.web.api import keys, me, operations, permissions
from dualreg.web.guard import enforce
from dualreg.web.token import render


def create_blueprint() -> Blueprint:
    """Return the blueprint of ``/api/v1``."""
    blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
    for module in (me, keys, permissions, operations):
        module.register(blueprint)
    blueprint.before_request(_guard)
    blueprint.after_request(_forbid_storing)
    blueprint.register_error_handler(RegistryError, render)
    return blueprint


def _guard() -> None:
    enforce(_locate)


def _locate(action: Action) -> None:
    """Refuse handlers that declare an action on a repository, of which there are none here."""
    raise AssertionError(action)


def _forbid_storing(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
