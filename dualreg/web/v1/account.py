"""``/v1/_ping`` and ``/v1/users``: what ``docker login`` and the choice of an API need.

Source: the exchanges of Docker 0.6 to 1.9; docker-registry 0.9, ``app.py`` and ``index.py``.
"""

from flask import Blueprint, Response, request

from dualreg.errors import Unsupported
from dualreg.web.context import authority, registry
from dualreg.web.guard import Need, requires
from dualreg.web.v1.answers import answer

#: The generation of the V1 API that is spoken here; Docker up to 0.10 refuses a registry that does not say.
_VERSION = "0.9.1"


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/_ping")(ping)
    blueprint.get("/_status")(status)
    blueprint.get("/users/")(login)
    blueprint.post("/users/")(create_user)
    blueprint.put("/users/<user>/")(update_user)


@requires(Need.NOTHING)
def ping() -> Response:
    """Say that V1 is spoken here.

    Never standalone: over HTTPS that would make clients send Basic everywhere instead of the token that
    carries the repository.
    """
    return answer(headers={"X-Docker-Registry-Version": _VERSION, "X-Docker-Registry-Standalone": "False"})


@requires(Need.NOTHING)
def status() -> Response:
    """Tell whether catalog and storage work; 503 if one does not."""
    failures = registry().health.failures()
    answered = {"services": ["catalog", "storage"], "failures": failures, "host": request.host}
    return answer(answered, status=503 if failures else 200)


@requires(Need.LOGIN)
def login() -> Response:
    """Say that the credentials are good, which they were before we got here."""
    return answer("OK")


@requires(Need.NOTHING)
def create_user() -> Response:
    """Refuse with the one text upon which every Docker goes on to log in."""
    return Response('"Username or email already exists"', status=400, content_type="application/json")


@requires(Need.LOGIN)
def update_user(user: str) -> Response:
    """Where there are no accounts, accept a change of e-mail or password, of which nothing is kept."""
    if not authority().is_open:
        raise Unsupported(account=user)
    return answer("", status=204)
