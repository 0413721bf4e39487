"""Tags: what one pointed at, and having it point at that again; deleting one, and undoing that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.catalog.moves import HistoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.tags import SizedTag
from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.page import Crumb, deletable, may, page, pages, url
from dualreg.web.ui.repositories import crumbs_of

#: Moves on a page.
_ROWS = 50


@dataclass(frozen=True, slots=True)
class MoveLine:
    """A move of the tag; *restores*: what a button has it point at again, empty: there is no button."""

    move: HistoryRow
    restores: str


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/history")(get_history)
    blueprint.post("/tag/restore")(post_restore)
    blueprint.get("/tag/delete")(get_delete)
    blueprint.post("/tag/delete")(post_delete)


def get_history() -> Response:
    """Return the moves of a tag, the newest first."""
    name, tag = _named(request.args)
    after = request.args.get("after")
    found = administration().tags.history(name, tag, n=_ROWS, after=after)
    return page(
        "history",
        f"History of {name}:{tag}",
        [*crumbs_of(name), Crumb(tag, url("get_image", repository=name, reference=tag)), Crumb("History")],
        repository=name,
        tag=tag,
        lines=_lines(found.rows, restorable=may(name, Action.PUSH), is_first=not after),
        pages=pages("get_history", after, found.next, repository=name, tag=tag),
    )


def post_restore() -> Response:
    """Have a tag point at what it pointed at before, and lead to its history."""
    name, tag = _named(browser.form())
    administration().tags.restore(name, tag, to=Digest.parse(browser.form().get("to", "")))
    return browser.redirect(url("get_history", repository=name, tag=tag))


def get_delete() -> Response:
    """Ask whether a tag is to be deleted, with what that would free."""
    name, tag = _named(request.args)
    planned, found = administration().tags.delete(name, tag, dry_run=True), sized_tag(name, tag)
    return page(
        "delete",
        f"Delete {name}:{tag}",
        [*crumbs_of(name), Crumb(tag, url("get_image", repository=name, reference=tag)), Crumb("Delete")],
        planned=planned,
        bytes=found.bytes if found else None,
        own=found.own if found else None,
        change=deletable(name),
    )


def post_delete() -> Response:
    """Delete a tag, and offer to undo that."""
    name, tag = _named(browser.form())
    deleted = administration().tags.delete(name, tag)
    return page(
        "deleted",
        f"Deleted {name}:{tag}",
        [*crumbs_of(name), Crumb(tag)],
        deleted=deleted,
        restorable=may(name, Action.PUSH),
    )


def sized_tag(repository: RepositoryName, tag: str) -> SizedTag | None:
    """Return when a tag was pushed and pulled, and what it needs; None: there is no such tag."""
    rows = administration().tags.list(repository, prefix=tag, n=1).rows
    return next((row for row in rows if row.name == tag), None)


def _named(parameters: Mapping[str, str]) -> tuple[RepositoryName, Tag]:
    """Return the tag that parameters name.

    Raises:
        NameInvalid, TagInvalid.
    """
    return RepositoryName.parse(parameters.get("repository", "")), Tag.parse(parameters.get("tag", ""))


def _lines(rows: Sequence[HistoryRow], *, restorable: bool, is_first: bool) -> Sequence[MoveLine]:
    """Return moves with what a button restores: what they led to, but for what the tag points at now."""
    current = rows[0].new if rows and is_first else None
    return [
        MoveLine(row, str(row.new) if restorable and row.new and row.new != current else "") for row in rows
    ]
