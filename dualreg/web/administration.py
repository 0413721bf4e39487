"""Administration: the operations for the account of the request, of which each checks what it requires.

The API calls them by their routes, and the pages as methods: both may do the same.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from flask import g, request

from dualreg.auth.access import Action
from dualreg.auth.accounts import Accounts
from dualreg.errors import NotAllowed, RegistryError, RequestInvalid
from dualreg.image.names import RepositoryName
from dualreg.messages import safe_line
from dualreg.operations.operation import Needs, Operation, require_text
from dualreg.operations.session import Session
from dualreg.operations.table import OPERATIONS, Administration, groups, run
from dualreg.registry.processes import started_at
from dualreg.web import context
from dualreg.web.credentials import grant
from dualreg.web.guard import authorize
from dualreg.web.health import failures_of
from dualreg.web.responses import READS

#: Facts of the audit log that each line of a request has; those of an operation get another name.
_TAKEN = frozenset({"account", "address", "method", "path", "repository", "action", "status", "agent"})

#: Groups of operations that show who did what, and where else this registry sends what it knows; and commands
#: that take long, and make pushes wait.
_NEVER_OPEN = frozenset({"AuditLog", "WebhookChanges", "tasks preview"})


def administration() -> Administration:
    """Return the operations for the account of the request.

    Besides what the operations raise, a method raises Denied or Unauthenticated if the account lacks the
    action, NotAllowed if it is no administrator, ReadOnly if nothing may be changed, and RequestInvalid in
    place of ValueError.
    """
    session = operating()
    found = {name: _Group(session, kind.__name__) for name, kind in groups().items()}
    return Administration(**cast("Any", found))


def permit(operation: Operation, arguments: Mapping[str, object]) -> None:
    """Check that the account of the request may do that.

    Raises:
        Denied, Unauthenticated: it lacks the action on the repository.
        NotAllowed: it is no administrator.
    """
    repository = arguments.get("repository")
    if isinstance(operation.needs, Action) and isinstance(repository, RepositoryName):
        authorize(repository, operation.needs)
    elif operation.needs is not Needs.ACCOUNT and not administers(operation):
        raise NotAllowed(reason="only administrators can do that, who have admin and manage on *")


def administers(operation: Operation | None = None) -> bool:
    """Return whether the account of the request is an administrator.

    Args:
        operation: Of an open registry, everybody may see what this one shows, unless it changes something,
            takes long, or shows more than what the registry has and how it is used.
    """
    if delegation := context.parts().delegation:
        return delegation.administers(grant().identity)
    if operation is None:
        return context.authority().is_open
    is_closed = not _NEVER_OPEN.isdisjoint({operation.group, operation.command})
    return context.authority().is_open and operation.method in READS and not is_closed


def operating() -> Session:
    """Return what the operations of the request work with."""
    granted = grant()
    return Session(
        context.registry(),
        context.settings(),
        _record,
        _accounts,
        context.authority,
        context.writes,
        context.registry().rules.signing.trust,
        context.parts().tasks,
        require_changeable=context.writes().require_allowed,
        require_deletable=context.require_deletes,
        allows=granted.allows,
        reach=granted.reach(Action.PULL),
        administers=administers,
        pushable=granted.reach(Action.PUSH),
        failures=lambda: failures_of(context.parts()),
        since=started_at(),
        previews=context.parts().previews,
    )


class _Group:
    """Stands in for a group: its methods check the account before they work."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._operations = {each.call.__name__: each for each in OPERATIONS if each.group == name}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the operation of this name."""
        if name not in self._operations:
            raise AttributeError(name)
        return partial(_call, self._session, self._operations[name])


def _call(session: Session, operation: Operation, /, *given: object, **named: object) -> Any:  # noqa: ANN401 -- as the type says
    """Return what an operation answers."""
    bound = inspect.signature(operation.call).bind(None, *given, **named).arguments
    arguments = {name: value for name, value in bound.items() if name in operation.parameters}
    permit(operation, arguments)
    for name, value in arguments.items():
        require_text(name, value)
    changes = request.method not in READS and operation.method not in READS
    if changes and not operation.while_readonly:
        context.writes().require_allowed()
    try:
        return run(operation, session, arguments)
    except RegistryError:
        raise
    except ValueError as error:
        raise RequestInvalid(reason=safe_line(error)) from error


def _accounts() -> Accounts:
    if context.parts().self_service is None:
        raise NotAllowed(reason="this registry has no accounts")
    return context.self_service().accounts


def _record(command: str, **facts: object) -> None:
    """Add what was changed to the request's line in the audit log."""
    repository = str(facts.pop("repository", g.get("requested", ("",))[0]))
    g.requested = (repository or None, g.get("requested", (None, None))[1])
    named = {f"of_{name}" if name in _TAKEN else name: value for name, value in facts.items()}
    g.facts = {"command": command, **named}
