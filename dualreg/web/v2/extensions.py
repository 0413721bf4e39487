"""Extensions: what this registry offers beyond the specification, and how a client learns of it.

Source: OCI distribution-spec, "extensions/README.md" (discovery, and names that begin with an underscore).
"""

import re
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.catalog.rows import TagRow
from dualreg.errors import PageInvalid
from dualreg.image.names import RepositoryName, Tag
from dualreg.web.context import registry, require_deletes
from dualreg.web.guard import Need, requires
from dualreg.web.paging import after, cursor, page_size
from dualreg.web.responses import document, empty

_DEFAULT_SIZE = 100
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,128}", re.ASCII)
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
    return document({"extensions": [_EXTENSION]})


@requires(Action.PULL)
def describe_tags(name: RepositoryName) -> Response:
    """List tags with what they point at, by name, or with ``sort=-pushed`` the newest first."""
    size, prefix, newest_first = page_size(_DEFAULT_SIZE) or 0, _prefix(), _newest_first()
    page = registry().tags.describe(
        name, limit=size, prefix=prefix, newest_first=newest_first, after=after(Tag.parse)
    )
    headers = {}
    if page.more:
        order = "-pushed" if newest_first else "name"
        query = {
            "prefix": prefix,
            "sort": order,
            "after": _place(page.end),
            "n": size,
        }
        headers["Link"] = f'<{request.path}?{urlencode(query)}>; rel="next"'
    return document({"name": name, "tags": [_entry(row) for row in page.rows]}, headers=headers)


@requires(Action.ADMIN)
def delete_repository(name: RepositoryName) -> Response:
    """Forget the repository and all it holds."""
    require_deletes()
    registry().repositories.delete(name)
    return empty(202, {})


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
    """Return the prefix asked for.

    Raises:
        PageInvalid: no tag can begin so.
    """
    prefix = request.args.get("prefix", "")
    if _PREFIX.fullmatch(prefix) is None:
        raise PageInvalid(prefix=prefix[:200])
    return prefix


def _newest_first() -> bool:
    order = request.args.get("sort", "name")
    if order not in ("name", "-pushed"):
        raise PageInvalid(sort=order[:50])
    return order == "-pushed"


def _place(row: TagRow) -> str:
    return cursor(row.pushed_at, row.name)
