"""``/v2/<name>/_oci/tag-history/<tag>``: what a tag pointed at, newest first.

Source: opencontainers/distribution-spec pull request 606, "extensions/_oci.md", which is a proposal.
"""

from datetime import UTC, datetime

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.catalog.moves import HistoryPlace, HistoryRow, WantedMoves
from dualreg.catalog.rows import Origin
from dualreg.errors import PageInvalid
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.places import format_place, parse_row_number
from dualreg.web.context import registry
from dualreg.web.credentials import grant
from dualreg.web.guard import requires
from dualreg.web.paging import next_link, page_size, parse_cursor
from dualreg.web.responses import json_response

_DEFAULT_SIZE = 100
#: Annotations that the proposal requires, and ours.
_PROPOSED, _OWN = "org.opencontainers.distribution.tag.", "io.dualreg.tag."


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/<path:name>/_oci/tag-history/<tag>")(list_history)


@requires(Action.PULL)
def list_history(name: RepositoryName, tag: Tag) -> Response:
    """List the moves and deletions of a tag, none if it is unknown; with ``n=0``, none without a link.

    Who made them is shown to clients that may push, as it is no business of others.
    """
    size, digest = page_size(_DEFAULT_SIZE) or 0, request.args.get("digest")
    place = parse_cursor(parse_row_number)
    page = registry().history.page(
        name,
        tag,
        limit=size,
        after=HistoryPlace(*place) if place else None,
        wanted=WantedMoves(
            _time("before"),
            _time("since"),
            None if digest is None else Digest.parse(digest),
            registry().tags.visibility.shown(name, Origin.V2),
        ),
    )
    headers = {}
    if page.more and size:
        given = {key: request.args[key] for key in ("since", "digest") if key in request.args}
        headers = next_link({**given, "after": format_place(page.end.at, page.end.id), "n": size})
    shows_actor = grant().allows(name, Action.PUSH)
    index = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [_descriptor(row, shows_actor=shows_actor) for row in page.rows],
    }
    response = json_response(index, headers=headers)
    response.content_type = media_types.OCI_INDEX
    return response


def _descriptor(row: HistoryRow, *, shows_actor: bool) -> dict[str, object]:
    """Return what a tag points at since a move, or pointed at before it was deleted."""
    annotations = {
        f"{_PROPOSED}timestamp": row.at.isoformat().replace("+00:00", "Z"),
        f"{_PROPOSED}event": "created" if row.new else "deleted",
        f"{_OWN}api": row.api,
    }
    if row.old:
        annotations[f"{_OWN}from"] = str(row.old)
    if shows_actor and row.actor:
        annotations[f"{_OWN}actor"] = row.actor
    return {
        "mediaType": row.media_type,
        "digest": str(row.new or row.old),
        "size": row.size,
        "annotations": annotations,
    }


def _time(name: str) -> datetime | None:
    """Return the time in a parameter; None without it.

    Raises:
        PageInvalid: it is none, or has no offset.
    """
    text = request.args.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # as which an unencoded plus sign arrives
        if found.tzinfo:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise PageInvalid(**{name: text[:50]})
