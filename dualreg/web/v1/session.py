"""The V1 session: ``/v1/images`` URLs name no repository, so the client carries it in the token it was given.

The client repeats ``X-Docker-Token`` verbatim as ``Authorization: Token …``, without looking inside. The
repository is taken from what is signed, never from the clear text beside it. A client that says Basic
everywhere has a cookie instead; without either, an image is read through any repository that its sender may
read, and cannot be written.
"""

from flask import request
from werkzeug.http import dump_cookie

from dualreg.auth.access import Action
from dualreg.auth.authority import SESSION
from dualreg.errors import ImageUnknown, Unauthenticated
from dualreg.image.names import ImageId, RepositoryName
from dualreg.registry.repositories import alias_of
from dualreg.web.context import authority, registry
from dualreg.web.credentials import SESSION_COOKIE, grant, session
from dualreg.web.guard import demand

#: Actions upon what is there, under whichever of its two names.
_UPON_KNOWN = (Action.PULL, Action.DELETE)


def session_headers(repository: RepositoryName) -> dict[str, str]:
    """Return the headers that begin a session on *repository*, and send the client on to this very host.

    Exactly one host: Docker before 0.11 takes the whole value for one.  Source: docker-registry 0.9,
    ``index.py``.
    """
    reads = request.method in ("GET", "HEAD")
    actions = [Action.PULL] if reads else [Action.PULL, Action.PUSH]
    signature = authority().session_token(grant(), repository, *actions)
    token = f'signature={signature},repository="{repository}",access={"read" if reads else "write"}'
    return {
        "X-Docker-Token": token,
        "WWW-Authenticate": f"Token {token}",
        "X-Docker-Endpoints": request.host,
        "Set-Cookie": dump_cookie(
            SESSION_COOKIE,
            signature,
            max_age=SESSION,
            path="/v1",
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        ),
    }


def locate(action: Action) -> None:
    """Find the repository that the request is about, demand *action* upon it, and hand it to the handler.

    Raises:
        Unauthenticated, Denied: it must not be done.
        ImageUnknown: no repository that may be read holds the image.
    """
    values = request.view_args if request.view_args is not None else {}
    if "repository" not in values:
        values["repository"] = _holder(values["image"], action)
    elif action in _UPON_KNOWN:
        values["repository"] = _meant(values["repository"], action)
    else:
        demand(values["repository"], action)


def _meant(name: RepositoryName, action: Action) -> RepositoryName:
    """Return the repository that a client means; only what it may do *action* with decides which."""
    reach = grant().reach(action)
    if not reach.covers(name) and not reach.covers(alias_of(name)):
        demand(name, action)
    meant = registry().repositories.named(name, reach)
    demand(meant, action)
    return meant


def _holder(image: ImageId, action: Action) -> RepositoryName:
    """Return the repository through which the image is read or written."""
    begun = session()
    if begun is not None:
        demand(begun, action)
        return begun
    if action is not Action.PULL:
        raise Unauthenticated
    try:
        return registry().v1_images.holder(image, grant().reach(action))
    except ImageUnknown as error:
        if grant().anonymous:
            raise Unauthenticated from error
        raise
