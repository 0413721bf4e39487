"""``/v2/<name>/referrers/<digest>``.  Source: OCI distribution-spec v1.1, "Listing Referrers"."""

import json
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.catalog.rows import ReferrerRow
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.web.context import registry
from dualreg.web.guard import requires
from dualreg.web.paging import after, cursor


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/<path:name>/referrers/<digest>")(list_referrers)


@requires(Action.PULL)
def list_referrers(name: RepositoryName, digest: Digest) -> Response:
    """List what refers to the manifest, as an index; it is never an error that nothing does."""
    # A plus in a query means a blank to the decoder, but no media type has blanks, and many have pluses.
    artifact_type = request.args.get("artifactType", "").replace(" ", "+") or None
    page = registry().referrers.list(name, digest, artifact_type=artifact_type, after=after(Digest.parse))
    headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
    if page.more:
        query = urlencode(
            {
                "artifactType": artifact_type or "",
                "after": _place(page.end),
            }
        )
        headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [_descriptor(row) for row in page.rows],
    }
    return Response(json.dumps(document), headers=headers, content_type=media_types.OCI_INDEX)


def _descriptor(row: ReferrerRow) -> dict[str, object]:
    descriptor: dict[str, object] = {
        "mediaType": row.media_type,
        "digest": str(row.digest),
        "size": row.size,
    }
    if row.artifact_type:
        descriptor["artifactType"] = row.artifact_type
    if row.annotations:
        descriptor["annotations"] = row.annotations
    return descriptor


def _place(row: ReferrerRow) -> str:
    return cursor(row.pushed_at, row.digest)
