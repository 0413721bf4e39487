"""Session: the repository of ``/v1/images`` requests, whose URLs do not name it, is carried by a V1 token.

The client repeats ``X-Docker-Token`` verbatim as ``Authorization: Token …``. The repository is taken from the
signed part, never from the clear text beside it. A client that sends Basic credentials with every request has
a cookie instead. Without either, an image can be read through any repository that the client may read, and
cannot be written.
"""

from flask import request
from werkzeug.http import dump_cookie

from dualreg.auth.access import Action
from dualreg.auth.authority import SESSION
from dualreg.errors import ImageUnknown, Unauthenticated
from dualreg.image.names import ImageId, RepositoryName
from dualreg.registry.repositories import alias_of
from dualreg.web.address import own_host, own_path
from dualreg.web.context import authority, registry
from dualreg.web.credentials import SESSION_COOKIE, grant, v1_session
from dualreg.web.forwarded import is_https
from dualreg.web.guard import authorize

#: Actions on an existing repository, which V1 may call ``library/NAME`` for NAME, or the other way round.
_ON_EXISTING = (Action.PULL, Action.DELETE)


def session_headers(repository: RepositoryName) -> dict[str, str]:
    """Return the headers that start a session on *repository*, and name this host as the endpoint.

    Exactly one host: Docker before 0.11 takes the whole value as one.  Source: docker-registry 0.9,
    ``index.py``.
    """
    reads = request.method in ("GET", "HEAD")
    actions = [Action.PULL] if reads else [Action.PULL, Action.PUSH]
    signature = authority().session_token(grant(), repository, *actions)
    token = f'signature={signature},repository="{repository}",access={"read" if reads else "write"}'
    return {
        "X-Docker-Token": token,
        "WWW-Authenticate": f"Token {token}",
        "X-Docker-Endpoints": own_host(),
        "Set-Cookie": dump_cookie(
            SESSION_COOKIE,
            signature,
            max_age=SESSION,
            path=f"{own_path()}/v1",
            secure=is_https(),
            httponly=True,
            samesite="Strict",
        ),
    }


def locate(action: Action) -> None:
    """Find the repository of the request, authorize *action* on it, and pass it to the handler.

    Raises:
        Unauthenticated, Denied: the client lacks the permission.
        ImageUnknown: no repository that the client may read has the image.
    """
    values = request.view_args if request.view_args is not None else {}
    if "repository" not in values:
        values["repository"] = _repository_of(values["image"], action)
    elif action in _ON_EXISTING:
        values["repository"] = _resolve(values["repository"], action)
    else:
        authorize(values["repository"], action)


def _resolve(name: RepositoryName, action: Action) -> RepositoryName:
    """Return the existing repository that *name* means: that name or its alias, within the client's reach."""
    reach = grant().reach(action)
    if not reach.covers(name) and not reach.covers(alias_of(name)):
        authorize(name, action)
    resolved = registry().repositories.resolve(name, reach)
    authorize(resolved, action)
    return resolved


def _repository_of(image: ImageId, action: Action) -> RepositoryName:
    """Return the repository through which the image is read or written."""
    if session := v1_session():
        authorize(session.repository, action)
        return session.repository
    if action is not Action.PULL:
        raise Unauthenticated(reason="send the token that the repository was answered with")
    try:
        return registry().v1_images.holder(image, grant().reach(action))
    except ImageUnknown as error:
        if grant().anonymous:
            raise Unauthenticated from error
        raise
