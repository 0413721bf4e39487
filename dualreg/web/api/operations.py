"""Routes of the operations: parse, call the method of the table, render; and their description."""

from collections.abc import Callable, Mapping
from functools import cache

from flask import Blueprint, Response, request

from dualreg import __version__
from dualreg.messages import safe_line
from dualreg.operations.openapi import document
from dualreg.operations.operation import Operation
from dualreg.operations.page import page
from dualreg.operations.table import OPERATIONS, run
from dualreg.operations.values import encode
from dualreg.web.administration import operating, permit
from dualreg.web.api.bodies import read_any
from dualreg.web.guard import Need, requires
from dualreg.web.paging import next_link
from dualreg.web.responses import empty_response, json_response
from dualreg.web.v2.errors import render_status


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
        permit(operation, arguments)
        try:
            answer = run(operation, operating(), arguments)
        except ValueError as error:
            return render_status(400, safe_line(error), {})
        return _rendered(operation, answer)

    return view


def _rendered(operation: Operation, answer: object) -> Response:
    if not operation.has_answer:
        return empty_response(204, {})
    after = getattr(answer, "next", None)
    link = next_link({**request.args, "after": after}) if isinstance(after, str) else {}
    return json_response(encode(answer), headers=link)
