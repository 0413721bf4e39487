"""Guard: every handler says what it needs, and none runs before that is there.

One that says nothing never runs.
"""

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from flask import current_app, g, request

from dualreg.auth.access import CATALOG, Access, Action
from dualreg.errors import Denied, Unauthenticated
from dualreg.image.names import RepositoryName
from dualreg.web.credentials import grant

_MARK = "dualreg_requires"
Handler = TypeVar("Handler", bound=Callable[..., object])


class Need(Enum):
    """What handlers need that is about no repository."""

    NOTHING = "nothing"
    LOGIN = "login"
    CATALOG = "catalog"


def requires(need: Action | Need) -> Callable[[Handler], Handler]:
    """Mark a handler with what it needs: an action upon the repository that its request is about, or else."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _MARK, need)
        return handler

    return mark


def need_of(handler: object) -> Action | Need:
    """Return what a handler was marked with.

    Raises:
        AttributeError: nothing; it must not run then.
    """
    return getattr(handler, _MARK)  # type: ignore[no-any-return]  # a function's own attribute


def enforce(locate: Callable[[Action], None]) -> None:
    """Let the request's handler run only if what it needs is there.

    Args:
        locate: Finds the repository that the request is about, and demands the action upon it.

    Raises:
        Unauthenticated, Denied, TooManyAttempts: it is not.
    """
    need = need_of(current_app.view_functions[request.endpoint or ""])
    if request.method == "OPTIONS" or need is Need.NOTHING:
        return
    if need is Need.LOGIN and grant().anonymous:
        raise Unauthenticated
    if need is Need.CATALOG and not grant().lists():
        raise Unauthenticated(scope=str(CATALOG), error=_token_error())
    if isinstance(need, Action):
        locate(need)


def demand(repository: RepositoryName, action: Action, *more: Access) -> None:
    """Let the request go on only if its sender may do *action* with the repository, which need not exist.

    Args:
        more: What the request can make use of; a challenge asks for it too.

    Raises:
        Unauthenticated: nobody said who they are, or a token covers less: another one may do.
        Denied: it is known who asks, and they may not.
    """
    g.demanded = (repository, action)
    granted = grant()
    if granted.allows(repository, action):
        g.allowed = True
        return
    # Clients that push ask for both, so that one token does for what follows.
    actions = {Action.PULL, Action.PUSH} if action is Action.PUSH else {action}
    if granted.anonymous or granted.bearer:
        scope = " ".join(map(str, (Access.of(repository, *actions), *more)))
        raise Unauthenticated(scope=scope, error=_token_error())
    raise Denied(repository=repository, action=action)


def _token_error() -> str | None:
    """Return the error code of RFC 6750 for a token that covers too little, if one was sent."""
    return "insufficient_scope" if grant().bearer else None
