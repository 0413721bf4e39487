"""The V1 session: ``/v1/images`` URLs name no repository, so the client carries it in the token it was given.

The client repeats ``X-Docker-Token`` verbatim as ``Authorization: Token …``, without looking inside. No
permission hangs on the token; without one, an image is read from any repository that holds it, and cannot be
written.
"""

import re
import secrets

from flask import request

from dualreg.errors import Unauthenticated
from dualreg.image.names import RepositoryName

_REPOSITORY = re.compile(r'repository="([^"]*)"')


def session_headers(repository: RepositoryName) -> dict[str, str]:
    """Return the headers that begin a session on *repository*, and send the client on to this very host.

    Exactly one host: Docker before 0.11 takes the whole value for one.  Source: docker-registry 0.9,
    ``index.py``.
    """
    access = "read" if request.method == "GET" else "write"
    token = f'signature={secrets.token_hex(8)},repository="{repository}",access={access}'
    return {
        "X-Docker-Token": token,
        "WWW-Authenticate": f"Token {token}",
        "X-Docker-Endpoints": request.host,
    }


def session_repository() -> RepositoryName | None:
    """Return the repository that the request's token names; None without a token (Basic, or nothing).

    Raises:
        NameInvalid: a token that we never gave.
    """
    authorization = request.headers.get("Authorization", "")
    match = _REPOSITORY.search(authorization) if authorization.startswith("Token ") else None
    return RepositoryName.parse(match[1]) if match else None


def required_repository() -> RepositoryName:
    """Return the repository that the request's token names.

    Raises:
        Unauthenticated: the request has no token.
    """
    repository = session_repository()
    if repository is None:
        raise Unauthenticated
    return repository
