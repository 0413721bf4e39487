"""``/v2/<name>/manifests/<reference>``.

Source: OCI distribution-spec v1.1, "Pulling manifests", "Pushing Manifests".
"""

from flask import Blueprint, Response, request

from dualreg.image.digest import Digest
from dualreg.image.media_types import strip_parameters
from dualreg.image.names import RepositoryName, Tag
from dualreg.web.body import read_limited
from dualreg.web.context import registry
from dualreg.web.responses import empty
from dualreg.web.v2.locations import manifest_headers

#: Bytes of the largest manifest taken; the specification asks for at least this much.
MANIFEST_LIMIT = 4 << 20


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/<path:name>/manifests/<reference>")(get_manifest)
    blueprint.put("/<path:name>/manifests/<reference>")(put_manifest)
    blueprint.delete("/<path:name>/manifests/<reference>")(delete_manifest)


def get_manifest(name: RepositoryName, reference: Tag | Digest) -> Response:
    """Send the manifest exactly as it was pushed, or to HEAD what it would be sent with."""
    manifest = registry().manifests.find(name, reference, _accepted())
    headers = {
        "Docker-Content-Digest": str(manifest.digest),
        "ETag": f'"{manifest.digest}"',
        "Content-Type": manifest.media_type,
        "Content-Length": str(manifest.size),
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept",
    }
    if request.if_none_match.contains(str(manifest.digest)):
        return empty(304, headers)
    body = b"" if request.method == "HEAD" else registry().manifests.payload(manifest)
    return Response(body, headers=headers)


def put_manifest(name: RepositoryName, reference: Tag | Digest) -> Response:
    """Store a manifest under a tag or its digest."""
    media_type = strip_parameters(request.headers.get("Content-Type", ""))
    manifest = registry().manifests.put(name, reference, media_type, read_limited(MANIFEST_LIMIT))
    return empty(201, manifest_headers(name, manifest.digest))


def delete_manifest(name: RepositoryName, reference: Tag | Digest) -> Response:
    """Forget a tag alone, or a manifest with all its tags."""
    if isinstance(reference, Tag):
        registry().tags.delete(name, reference)
    else:
        registry().manifests.delete(name, reference)
    return empty(202, {})


def _accepted() -> frozenset[str]:
    """Return the media types that the client takes; empty if it takes anything.

    Clients send them as one header or several; quality factors order nothing here, since a tag is one
    manifest.
    """
    values = ",".join(request.headers.getlist("Accept")).split(",")
    accepted = frozenset(filter(None, map(strip_parameters, values)))
    return frozenset() if accepted & {"*/*", "application/*"} else accepted
