"""Extensions: endpoints beyond the specification, and their discovery.

Source: OCI distribution-spec, "extensions/README.md" (discovery, and names that begin with an underscore).
"""

import re

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.catalog.rows import TagRow
from dualreg.errors import PageInvalid
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.places import format_place
from dualreg.web.context import registry, require_deletes
from dualreg.web.guard import Need, requires
from dualreg.web.paging import next_link, page_size, parse_cursor
from dualreg.web.responses import empty_response, json_response

_DEFAULT_SIZE = 100
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,128}", re.ASCII)
_PROPOSED = {
    "name": "_oci",
    "description": "Discovery of extensions; what tags pointed at.",
    "url": "docs/extensions.md",
    "endpoints": ["_oci/ext/discover", "_oci/tag-history"],
}
_EXTENSION = {
    "name": "_dualreg",
    "description": "Tags with digest, size, media type, push and pull times; deletion of repositories.",
    "url": "docs/extensions.md",
    "endpoints": ["_dualreg/tags", "_dualreg/repository"],
}


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/_oci/ext/discover")(discover)
    blueprint.get("/<path:name>/_dualreg/tags")(describe_tags)
    blueprint.delete("/<path:name>/_dualreg/repository")(delete_repository)


@requires(Need.LOGIN)
def discover() -> Response:
    """List the extensions."""
    return json_response({"extensions": [_EXTENSION, _PROPOSED]})


@requires(Action.PULL)
def describe_tags(name: RepositoryName) -> Response:
    """List tags with details, by name, or with ``sort=-pushed`` by push time, the newest first."""
    size, prefix, newest_first = page_size(_DEFAULT_SIZE) or 0, _prefix(), _newest_first()
    page = registry().tags.describe(
        name, limit=size, prefix=prefix, newest_first=newest_first, after=parse_cursor(Tag.parse)
    )
    headers = {}
    if page.more:
        order, after = "-pushed" if newest_first else "name", format_place(page.end.pushed_at, page.end.name)
        headers = next_link({"prefix": prefix, "sort": order, "after": after, "n": size})
    return json_response({"name": name, "tags": [_entry(row) for row in page.rows]}, headers=headers)


@requires(Action.ADMIN)
def delete_repository(name: RepositoryName) -> Response:
    """Delete the repository with everything in it; with ``force=true``, also if it has immutable tags."""
    require_deletes()
    registry().repositories.delete(name, force=request.args.get("force") == "true")
    return empty_response(202, {})


def _entry(row: TagRow) -> dict[str, object]:
    return {
        "name": row.name,
        "digest": str(row.digest),
        "mediaType": row.media_type,
        "size": row.size,
        "pushed": row.pushed_at.isoformat(),
        "pulled": row.pulled_at and row.pulled_at.isoformat(),
        "origin": row.origin,
    }


def _prefix() -> str:
    """Return the requested prefix.

    Raises:
        PageInvalid: no tag can start with it.
    """
    prefix = request.args.get("prefix", "")
    if _PREFIX.fullmatch(prefix) is None:
        raise PageInvalid(prefix=prefix[:200])
    return prefix


def _newest_first() -> bool:
    """Return whether the newest tags are requested first.

    Raises:
        PageInvalid: unknown order.
    """
    order = request.args.get("sort", "name")
    if order not in ("name", "-pushed"):
        raise PageInvalid(sort=order[:50])
    return order == "-pushed"
