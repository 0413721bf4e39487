"""``/v2/_catalog``.  Source: Docker Registry HTTP API V2, "Listing Repositories"."""

from flask import Blueprint, Response, request

from dualreg.web.context import registry
from dualreg.web.credentials import listable
from dualreg.web.guard import Need, requires
from dualreg.web.paging import next_link, page_size
from dualreg.web.repeatable import repeat_document
from dualreg.web.responses import json_response

#: Page size without ``n``, as in the reference registry.
_DEFAULT_SIZE = 100


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/_catalog")(list_repositories)


@requires(Need.CATALOG)
def list_repositories() -> Response:
    """List the repositories that have an image and that the client may pull, in byte order."""
    size = page_size(_DEFAULT_SIZE) or 0
    page = registry().repositories.list(last=request.args.get("last", ""), limit=size, reach=listable())
    headers = next_link({"last": page.end, "n": size}) if page.more else {}
    response = json_response({"repositories": page.rows}, headers=headers)
    return repeat_document(response, is_personal=True)
