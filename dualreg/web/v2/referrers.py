"""``/v2/<name>/referrers/<digest>``.  Source: OCI distribution-spec v1.1, "Listing Referrers"."""

import json

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.operations.places import format_place
from dualreg.registry.referrers import index_of
from dualreg.web.context import registry
from dualreg.web.guard import requires
from dualreg.web.paging import next_link, parse_cursor
from dualreg.web.responses import add_stale


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/<path:name>/referrers/<digest>")(list_referrers)


@requires(Action.PULL)
def list_referrers(name: RepositoryName, digest: Digest) -> Response:
    """Return the referrers of the manifest as an index; empty if there are none, or no such manifest."""
    # A plus in a query is decoded as a blank, but media types have no blanks, and many have a plus.
    artifact_type = request.args.get("artifactType", "").replace(" ", "+") or None
    page = registry().referrers.list(
        name, digest, artifact_type=artifact_type, after=parse_cursor(Digest.parse), may_lack=True
    )
    headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
    if page.more:
        after = format_place(page.end.pushed_at, page.end.digest)
        headers |= next_link({"artifactType": artifact_type or "", "after": after})
    document = index_of(page.rows)
    response = Response(json.dumps(document), headers=headers, content_type=media_types.OCI_INDEX)
    add_stale(response, registry().staleness(name, subject=digest))
    return response
