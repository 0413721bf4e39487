"""The V2 dialect: Docker Registry HTTP API V2 and OCI distribution-spec v1.1, under ``/v2``.

URL values are parsed here: handlers receive ``RepositoryName``, ``Digest``, ``UploadId`` and ``Tag |
Digest``.
"""

import re
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from dualreg.auth.access import Access, Action, is_repository
from dualreg.errors import BlobUnknown, ManifestUnknown, NamespaceUnknown, TagInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import NAME_LIMIT, RepositoryName, Tag, UploadId, parse_reference
from dualreg.registry.accept import Agent
from dualreg.web.context import registry
from dualreg.web.current import current_request, query
from dualreg.web.guard import Need, authorize, enforce, requires
from dualreg.web.repeatable import repeat_document
from dualreg.web.responses import json_response
from dualreg.web.v2 import blobs, extensions, manifests, referrers, repositories, tag_history, tags, uploads
from dualreg.web.v2.errors import render, render_status

__all__ = ["create_blueprint", "is_hidden_from", "kind_of_agent", "render", "render_status"]

#: Docker 1.3 to 1.5 has an unfinished V2 client that fails without falling back; its pings have Go's agent.
#: Source: the registry mirror configuration that Docker published for 1.6, confirmed with the real daemons.
_UNFINISHED_V2 = re.compile(r"docker/1\.(?:3|4|5(?!\.[0-9]-dev))\.|Go ", re.ASCII)

#: What a query has that has the parameter ``ns``; to parse one takes long.
_NAMESPACE = re.compile(rb"(?:n|%6e)(?:s|%73)", re.IGNORECASE)


def create_blueprint() -> Blueprint:
    """Return the blueprint of ``/v2``."""
    blueprint = Blueprint("v2", __name__, url_prefix="/v2")
    blueprint.add_url_rule("", "bare", get_base)
    blueprint.add_url_rule("/", "base", get_base)
    for module in (blobs, uploads, manifests, referrers, tags, repositories, extensions, tag_history):
        module.register(blueprint)
    blueprint.url_value_preprocessor(_parse_values)
    blueprint.before_request(_hide)
    blueprint.before_request(_guard)
    return blueprint


def is_hidden_from(user_agent: str) -> bool:
    """Return whether the V2 API has to look absent to this client, so that it uses V1."""
    return _UNFINISHED_V2.match(user_agent) is not None


def kind_of_agent(user_agent: str) -> tuple[bool, Agent]:
    """Return all that answers to reads below ``/v2`` depend on of a User-Agent."""
    return is_hidden_from(user_agent), Agent.of(user_agent)


@requires(Need.LOGIN)
def get_base() -> Response:
    """Confirm that the registry implements V2.  Source: OCI distribution-spec v1.1, "Determining Support"."""
    return repeat_document(json_response({}))


def _hide() -> Response | None:
    """Return 404 to the API check of clients that must use V1, authenticated or not."""
    asked = current_request()
    hidden = asked.endpoint in ("v2.base", "v2.bare") and is_hidden_from(asked.user_agent.string)
    return render_status(404, "not found", {}) if hidden else None


def _guard() -> None:
    enforce(_authorize)


def _authorize(action: Action) -> None:
    """Check that the request is granted *action* on its repository; see ``authorize``."""
    asked = current_request()
    is_mount = asked.method == "POST" and "mount" in query()
    authorize((asked.view_args or {})["name"], action, *(_mount_access() if is_mount else ()))


def _mount_access() -> Iterator[Access]:
    """Yield the access to its source that a mount needs."""
    source = query().get("from", "")
    if query().get("mount") and is_repository(source):
        yield Access.of(source, Action.PULL)


def _parse_values(_: str | None, values: dict[str, Any] | None) -> None:
    """Parse the values of the URL, so that an invalid one is refused before any handler runs."""
    if not values:
        return
    if "reference" in values:
        values["reference"] = _parse_reference(values["reference"])
    for name, parse in (
        ("name", _parse_name),
        ("digest", _parse_digest),
        ("tag", Tag.parse),
        ("upload", UploadId.parse),
    ):
        if name in values:
            values[name] = parse(values[name])


def _parse_name(text: str) -> RepositoryName:
    """Return the repository that the URL names; with a namespace, the one that holds it here.

    Raises:
        NameInvalid.
        NamespaceUnknown: no upstream has that namespace.

    Source: OCI distribution-spec, "Registry Proxying"; spegel and stargz-snapshotter for the header.
    """
    asked = current_request()
    given = query().get("ns") if _NAMESPACE.search(asked.query_string) else None
    namespace = given or asked.environ.get("HTTP_OCI_NAMESPACE", "")
    if not namespace or namespace == asked.host:
        return RepositoryName.parse(text)
    found = registry().named(namespace, RepositoryName.parse(text))
    if found is None:
        raise NamespaceUnknown(namespace=namespace[:NAME_LIMIT])
    return RepositoryName.parse(found)


def _parse_reference(text: str) -> Tag | Digest:
    """Return the reference; except to PUT, an invalid tag is an unknown manifest."""
    try:
        return parse_reference(text)
    except TagInvalid as error:
        if request.method == "PUT":
            raise
        raise ManifestUnknown(reference=text[:200]) from error


def _parse_digest(text: str) -> Digest:
    """Return the digest; Docker 1.6 asks for tarsums, and fails unless they are unknown blobs."""
    if text.startswith("tarsum") and request.method in ("GET", "HEAD"):
        raise BlobUnknown(digest=text[:200])
    return Digest.parse(text)
