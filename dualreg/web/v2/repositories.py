"""``/v2/_catalog``.  Source: Docker Registry HTTP API V2, "Listing Repositories"."""

from flask import Blueprint, Response, request

from dualreg.web.context import registry
from dualreg.web.credentials import listed
from dualreg.web.guard import Need, requires
from dualreg.web.paging import link_header, page_size
from dualreg.web.responses import document

#: Names in a page if the client does not say; the reference registry's number.
_DEFAULT_SIZE = 100


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/_catalog")(list_repositories)


@requires(Need.CATALOG)
def list_repositories() -> Response:
    """List the repositories that hold an image, as far as the client may pull them, in byte order."""
    size = page_size(_DEFAULT_SIZE) or 0
    page = registry().repositories.list(last=request.args.get("last", ""), limit=size, reach=listed())
    return document({"repositories": page.rows}, headers=link_header(page, size))
