"""``/v2/<name>/blobs/uploads/``.  Source: OCI distribution-spec v1.1, "Pushing blobs"."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import parse_qsl

from flask import Blueprint, Response

from dualreg.auth.access import Action
from dualreg.errors import DigestInvalid, NameInvalid, RangeInvalid
from dualreg.image.digest import CANONICAL, Digest, check_algorithm
from dualreg.image.names import RepositoryName, UploadId
from dualreg.web.body import body_chunks, has_body
from dualreg.web.context import registry
from dualreg.web.credentials import client_key, grant
from dualreg.web.current import current_request, query
from dualreg.web.guard import requires
from dualreg.web.responses import empty_response
from dualreg.web.v2.locations import blob_headers, upload_headers

#: The specification's form has no unit; some clients add that of RFC 9110.
_CONTENT_RANGE = re.compile(r"(?:bytes )?([0-9]{1,19})-([0-9]{1,19})(?:/(?:\*|[0-9]{1,19}))?", re.ASCII)


_OFFSET = re.compile(r"[0-9]{1,19}", re.ASCII)


class _Chunk(NamedTuple):
    """The offset and length of the body according to the client; None if not given.

    Attributes:
        known: The offset in the location, which was that of the upload when the client was told.
    """

    offset: int | None = None
    length: int | None = None
    known: int | None = None


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.post("/<path:name>/blobs/uploads/")(start_upload)
    blueprint.post("/<path:name>/blobs/uploads", endpoint="start_upload_bare")(start_upload)
    session = "/<path:name>/blobs/uploads/<upload>"
    blueprint.get(session)(get_upload)
    blueprint.patch(session)(append_upload)
    blueprint.put(session)(finish_upload)
    blueprint.delete(session)(cancel_upload)


@requires(Action.PUSH)
def start_upload(name: RepositoryName) -> Response:
    """Start an upload, mount a blob of another repository, or store a blob from one request."""
    given = query()
    mount, digest = given.get("mount"), given.get("digest")
    if mount:
        if mounted := _mount(name, mount, given.get("from")):
            return empty_response(201, blob_headers(name, mounted))
    elif digest:
        expected = Digest.parse(digest)
        registry().quotas.require_room(name, expected, current_request().content_length or 0)
        with registry().uploads.counted(name, client_key(), body_chunks()) as body:
            blob = registry().uploads.ingest(name, body, expected=expected)
        return empty_response(201, blob_headers(name, blob.digest))
    check_algorithm(given.get("digest-algorithm", CANONICAL))
    return empty_response(202, upload_headers(registry().uploads.start(name, client_key())))


@requires(Action.PUSH)
def get_upload(name: RepositoryName, upload: UploadId) -> Response:
    """Return the progress of the upload."""
    return empty_response(204, upload_headers(registry().uploads.status(name, upload)))


@requires(Action.PUSH)
def append_upload(name: RepositoryName, upload: UploadId) -> Response:
    """Append a chunk, whose Content-Range has to start where the upload ends, or a stream."""
    chunk = _declared_chunk(name, upload, _arguments())
    body = body_chunks(length=chunk.length)
    grown = registry().uploads.append(name, upload, body, offset=chunk.offset, known=chunk.known)
    return empty_response(202, upload_headers(grown))


@requires(Action.PUSH)
def finish_upload(name: RepositoryName, upload: UploadId) -> Response:
    """Append the last chunk, if any, and turn the upload into a blob."""
    arguments = _arguments()
    digest = Digest.parse(arguments.get("digest", ""))
    chunk = _declared_chunk(name, upload, arguments)
    registry().quotas.require_room(name, digest, current_request().content_length or 0)
    body = body_chunks(length=chunk.length) if chunk.length is not None or has_body() else ()
    registry().uploads.finish(name, upload, digest, body, offset=chunk.offset, known=chunk.known)
    for _ in body:
        pass  # what is left, if the first try of the request was done, so that the client reads the answer
    return empty_response(201, blob_headers(name, digest))


@requires(Action.PUSH)
def cancel_upload(name: RepositoryName, upload: UploadId) -> Response:
    """Cancel the upload."""
    registry().uploads.cancel(name, upload)
    return empty_response(204, {})


def _mount(name: RepositoryName, mount: str, source: str | None) -> Digest | None:
    """Mount a blob and return its digest; None if that is not possible, be it that the names are invalid."""
    with suppress(DigestInvalid, NameInvalid):
        digest = Digest.parse(mount)
        origin = RepositoryName.parse(source) if source else None
        if registry().blobs.mount(name, digest, origin, reach=grant().reach(Action.PULL)):
            return digest
    return None


def _arguments() -> dict[str, str]:
    """Return the parameters of an upload's location.

    Some clients append ``?digest=`` to the location even if it has a query.
    """
    return dict(parse_qsl(current_request().query_string.decode("utf-8", "replace").replace("?", "&")))


def _declared_chunk(name: RepositoryName, upload: UploadId, arguments: Mapping[str, str]) -> _Chunk:
    """Return the chunk that Content-Range declares.

    Raises:
        RangeInvalid: the range is malformed or ends before it starts.
    """
    text = current_request().headers.get("Content-Range")
    if not text:
        known = arguments.get("offset", "")
        return _Chunk(known=int(known) if _OFFSET.fullmatch(known) else 0)
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        offset = registry().uploads.status(name, upload).offset
        raise RangeInvalid(repository=name, upload=upload, offset=offset)
    return _Chunk(int(match[1]), int(match[2]) - int(match[1]) + 1)
