"""Several tags that were ticked in a list: what deleting them frees, deleting them, and undoing that."""

from collections.abc import Sequence

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.errors import RequestInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.web import browser
from dualreg.web.administration import administration
from dualreg.web.ui.page import Crumb, deletable, may, page, url
from dualreg.web.ui.repositories import crumbs_of


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/tags/delete")(get_ticked)
    blueprint.post("/tags/delete")(post_ticked)
    blueprint.post("/tags/restore")(post_ticked_back)


def get_ticked() -> Response:
    """Ask whether the tags are to be deleted, with what that would free, and which of them stay."""
    name = RepositoryName.parse(request.args.get("repository", ""))
    planned = administration().tags.delete_several(name, _tags(request.args.getlist("tag")), dry_run=True)
    return page(
        "delete_several",
        f"Delete tags of {name}",
        [*crumbs_of(name), Crumb("Delete tags")],
        planned=planned,
        change=bool(planned.deleted) and deletable(name),
    )


def post_ticked() -> Response:
    """Delete the tags, and offer to undo that."""
    name = RepositoryName.parse(browser.form().get("repository", ""))
    deleted = administration().tags.delete_several(name, _tags(browser.form_values("tag")))
    return page(
        "deleted_several",
        f"Deleted tags of {name}",
        [*crumbs_of(name), Crumb("Deleted tags")],
        deleted=deleted,
        undo=bool(deleted.deleted) and may(name, Action.PUSH),
    )


def post_ticked_back() -> Response:
    """Have the tags point at what they pointed at, and lead to the repository, unless some cannot."""
    name = RepositoryName.parse(browser.form().get("repository", ""))
    targets = dict(map(_target, browser.form_values("target")))
    restored = administration().tags.restore_several(name, targets)
    if not restored.kept:
        return browser.redirect(url("get_repository", repository=name))
    crumbs = [*crumbs_of(name), Crumb("Restored tags")]
    return page("restored_several", f"Restored tags of {name}", crumbs, restored=restored)


def _tags(names: Sequence[str]) -> tuple[Tag, ...]:
    """Return the tags that were ticked.

    Raises:
        RequestInvalid: none was.
        TagInvalid.
    """
    if not names:
        raise RequestInvalid(reason="no tag was ticked; go back and tick those that you want to delete")
    return tuple(map(Tag.parse, names))


def _target(text: str) -> tuple[str, Digest]:
    """Return the tag and the digest of ``TAG@DIGEST``.

    Raises:
        TagInvalid, DigestInvalid.
    """
    tag, _, digest = text.partition("@")
    return Tag.parse(tag), Digest.parse(digest)
