"""Locations: the URLs that V2 answers send clients on to, relative unless ``public_url`` is set."""

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.uploads import Upload
from dualreg.web.context import settings


def upload_headers(upload: Upload) -> dict[str, str]:
    """Return what a client needs to go on with the upload.

    ``Range`` is ``0-0`` for an empty upload as for one byte: Docker fails on an end before the start. The
    offset that counts is checked when the next chunk comes.
    """
    return {
        "Location": f"{settings().public_url}/v2/{upload.repository}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(upload.offset - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
    }


def blob_headers(repository: RepositoryName, digest: Digest) -> dict[str, str]:
    """Return where a blob that was just stored can be pulled."""
    return _content_headers(f"/v2/{repository}/blobs/{digest}", digest)


def manifest_headers(repository: RepositoryName, digest: Digest) -> dict[str, str]:
    """Return where a manifest that was just stored can be pulled."""
    return _content_headers(f"/v2/{repository}/manifests/{digest}", digest)


def _content_headers(path: str, digest: Digest) -> dict[str, str]:
    return {"Location": settings().public_url + path, "Docker-Content-Digest": str(digest)}
