"""``/v2/<name>/blobs/<digest>``.  Source: OCI distribution-spec v1.1, "Pulling blobs", "Deleting Blobs"."""

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.web.context import registry, require_deletes
from dualreg.web.download import send_blob, send_coming
from dualreg.web.guard import requires
from dualreg.web.responses import empty_response


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/<path:name>/blobs/<digest>")(get_blob)
    blueprint.delete("/<path:name>/blobs/<digest>")(delete_blob)


@requires(Action.PULL)
def get_blob(name: RepositoryName, digest: Digest) -> Response:
    """Return the blob; to HEAD, its headers. With ``only-if-cached``, upstream is not asked for it.

    Source: RFC 9111, "only-if-cached"; peers take 404 as well as 504.
    """
    is_cautious = "HTTP_CACHE_CONTROL" in request.environ and request.cache_control.only_if_cached
    if is_cautious and registry().blobs.find(name, digest) is None:
        raise BlobUnknown(digest=str(digest))
    found, headers = registry().blobs.find_or_await(name, digest), {"Docker-Content-Digest": str(digest)}
    return send_blob(found, headers) if isinstance(found, BlobRow) else send_coming(found, headers)


@requires(Action.DELETE)
def delete_blob(name: RepositoryName, digest: Digest) -> Response:
    """Remove the blob from the repository, unless a manifest or V1 image there references it."""
    require_deletes()
    registry().blobs.delete(name, digest)
    return empty_response(202, {})
