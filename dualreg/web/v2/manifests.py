"""``/v2/<name>/manifests/<reference>``.

Source: OCI distribution-spec v1.1, "Pulling manifests", "Pushing Manifests".
"""

from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.errors import ManifestUnknown, RequestInvalid, SizeMismatch, TooManyTags, Unsigned
from dualreg.image.digest import Digest
from dualreg.image.media_types import SCHEMA1_TYPES, strip_parameters
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.negotiation import Outline, Representation
from dualreg.registry.preconditions import Precondition
from dualreg.registry.upstream import Freshness
from dualreg.web.accel import let_remember
from dualreg.web.body import read_limited
from dualreg.web.context import late, registry, require_deletes
from dualreg.web.credentials import grant
from dualreg.web.current import current_request
from dualreg.web.download import take_slot
from dualreg.web.guard import another_may_do, requires
from dualreg.web.repeatable import note_repeats, repeat_document
from dualreg.web.responses import add_stale, add_warnings, empty_response
from dualreg.web.v2.locations import manifest_headers

#: Maximum size of a manifest in bytes; the specification requires at least this much.
MANIFEST_LIMIT = 4 << 20

#: Maximum number of tags in one request.
TAGS_LIMIT = 32

#: Warnings about one manifest.
#: Source: OCI distribution-spec v1.1, "Warnings": 4,096 bytes at most.
_WARNINGS_LIMIT = 8

_ANYTHING = frozenset({"*/*", "application/*"})
#: What the manifest of a tag depends on besides the path, and that of a digest.
_VARY = {Tag: "Accept, User-Agent", Digest: "Accept"}


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/<path:name>/manifests/<reference>")(get_manifest)
    blueprint.put("/<path:name>/manifests/<reference>")(put_manifest)
    blueprint.delete("/<path:name>/manifests/<reference>")(delete_manifest)


@requires(Action.PULL)
def get_manifest(name: RepositoryName, reference: Tag | Digest) -> Response:
    """Return the manifest as stored, or in a form that the client can read; to HEAD, its headers."""
    _require_here(name, reference)
    accept = _accept()
    manifest = _find(name, reference, accept)
    if isinstance(manifest, Outline):
        return _send_late(name, reference, manifest)
    headers = {
        "Docker-Content-Digest": str(manifest.digest),
        "ETag": f'"{manifest.digest}"',
        "Content-Type": manifest.media_type,
        "Content-Length": str(manifest.size),
        "Vary": _VARY[type(reference)],
    }
    if request.if_none_match.contains_weak(str(manifest.digest)):
        response = empty_response(304, headers)
    else:
        response = Response(manifest.read() if request.method == "GET" else None, headers=headers)
    is_sent = response.status_code == HTTPStatus.OK and request.method == "GET"
    freshness = registry().freshness(name, reference)
    add_stale(response, freshness.stale if freshness else "")
    is_schema1 = manifest.media_type in SCHEMA1_TYPES
    if is_schema1 and isinstance(reference, Digest):
        add_warnings(response, _successor(name, reference, accept))
    add_warnings(response, manifest.ruling.warnings)
    # What a client is warned of depends on it, and nginx does not look at that.
    by_nginx = is_sent and isinstance(reference, Digest) and not is_schema1 and not manifest.ruling.applies
    is_personal = manifest.ruling.applies and accept.agent.signs  # others may not sign
    _let_repeat(response, manifest, freshness, by_nginx=by_nginx, is_personal=is_personal)
    if is_sent:
        tags = registry().tags
        if isinstance(reference, Tag):
            record = partial(tags.record_pull, name, reference)
        else:
            record = partial(tags.record_image_pull, name, reference)
        record()
        note_repeats(lambda *_: record())
    return response


def _find(name: RepositoryName, reference: Tag | Digest, accept: Accept) -> Representation | Outline:
    """Return the manifest that a client gets. To read what is not signed, a signing tool has to log in.

    Raises:
        Unauthenticated: the tool may not push with its token; another one may do.
        RegistryError: as for ``Negotiation.find``.
    """
    is_pull, find = request.method == "GET", registry().negotiation.find_soon
    try:
        return find(name, reference, accept, is_pull=is_pull, may_sign=_may_sign(name, accept))
    except Unsigned as error:
        challenge = another_may_do(name, Action.PUSH) if accept.agent.signs else None
        raise challenge or error from error


def _may_sign(name: RepositoryName, accept: Accept) -> bool:
    """Return whether the client is a signing tool that may push; for others, which pull, nothing is asked."""
    return accept.agent.signs and grant().allows(name, Action.PUSH)


def _require_here(name: RepositoryName, reference: Tag | Digest) -> None:
    """Refuse a digest that is not here, if a peer asks, which wants nothing loaded from upstream.

    Raises:
        ManifestUnknown.

    Source: RFC 9111, "only-if-cached".
    """
    asked = request.cache_control.only_if_cached and isinstance(reference, Digest)
    if asked and registry().manifests.peek(name, reference) is None:
        raise ManifestUnknown(reference=str(reference))


def _send_late(name: RepositoryName, reference: Tag | Digest, expected: Outline) -> Response:
    """Return a manifest when its layers are ready; it is sent without its digest, which is not known yet."""
    services, accept = registry(), _accept()
    may_sign = _may_sign(name, accept)  # not known once the request has ended

    def look(sent: int) -> Iterator[bytes] | None:
        manifest = services.negotiation.find_soon(name, reference, accept, may_sign=may_sign)
        if isinstance(manifest, Outline):
            return None
        body = manifest.read()
        if manifest.media_type != expected.media_type or body[:sent] != expected.known[:sent]:
            raise ManifestUnknown(reference=str(reference), reason="it was changed meanwhile")
        if isinstance(reference, Tag):
            services.tags.record_pull(name, reference)
        return iter([body[sent:]])

    headers = {"Content-Type": expected.media_type, "Vary": _VARY[type(reference)]}
    response = late().send(expected.known, look, headers, take_slot)
    freshness = services.freshness(name, reference)
    add_stale(response, freshness.stale if freshness else "")
    return response


def _successor(name: RepositoryName, digest: Digest, accept: Accept) -> Iterator[str]:
    """Yield what to pull instead of a schema 1 manifest, if the client reads newer ones and one was made."""
    if successor := registry().negotiation.successor(name, digest, accept):
        yield f"this is schema 1, which current clients do not read; pull {successor} instead"


def _let_repeat(
    response: Response,
    manifest: Representation,
    freshness: Freshness | None,
    *,
    by_nginx: bool,
    is_personal: bool,
) -> None:
    """Let the response with a manifest be repeated, unless that was generated."""
    if manifest.row and manifest.blob:
        until = registry().manifests.unchanged_until(manifest.row)
        if freshness:
            until = min(until or freshness.until, freshness.until)
        if expires := manifest.ruling.until:
            until = min(until or expires, expires)
        if by_nginx:
            until = let_remember(response, until)
        repeat_document(response, manifest.blob, until=until, is_personal=is_personal)


@requires(Action.PUSH)
def put_manifest(name: RepositoryName, reference: Tag | Digest) -> Response:
    """Store a manifest under a tag or its digest."""
    media_type = strip_parameters(request.headers.get("Content-Type", ""))
    tags = _query_tags(reference)
    payload = read_limited(MANIFEST_LIMIT)
    manifest, mismatches, warnings = registry().manifests.put(
        name, reference, media_type, payload, tags=tags, condition=_precondition()
    )
    registry().tags.record_pushes(len(tags) or isinstance(reference, Tag))
    headers = manifest_headers(name, manifest.digest)
    if tags:
        headers["OCI-Tag"] = ", ".join(tags)
    if manifest.subject:
        # Without this header, clients maintain a list of referrers under a fallback tag.
        headers["OCI-Subject"] = str(manifest.subject.digest)
    response = empty_response(201, headers)
    add_warnings(response, (*_warnings(mismatches), *warnings))
    return response


@requires(Action.DELETE)
def delete_manifest(name: RepositoryName, reference: Tag | Digest) -> Response:
    """Delete a tag only, or a manifest with all its tags."""
    require_deletes()
    if isinstance(reference, Tag):
        registry().tags.delete(name, reference, _precondition())
    else:
        registry().manifests.delete(name, reference, _precondition())
    return empty_response(202, {})


def _warnings(mismatches: Sequence[SizeMismatch]) -> Iterator[str]:
    """Yield what is wrong with the sizes that a manifest states; if there is much, only the first of it."""
    yield from (each.explanation() for each in mismatches[:_WARNINGS_LIMIT])
    if more := mismatches[_WARNINGS_LIMIT:]:
        yield f"{len(more)} more sizes in the manifest are wrong"


def _query_tags(reference: Tag | Digest) -> list[Tag]:
    """Return the tags in the query, without duplicates.

    Raises:
        TagInvalid, TooManyTags.
        RequestInvalid: the reference is a tag itself.

    Source: OCI distribution-spec, "Pushing Manifests", ``?tag=`` with a digest.
    """
    tags = [Tag.parse(text) for text in dict.fromkeys(request.args.getlist("tag"))]
    if tags and isinstance(reference, Tag):
        raise RequestInvalid(reason="the tag parameter requires a digest as reference")
    if len(tags) > TAGS_LIMIT:
        raise TooManyTags(limit=TAGS_LIMIT)
    return tags


def _precondition() -> Precondition:
    """Return the precondition of If-Match and If-None-Match; entity tags may be quoted or not."""
    match, none_match = (_entity_tags(name) for name in ("If-Match", "If-None-Match"))
    return Precondition(match, none_match)


def _entity_tags(name: str) -> frozenset[str] | None:
    sent = current_request().headers.get(name)  # if there were several, WSGI has joined them
    return None if sent is None else frozenset(tag.strip(' "') for tag in sent.split(","))


def _accept() -> Accept:
    """Return what manifests the client accepts.

    Quality factors are ignored: a tag points to one manifest.
    """
    values = request.headers.get("Accept", "").split(",")  # if there were several, WSGI has joined them
    named = frozenset(filter(None, map(strip_parameters, values)))
    wildcard = not named.isdisjoint(_ANYTHING)
    as_stored = bool(request.cache_control.no_transform)
    agent = Agent.of(request.user_agent.string)
    return Accept(named - _ANYTHING, wildcard=wildcard, as_stored=as_stored, agent=agent)
