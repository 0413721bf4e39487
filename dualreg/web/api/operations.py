"""Routes of the operations: parse, call the method of the table, render; and their description."""

from collections.abc import Callable, Mapping
from functools import cache

from flask import Blueprint, Response, g, request

from dualreg import __version__
from dualreg.auth.access import Action
from dualreg.errors import NotAllowed
from dualreg.image.names import RepositoryName
from dualreg.messages import safe_line
from dualreg.operations.openapi import document
from dualreg.operations.operation import Needs, Operation
from dualreg.operations.page import page
from dualreg.operations.session import Session
from dualreg.operations.table import OPERATIONS, run
from dualreg.operations.values import encode
from dualreg.web import context
from dualreg.web.api.bodies import read_any
from dualreg.web.credentials import grant
from dualreg.web.guard import Need, authorize, requires
from dualreg.web.paging import next_link
from dualreg.web.responses import empty_response, json_response
from dualreg.web.v2.errors import render_status

#: Facts of the audit log that each line of a request has; those of an operation get another name.
_TAKEN = frozenset({"account", "address", "method", "path", "repository", "action", "status", "agent"})


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/")(get_page)
    blueprint.get("/openapi.json")(get_description)
    for each in OPERATIONS:
        view = requires(Need.OPERATOR if each.while_readonly else Need.ACCOUNT)(_view(each))
        blueprint.add_url_rule(each.path, each.name, view, methods=[each.method])


@requires(Need.NOTHING)
def get_page() -> Response:
    """Return what operations there are, for people."""
    return Response(_page(), content_type="text/html; charset=utf-8")


@requires(Need.NOTHING)
def get_description() -> Response:
    """Return what operations there are, for programs."""
    return json_response(_document())


@cache
def _page() -> str:
    return page(__version__)


@cache
def _document() -> Mapping[str, object]:
    return document(__version__)


def _view(operation: Operation) -> Callable[[], Response]:
    def view() -> Response:
        if operation.in_query:
            arguments = operation.arguments_of_query(request.args.to_dict(flat=False))
        else:
            arguments = operation.arguments(read_any())
        _permit(operation, arguments)
        try:
            answer = run(operation, _session(), arguments)
        except ValueError as error:
            return render_status(400, safe_line(error), {})
        return _rendered(operation, answer)

    return view


def _permit(operation: Operation, arguments: Mapping[str, object]) -> None:
    """Check that the account of the request may do that.

    Raises:
        Denied: it lacks the action on the repository.
        NotAllowed: it is no administrator.
    """
    repository = arguments.get("repository")
    if isinstance(operation.needs, Action) and isinstance(repository, RepositoryName):
        authorize(repository, operation.needs)
    elif operation.needs is not Needs.ACCOUNT and not context.delegation().administers(grant().identity):
        raise NotAllowed(reason="only administrators can do that, who have admin and manage on *")


def _session() -> Session:
    granted = grant()
    return Session(
        context.registry(),
        context.settings(),
        _record,
        lambda: context.self_service().accounts,
        context.authority,
        context.writes,
        context.registry().rules.signing.trust,
        context.parts().tasks,
        require_changeable=context.writes().require_allowed,
        require_deletable=context.require_deletes,
        allows=granted.allows,
        reach=granted.reach(Action.PULL),
        administers=lambda: context.delegation().administers(granted.identity),
    )


def _record(command: str, **facts: object) -> None:
    """Add what was changed to the request's line in the audit log."""
    repository = str(facts.pop("repository", g.get("requested", ("",))[0]))
    g.requested = (repository or None, g.get("requested", (None, None))[1])
    named = {f"of_{name}" if name in _TAKEN else name: value for name, value in facts.items()}
    g.facts = {"command": command, **named}


def _rendered(operation: Operation, answer: object) -> Response:
    if not operation.has_answer:
        return empty_response(204, {})
    after = getattr(answer, "next", None)
    link = next_link({**request.args, "after": after}) if isinstance(after, str) else {}
    return json_response(encode(answer), headers=link)
