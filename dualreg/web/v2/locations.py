"""Locations: the URLs that V2 answers send clients on to, relative unless ``public_url`` is set."""

import re
from urllib.parse import quote

from flask import request

from dualreg.errors import Unauthenticated
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.uploads import Upload
from dualreg.web.context import settings

#: Docker that fails on a relative Location.  (Measured on 1.6 and 1.7.)
_NEEDS_ABSOLUTE = re.compile(r"docker/1\.[67]\.", re.ASCII)
#: What stands in URLs as it is; a Host header may have brought something else.
_URL_SAFE = ":/?#[]@!$&'()*+,;=%"


def upload_headers(upload: Upload) -> dict[str, str]:
    """Return what a client needs to go on with the upload.

    ``Range`` is ``0-0`` for an empty upload as for one byte: Docker fails on an end before the start. The
    offset that counts is checked when the next chunk comes.
    """
    return {
        "Location": f"{_base()}/v2/{upload.repository}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(upload.offset - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
    }


def blob_headers(repository: RepositoryName, digest: Digest) -> dict[str, str]:
    """Return where a blob that was just stored can be pulled."""
    return _content_headers(f"/v2/{repository}/blobs/{digest}", digest)


def manifest_headers(repository: RepositoryName, digest: Digest) -> dict[str, str]:
    """Return where a manifest that was just stored can be pulled."""
    return _content_headers(f"/v2/{repository}/manifests/{digest}", digest)


def challenge(error: Unauthenticated) -> str:
    """Return where the client gets a token, and which.

    Every value is quoted: parsers of clients know nothing else.  Source: RFC 6750, section 3; Docker
    Registry, "Token Authentication Specification".
    """
    own = f"{settings().public_url or request.host_url.rstrip('/')}/token"
    parameters: dict[str, str | None] = {
        "realm": quote(settings().token_realm or own, safe=_URL_SAFE),
        "service": settings().token_service,
    }
    parameters |= {"scope": error.scope, "error": error.error}
    return "Bearer " + ",".join(
        f'{name}="{value}"' for name, value in parameters.items() if value is not None
    )


def _content_headers(path: str, digest: Digest) -> dict[str, str]:
    return {"Location": _base() + path, "Docker-Content-Digest": str(digest)}


def _base() -> str:
    """Return what URLs begin with: nothing, unless the operator or an old client wants them absolute."""
    if settings().public_url or not _NEEDS_ABSOLUTE.match(request.user_agent.string):
        return settings().public_url
    return request.host_url.rstrip("/")
