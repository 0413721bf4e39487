"""Formats: which tags break for which clients, by pattern and client."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request

from dualreg.image.readers import READERS
from dualreg.web.administration import administration
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.page import page, pages, url

#: Tags that are checked for a page: each takes up to three documents.
_ROWS = 50


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/formats")(get_formats)


def get_check() -> Response:
    """Return the form alone, for a check that was refused."""
    return page("formats", "Old formats", found=None, **_chosen(), readers=_readers())


@refused_on(get_check)
def get_formats() -> Response:
    """Return the tags that clients cannot read."""
    chosen, after = _chosen(), request.args.get("after", "")
    pattern, client = chosen["pattern"], chosen["client"]
    found = administration().images.check(
        (pattern,) if pattern else (),
        clients=(client,) if client else (),
        unsolved=bool(chosen["unsolved"]),
        n=_ROWS,
        after=after,
    )
    return page(
        "formats",
        "Old formats",
        found=found,
        rows=[
            (each, url("get_image", repository=each.repository, reference=each.tag)) for each in found.rows
        ],
        **chosen,
        readers=_readers(),
        pages=pages("get_formats", after, found.next, **chosen),
    )


def _chosen() -> dict[str, Any]:
    return {name: request.args.get(name, "") for name in ("pattern", "client", "unsolved")}


def _readers() -> Mapping[str, str]:
    """Return the clients that one can choose, and how people call them."""
    found = {each.name: f"{each.name}: {each.releases}" for each in READERS.values()}
    return {"": "one of every generation", **found}
