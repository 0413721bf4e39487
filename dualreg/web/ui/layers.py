"""Layers: what a layer of an image has, and what it changes in the layers below."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, request

from dualreg.image.entries import Kind
from dualreg.image.names import RepositoryName
from dualreg.operations.layers import LayerEntry, LayerPage
from dualreg.web.administration import administration
from dualreg.web.ui.page import Crumb, page, pages, url
from dualreg.web.ui.repositories import crumbs_of

#: Entries on a page.
_ROWS = 100


@dataclass(frozen=True, slots=True)
class EntryLine:
    """An entry of a layer.

    Attributes:
        removes: What it removes, in words before the path; empty: nothing.
        href: The list of what is below it; empty: it is no directory.
    """

    entry: LayerEntry
    removes: str
    href: str


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/layer")(get_layer)


def get_layer() -> Response:
    """Return what a layer has or, with ``changes``, what it does to the layers below."""
    name = RepositoryName.parse(request.args.get("repository", ""))
    given = {each: request.args[each] for each in ("reference", "platform", "layer") if each in request.args}
    path, after, changes = (request.args.get(each, "") for each in ("path", "after", "changes"))
    layers = administration().layers
    read = layers.changes if changes else layers.files
    found = read(name, **given, path=path, n=_ROWS, after=after)
    query = {"repository": name, **given}
    chosen = {**query, "changes": "1"} if changes else query
    reference = given.get("reference", "latest")
    image = {each: value for each, value in query.items() if each != "layer"}
    return page(
        "layer",
        f"Layer {found.position} of {name}{'@' if ':' in reference else ':'}{reference}",
        [*crumbs_of(name), Crumb(reference, url("get_image", **image)), Crumb(f"Layer {found.position}")],
        query=chosen,
        path=path,
        found=found,
        changes=changes,
        views=[
            ("Files", url("get_layer", **query, path=path or None), not changes),
            ("Changes", url("get_layer", **query, changes="1", path=path or None), bool(changes)),
        ],
        lines=_lines(found, chosen),
        pages=pages("get_layer", after, found.next, **chosen, path=path),
    )


def _lines(found: LayerPage, chosen: dict[str, str]) -> Sequence[EntryLine]:
    return [
        EntryLine(
            each,
            _REMOVES.get(each.kind, ""),
            url("get_layer", **chosen, path=each.path) if each.kind is Kind.DIRECTORY else "",
        )
        for each in found.rows
    ]


_REMOVES = {Kind.WHITEOUT: "removes", Kind.OPAQUE: "removes all below"}
