"""``/v1/_ping``, ``/v1/_status`` and ``/v1/users``: API detection, health and ``docker login``.

Source: the exchanges of Docker 0.6 to 1.9; docker-registry 0.9, ``app.py`` and ``index.py``.
"""

from collections.abc import Mapping
from types import MappingProxyType

from flask import Blueprint, Response

from dualreg.errors import Unsupported
from dualreg.web.address import own_host
from dualreg.web.context import authority, parts, registry, writes
from dualreg.web.guard import Need, requires
from dualreg.web.health import failures_of
from dualreg.web.v1.responses import uncached_json

#: By which clients recognize the API: Docker up to 0.10 requires the version, that of docker-registry which
#: this API follows. Never standalone: over HTTPS, that would make clients send Basic credentials with every
#: request instead of the token that carries the repository.
API_HEADERS: Mapping[str, str] = MappingProxyType(
    {"X-Docker-Registry-Version": "0.9.1", "X-Docker-Registry-Standalone": "False"}
)


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/_ping")(ping)
    blueprint.get("/_status")(status)
    blueprint.get("/users/")(login)
    blueprint.post("/users/")(create_user)
    blueprint.put("/users/<user>/")(update_user)


@requires(Need.NOTHING)
def ping() -> Response:
    """Report the V1 API."""
    return uncached_json(headers=API_HEADERS)


@requires(Need.NOTHING)
def status() -> Response:
    """Report the health of catalog, storage and audit log; 503 if one fails.

    ``damaged_blobs`` counts the blobs whose files are known to be lost or damaged.
    """
    failures = failures_of(parts())
    document: dict[str, object] = {
        "services": ["catalog", "storage", "audit"],
        "failures": failures,
        "damaged_blobs": None if "catalog" in failures else registry().integrity.damaged(),
        "host": own_host(),
    }
    if marked := writes().marked():
        document["readonly"] = marked._asdict()
    if writes().room() <= 0:
        document["min_free"] = "reached"
    return uncached_json(document, status=503 if failures else 200)


@requires(Need.LOGIN)
def login() -> Response:
    """Confirm the credentials, which the guard has checked."""
    return uncached_json("OK")


@requires(Need.NOTHING)
def create_user() -> Response:
    """Refuse with the text after which every Docker goes on to log in."""
    return Response('"Username or email already exists"', status=400, content_type="application/json")


@requires(Need.LOGIN)
def update_user(user: str) -> Response:
    """Without authentication, accept a change of e-mail or password and ignore it."""
    if not authority().is_open:
        raise Unsupported(account=user)
    return uncached_json("", status=204)
