"""Formats: which tags break for which clients, by pattern and client."""

from flask import Blueprint, Response, request

from dualreg.image.readers import READERS
from dualreg.web.administration import administration
from dualreg.web.ui.page import page, pages, url

#: Tags that are checked for a page: each takes up to three documents.
_ROWS = 50


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/formats")(get_formats)


def get_formats() -> Response:
    """Return the tags that clients cannot read."""
    pattern, client = request.args.get("pattern", ""), request.args.get("client", "")
    unsolved, after = "unsolved" in request.args, request.args.get("after", "")
    found = administration().images.check(
        (pattern,) if pattern else (),
        clients=(client,) if client else (),
        unsolved=unsolved,
        n=_ROWS,
        after=after,
    )
    chosen = {"pattern": pattern, "client": client, "unsolved": "1" if unsolved else ""}
    return page(
        "formats",
        "Old formats",
        found=found,
        rows=[
            (each, url("get_image", repository=each.repository, reference=each.tag)) for each in found.rows
        ],
        pattern=pattern,
        client=client,
        unsolved=unsolved,
        readers=[*READERS.values()],
        pages=pages("get_formats", after, found.next, **chosen),
    )
