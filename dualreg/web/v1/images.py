"""``/v1/images/<id>``: an image's JSON, layer, checksum, ancestry and files.

Source: docker-registry 0.9, ``images.py``; the exchanges of Docker 0.6 to 1.9.
"""

import re
from functools import partial

from flask import Blueprint, Response, g, request

from dualreg.auth.access import Action
from dualreg.catalog.rows import BlobRow, V1ImageRow
from dualreg.errors import (
    AuditUnavailable,
    DiskReserved,
    ImageIncomplete,
    ImageUnknown,
    ReadOnly,
    RequestInvalid,
)
from dualreg.image.digest import Digest
from dualreg.image.layer import GZIP_START
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.tarsum import is_tarsum
from dualreg.registry.v1_mode import V1Mode
from dualreg.web.body import body_chunks, read_limited, require_client
from dualreg.web.context import audit, authority, registry, writes
from dualreg.web.credentials import client_key, grant, v1_session
from dualreg.web.download import send_blob, send_late
from dualreg.web.guard import requires
from dualreg.web.repeatable import note_repeats, repeat_document
from dualreg.web.responses import json_response
from dualreg.web.v1.mode import mode_of_v1
from dualreg.web.v1.responses import DOCUMENT_LIMIT, immutable, is_held, uncached_json

_PAYLOAD = "X-Docker-Checksum-Payload"
#: The header of docker-registry 0.9, and that of 0.7 and 0.8.
_PAYLOADS = (_PAYLOAD, "X-Docker-Payload-Checksum")
_TARSUM = "X-Docker-Checksum"
#: Docker 0.9 hashes other bytes than it sends, so its payload checksum is always wrong. (Measured on 0.9.0
#: and 0.9.1.)
_WRONG_PAYLOAD = re.compile(r"docker/0\.9\.", re.ASCII)


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/images/<image>/json")(get_json)
    blueprint.put("/images/<image>/json")(put_json)
    blueprint.get("/images/<image>/layer")(get_layer)
    blueprint.put("/images/<image>/layer")(put_layer)
    blueprint.put("/images/<image>/checksum")(put_checksum)
    blueprint.get("/images/<image>/ancestry")(get_ancestry)
    blueprint.get("/images/<image>/files")(get_files)
    blueprint.get("/images/<image>/diff")(get_diff)


@requires(Action.PULL)
def get_json(repository: RepositoryName, image: ImageId) -> Response:
    """Return the image's JSON, byte for byte as it was pushed.

    Clients also use this request to check whether the registry has the image, and send it if not. One that
    pushes is also told about images of its other repositories, which this one then takes over.
    """
    row = _promise(repository, image)
    document = registry().v1_images.json(row)
    response = Response(document, content_type="application/json")
    response.headers["X-Docker-Size"] = str(registry().v1_layers.size(row))
    if row.checksum:
        response.headers.update(dict.fromkeys(_PAYLOADS, str(row.checksum)))
    if row.tarsum and row.tarsum_verified is not False:
        response.headers[_TARSUM] = row.tarsum
    until = registry().v1_images.unchanged_until(row)
    sources = [BlobRow(row.json, len(document))]
    sources += [BlobRow(row.layer, row.layer_size or 0)] if row.layer else []
    return repeat_document(immutable(response, str(row.json)), *sources, until=until)


@requires(Action.PUSH)
def put_json(repository: RepositoryName, image: ImageId) -> Response:
    """Start an image."""
    registry().v1_images.begin(repository, image, read_limited(DOCUMENT_LIMIT))
    return uncached_json()


@requires(Action.PULL)
def get_layer(repository: RepositoryName, image: ImageId) -> Response:
    """Return the image's layer, byte for byte as it was pushed, or a range of it; a zstd one as gzip."""
    row = registry().v1_images.get(repository, image)
    if is_held(str(row.layer)):
        return immutable(Response(), str(row.layer))
    find = partial(registry().v1_layers.find, repository, row)
    layer = find()
    return send_blob(layer, {}) if layer else send_late(GZIP_START, find, {})


@requires(Action.PUSH)
def put_layer(repository: RepositoryName, image: ImageId) -> Response:
    """Store an image's layer, in any compression."""
    with registry().uploads.counted(repository, client_key(), body_chunks()) as body:
        registry().v1_images.put_layer(repository, image, body)
    return uncached_json()


@requires(Action.PUSH)
def put_checksum(repository: RepositoryName, image: ImageId) -> Response:
    """Complete an image, if the client's checksum matches what was received."""
    tarsum = request.headers.get(_TARSUM, "")
    registry().v1_images.put_checksum(
        repository, image, _payload_checksum(), tarsum if is_tarsum(tarsum) else None
    )
    return uncached_json()


@requires(Action.PULL)
def get_ancestry(repository: RepositoryName, image: ImageId) -> Response:
    """Return the IDs of the image and its ancestors, the base last; clients need them for each pull."""
    rows = registry().v1_images.ancestry(repository, image)
    until = registry().signatures.check_image(repository, image).until
    response = repeat_document(
        immutable(json_response([row.id for row in rows]), rows[-1].id + image), until=until
    )
    if request.method == "GET":
        record = partial(registry().tags.record_image_pull, repository, image)
        record()
        note_repeats(lambda *_: record())
    return response


@requires(Action.PULL)
def get_files(repository: RepositoryName, image: ImageId) -> Response:
    """Return the files of the image's layer: name, kind, deleted, size, mtime, mode, uid, gid."""
    row = registry().v1_images.get(repository, image)
    listed = registry().listings.files(row, require_client)
    return immutable(Response(listed, content_type="application/json"), f"{row.layer} files")


@requires(Action.PULL)
def get_diff(repository: RepositoryName, image: ImageId) -> Response:
    """Return the files that the image's layer deletes, changes and creates, by name; see ``get_files``."""
    rows = registry().v1_images.ancestry(repository, image)
    listed = registry().listings.changes(rows, require_client)
    return immutable(Response(listed, content_type="application/json"), f"{image} diff")


def _promise(repository: RepositoryName, image: ImageId) -> V1ImageRow:
    """Return an image that the repository has, or takes over for a client that would push it otherwise.

    Raises:
        ImageUnknown, ImageIncomplete: the client has to push it.
    """
    images = registry().v1_images
    try:
        return images.promise(repository, image)
    except (ImageUnknown, ImageIncomplete):
        if not _mount(repository, image):
            raise
        return images.promise(repository, image)


def _mount(repository: RepositoryName, image: ImageId) -> bool:
    """Take an image over if the request belongs to a push that could write to the repository now."""
    session = v1_session()
    may_push = mode_of_v1() is V1Mode.ON and grant().allows(repository, Action.PUSH)
    if not session or not session.writes or not may_push:
        return False
    try:
        writes().require()
        audit().ready()
    except (ReadOnly, DiskReserved, AuditUnavailable):
        return False
    mounted = registry().v1_mounts.mount(repository, image, authority().own(session, grant()))
    if mounted:
        g.mounted, g.requested = True, (repository, Action.PUSH)  # for the audit log
    return mounted


def _payload_checksum() -> Digest | None:
    """Return the payload checksum of the request.

    None for clients that send only a tarsum, or a wrong payload checksum.

    Raises:
        RequestInvalid: the client sends neither.
    """
    payload = request.headers.get(_PAYLOAD)
    if not payload and not request.headers.get(_TARSUM):
        raise RequestInvalid(reason="Missing Image's checksum")
    if not payload or _WRONG_PAYLOAD.match(request.user_agent.string):
        return None
    return Digest.parse(payload)
