"""The V2 dialect: Docker Registry HTTP API V2 and OCI distribution-spec v1.1, under ``/v2``.

URL values are parsed here, once: handlers receive ``RepositoryName``, ``Digest``, ``UploadId`` and ``Tag |
Digest``.
"""

import re
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from dualreg.auth.access import Access, Action, is_repository
from dualreg.errors import BlobUnknown, ManifestUnknown, RegistryError, TagInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, UploadId, parse_reference
from dualreg.web.guard import Need, demand, enforce, requires
from dualreg.web.responses import document
from dualreg.web.v2 import blobs, errors, extensions, manifests, referrers, repositories, tags, uploads
from dualreg.web.v2.errors import render_status

__all__ = ["create_blueprint", "hidden_from", "render_status"]

#: Docker 1.3 to 1.5 has an unfinished V2 client that fails without falling back; pings carry Go's own name.
#: Source: the registry mirror configuration that Docker published for 1.6, confirmed with the real daemons.
_UNFINISHED_V2 = re.compile(r"docker/1\.(?:3|4|5(?!\.[0-9]-dev))\.|Go ", re.ASCII)


def create_blueprint() -> Blueprint:
    """Return everything under ``/v2``."""
    blueprint = Blueprint("v2", __name__, url_prefix="/v2")
    blueprint.add_url_rule("", "bare", get_base)
    blueprint.add_url_rule("/", "base", get_base)
    for module in (blobs, uploads, manifests, referrers, tags, repositories, extensions):
        module.register(blueprint)
    blueprint.register_error_handler(RegistryError, errors.render)
    blueprint.url_value_preprocessor(_parse_values)
    blueprint.before_request(_hide)
    blueprint.before_request(_guard)
    return blueprint


def hidden_from(user_agent: str) -> bool:
    """Tell whether this client must not learn that there is a V2 API."""
    return _UNFINISHED_V2.match(user_agent) is not None


@requires(Need.LOGIN)
def get_base() -> Response:
    """Say that V2 is spoken here.  Source: OCI distribution-spec v1.1, "Determining Support"."""
    return document({})


def _hide() -> Response | None:
    """Let clients that must not know of V2 find nothing where they ask for it, logged in or not."""
    asked = request.endpoint in ("v2.base", "v2.bare")
    hidden = asked and hidden_from(request.user_agent.string)
    return render_status(404, "not found", {}) if hidden else None


def _guard() -> None:
    enforce(lambda action: demand((request.view_args or {})["name"], action, *_mounted()))


def _mounted() -> Iterator[Access]:
    """Yield what a mount needs of its source."""
    source = request.args.get("from", "")
    if request.args.get("mount") and is_repository(source):
        yield Access.of(source, Action.PULL)


def _parse_values(_: str | None, values: dict[str, Any] | None) -> None:
    """Turn the URL's texts into values, so that a bad one is refused before any handler runs."""
    if not values:
        return
    if "reference" in values:
        values["reference"] = _parse_reference(values["reference"])
    for name, parse in (
        ("name", RepositoryName.parse),
        ("digest", _parse_digest),
        ("upload", UploadId.parse),
    ):
        if name in values:
            values[name] = parse(values[name])


def _parse_reference(text: str) -> Tag | Digest:
    """Return the reference; to a reader, an impossible tag is just one that is not there."""
    try:
        return parse_reference(text)
    except TagInvalid as error:
        if request.method == "PUT":
            raise
        raise ManifestUnknown(reference=text[:200]) from error


def _parse_digest(text: str) -> Digest:
    """Return the digest; Docker 1.6 asks for tarsums, of which there are none here, and fails on a 400."""
    if text.startswith("tarsum") and request.method in ("GET", "HEAD"):
        raise BlobUnknown(digest=text[:200])
    return Digest.parse(text)
