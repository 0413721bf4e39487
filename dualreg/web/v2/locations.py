"""Locations: the URLs in V2 responses, relative unless ``public_url`` is set."""

import re
from urllib.parse import quote

from dualreg.errors import Unauthenticated
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.uploads import Upload
from dualreg.web.address import own_url
from dualreg.web.context import settings
from dualreg.web.current import current_agent

#: Docker versions that fail on a relative Location.  (Measured on 1.6 and 1.7.)
_NEEDS_ABSOLUTE = re.compile(r"docker/1\.[67]\.", re.ASCII)
#: Characters that are not escaped; a client can send any others in its Host header.
_URL_SAFE = ":/?#[]@!$&'()*+,;=%"
#: Characters that a description must not have.  Source: RFC 6750, section 3.
_NOT_IN_DESCRIPTION = re.compile(r"[^ !#-\[\]-~]", re.ASCII)


def upload_headers(upload: Upload) -> dict[str, str]:
    """Return the headers with which a client can continue the upload.

    ``Range`` is ``0-0`` for an empty upload as for one of one byte: Docker fails on an end before the start.
    The next chunk's offset is checked against the actual one.

    The location says how much this answer knows of, so that a request that is repeated because its answer was
    lost is recognized by the older location.
    """
    known = f"?offset={upload.offset}" if upload.offset else ""
    return {
        "Location": f"{_base_url()}/v2/{upload.repository}/blobs/uploads/{upload.id}{known}",
        "Range": f"0-{max(upload.offset - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
    }


def blob_headers(repository: RepositoryName, digest: Digest) -> dict[str, str]:
    """Return the headers of a blob that was just stored."""
    return _content_headers(f"/v2/{repository}/blobs/{digest}", digest)


def manifest_headers(repository: RepositoryName, digest: Digest) -> dict[str, str]:
    """Return the headers of a manifest that was just stored."""
    return _content_headers(f"/v2/{repository}/manifests/{digest}", digest)


def bearer_challenge(error: Unauthenticated) -> str:
    """Return the challenge that names the token server, and the token to request.

    Every value is quoted: clients parse nothing else. Docker, podman and skopeo show the description to
    their users, and not the body.  Source: RFC 6750, section 3; Docker Registry, "Token Authentication
    Specification".
    """
    own_realm = f"{own_url()}/token"
    parameters: dict[str, str | None] = {
        "realm": quote(settings().token_realm or own_realm, safe=_URL_SAFE),
        "service": settings().token_service,
    }
    parameters |= {"scope": error.scope, "error": error.error}
    if error.error:
        parameters["error_description"] = _NOT_IN_DESCRIPTION.sub("", error.explanation())
    return "Bearer " + ",".join(
        f'{name}="{value}"' for name, value in parameters.items() if value is not None
    )


def _content_headers(path: str, digest: Digest) -> dict[str, str]:
    return {"Location": _base_url() + path, "Docker-Content-Digest": str(digest)}


def _base_url() -> str:
    """Return the prefix of URLs: empty, unless the setting or an old client requires absolute ones."""
    if settings().public_url or _NEEDS_ABSOLUTE.match(current_agent()):
        return own_url()
    return ""
