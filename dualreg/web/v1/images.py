"""``/v1/images/<id>``: an image's JSON, layer, checksum, ancestry and files.

Source: docker-registry 0.9, ``images.py``; the exchanges of Docker 0.6 to 1.9.
"""

import re

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageUnknown, RequestInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.image.tarsum import is_tarsum
from dualreg.web.body import body_chunks, read_limited
from dualreg.web.context import registry
from dualreg.web.download import send_blob
from dualreg.web.guard import requires
from dualreg.web.responses import document
from dualreg.web.v1.answers import DOCUMENT_LIMIT, answer, immutable

_PAYLOAD = "X-Docker-Checksum-Payload"
#: As docker-registry 0.9, and as 0.7 and 0.8 called it.
_PAYLOADS = (_PAYLOAD, "X-Docker-Payload-Checksum")
_TARSUM = "X-Docker-Checksum"
#: Docker 0.9 hashes something else than it sends, so its payload checksum never agrees. (Measured on 0.9.0
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
    """Send the image's JSON, byte for byte as it was pushed.

    This request is also how clients ask whether it is here.
    """
    row = registry().v1_images.get(repository, image)
    response = Response(registry().v1_images.json(row), content_type="application/json")
    response.headers["X-Docker-Size"] = str(row.layer_size or 0)
    if row.checksum:
        response.headers.update(dict.fromkeys(_PAYLOADS, str(row.checksum)))
    if row.tarsum and row.tarsum_verified is not False:
        response.headers[_TARSUM] = row.tarsum
    return immutable(response, str(row.json))


@requires(Action.PUSH)
def put_json(repository: RepositoryName, image: ImageId) -> Response:
    """Begin an image."""
    registry().v1_images.begin(repository, image, read_limited(DOCUMENT_LIMIT))
    return answer()


@requires(Action.PULL)
def get_layer(repository: RepositoryName, image: ImageId) -> Response:
    """Send the image's layer, byte for byte as it was pushed, or a range of it."""
    row = registry().v1_images.get(repository, image)
    if row.layer is None:
        raise ImageUnknown(id=image)
    if request.if_modified_since and not request.if_none_match:
        return immutable(Response(), str(row.layer))
    return send_blob(BlobRow(row.layer, row.layer_size or 0), {})


@requires(Action.PUSH)
def put_layer(repository: RepositoryName, image: ImageId) -> Response:
    """Take in an image's layer, of whatever compression the client chose."""
    registry().v1_images.put_layer(repository, image, body_chunks())
    return answer()


@requires(Action.PUSH)
def put_checksum(repository: RepositoryName, image: ImageId) -> Response:
    """Complete an image, once its client and we agree on what was sent."""
    tarsum = request.headers.get(_TARSUM, "")
    stated = tarsum if is_tarsum(tarsum) else None
    registry().v1_images.put_checksum(repository, image, _stated_checksum(), stated)
    return answer()


@requires(Action.PULL)
def get_ancestry(repository: RepositoryName, image: ImageId) -> Response:
    """List the image's id and those of its ancestors, the base last."""
    rows = registry().v1_images.ancestry(repository, image)
    return immutable(document([row.id for row in rows]), rows[-1].id + image)


@requires(Action.PULL)
def get_files(repository: RepositoryName, image: ImageId) -> Response:
    """List the files of the image's layer: name, kind, deleted, size, mtime, mode, uid, gid."""
    row = registry().v1_images.get(repository, image)
    return immutable(document([*registry().listings.files(row)]), f"{row.layer} files")


@requires(Action.PULL)
def get_diff(repository: RepositoryName, image: ImageId) -> Response:
    """Tell which files the image's layer deletes, changes and creates, by name; see ``get_files``."""
    rows = registry().v1_images.ancestry(repository, image)
    return immutable(document(registry().listings.changes(rows)), f"{image} diff")


def _stated_checksum() -> Digest | None:
    """Return the payload checksum that the client states.

    None from those too old to know it, or that get it wrong.
    """
    payload = request.headers.get(_PAYLOAD)
    if not payload and not request.headers.get(_TARSUM):
        raise RequestInvalid(reason="Missing Image's checksum")
    if not payload or _WRONG_PAYLOAD.match(request.user_agent.string):
        return None
    return Digest.parse(payload)
