"""Guard: every handler declares what it requires, and runs only if the request is granted that.

A handler that declares nothing never runs.
"""

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from dualreg.acting import Api, act_as
from dualreg.auth.access import CATALOG, Access, Action
from dualreg.errors import Denied, NotAllowed, Unauthenticated
from dualreg.image.names import RepositoryName
from dualreg.web.body import has_body
from dualreg.web.context import registry, writes
from dualreg.web.credentials import grant
from dualreg.web.current import current_application, current_facts, current_request
from dualreg.web.responses import READS

_MARK = "dualreg_requires"
Handler = TypeVar("Handler", bound=Callable[..., object])


class Need(Enum):
    """What a handler requires beyond an action on a repository."""

    NOTHING = "nothing"
    LOGIN = "login"
    ACCOUNT = "account"
    #: An account, also if the registry is read-only.
    OPERATOR = "operator"
    CATALOG = "catalog"


def requires(need: Action | Need) -> Callable[[Handler], Handler]:
    """Declare what a handler requires: an action on the request's repository, or a Need."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _MARK, need)
        return handler

    return mark


def need_of(handler: object) -> Action | Need:
    """Return what a handler requires.

    Raises:
        AttributeError: the handler declares nothing, and must not run.
    """
    return getattr(handler, _MARK)  # type: ignore[no-any-return]  # an attribute set by requires()


def enforce(locate: Callable[[Action], None]) -> None:
    """Check what the request's handler requires, and have it change tags for the account of the request.

    Args:
        locate: Finds the repository of the request, and authorizes an action on it.

    Raises:
        Unauthenticated, Denied, NotAllowed, TooManyAttempts, TooManyRequests, ReadOnly, DiskReserved,
            RepositoryOwned: it must not run.
    """
    asked = current_request()
    need = need_of(current_application().view_functions[asked.endpoint or ""])
    if asked.method == "OPTIONS" or need is Need.NOTHING:
        return
    if need is Need.LOGIN and grant().anonymous:
        raise Unauthenticated
    if need in (Need.ACCOUNT, Need.OPERATOR):
        _require_account()
    if need is Need.ACCOUNT and asked.method not in READS:
        writes().require_allowed()
    if need is Need.CATALOG and not grant().lists():
        raise _challenge(str(CATALOG), "the list of repositories")
    if isinstance(need, Action):
        locate(need)
        _require_writable(need)
    blueprint = asked.blueprint
    act_as(grant().identity.account, Api(blueprint) if blueprint in (Api.V1, Api.API) else Api.V2)


def _require_account() -> None:
    """Check that the request has the password or an API key of an account.

    Raises:
        Unauthenticated, NotAllowed: it must not run.
    """
    identity = grant().identity
    if grant().bearer or not identity.account:
        raise Unauthenticated(reason="log in with the password or an API key of an account; tokens do not do")
    if not identity.password and not identity.key:
        raise NotAllowed(reason="only accounts of this registry can do that")


def _require_writable(action: Action) -> None:
    """Check that what the request changes may be changed now, and that there is room for what it adds.

    Deletes need no room, nor does the end of an upload whose bytes have all arrived.

    Raises:
        ReadOnly, DiskReserved.
        RepositoryOwned: what is pushed comes from upstream.
    """
    asked = current_request()
    if asked.method in READS:
        return
    adds = action is Action.PUSH and asked.method != "DELETE"
    writes().require_allowed()
    if adds:
        registry().require_own(current_facts().requested[0])
    if adds and (asked.method == "POST" or has_body()):
        writes().require_room(asked.content_length or 0)


def authorize(repository: RepositoryName, action: Action, *more: Access) -> None:
    """Check that the request is granted *action* on a repository, which need not exist.

    Args:
        more: Optional access that the request can use; a challenge asks for it too, and is sent for it once.

    Raises:
        Unauthenticated: the request is anonymous, or its token covers too little; another token may do.
        Denied: the client is authenticated and lacks the permission.
    """
    kept = current_facts()
    kept.requested = (repository, action)
    granted = grant()
    kept.allowed = granted.allows(repository, action)
    if not kept.allowed or any(map(granted.could_include, more)):
        raise _refusal(repository, action, *more)


def another_may_do(repository: RepositoryName, action: Action) -> Unauthenticated | None:
    """Return the challenge by which a client gets a token that allows *action*, too; None: it has such a one.

    None, too, if its account lacks the permission.
    """
    if grant().allows(repository, action):
        return None
    refusal = _refusal(repository, action)
    return refusal if isinstance(refusal, Unauthenticated) else None


def _refusal(repository: RepositoryName, action: Action, *more: Access) -> Unauthenticated | Denied:
    """Return the error of a request that is not granted *action*; for *more*, see ``authorize``."""
    granted = grant()
    # A push needs to pull too; one token for both spares the client the next challenge.
    actions = {Action.PULL, Action.PUSH} if action is Action.PUSH else {action}
    if granted.anonymous or granted.bearer:
        scope = " ".join(map(str, (Access.of(repository, *actions), *more)))
        return _challenge(scope, f"{action} on repository {repository}")
    return Denied(account=granted.identity.account, repository=repository, action=action)


def _challenge(scope: str, wanted: str) -> Unauthenticated:
    """Return the error that asks for a token with *scope*; one that was sent covers too little for *wanted*.

    Source: RFC 6750, section 3.1, for the code of that.
    """
    if grant().bearer:
        account = grant().identity.account
        return Unauthenticated(scope=scope, error="insufficient_scope", lacks=wanted, account=account)
    return Unauthenticated(scope=scope)
