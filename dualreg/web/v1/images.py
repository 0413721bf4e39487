"""``/v1/images/<id>``: an image's JSON, layer, checksum and ancestry.

Source: docker-registry 0.9, ``images.py``; the exchanges of Docker 0.6 to 1.9.
"""

import re

from flask import Blueprint, Response, request

from dualreg.catalog.rows import BlobRow
from dualreg.errors import ImageUnknown, RequestInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId
from dualreg.web.body import body_chunks, read_limited
from dualreg.web.context import registry
from dualreg.web.download import send_blob
from dualreg.web.v1.answers import DOCUMENT_LIMIT, answer
from dualreg.web.v1.session import required_repository, session_repository

_PAYLOAD = "X-Docker-Checksum-Payload"
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


def get_json(image: ImageId) -> Response:
    """Send the image's JSON, byte for byte as it was pushed.

    This request is also how clients ask whether it is here.
    """
    row = registry().v1_images.get(session_repository(), image)
    response = Response(registry().v1_images.json(row), content_type="application/json")
    response.headers["X-Docker-Size"] = str(row.layer_size or 0)
    if row.checksum:
        response.headers[_PAYLOAD] = str(row.checksum)
    return response


def put_json(image: ImageId) -> Response:
    """Begin an image."""
    registry().v1_images.begin(required_repository(), image, read_limited(DOCUMENT_LIMIT))
    return answer()


def get_layer(image: ImageId) -> Response:
    """Send the image's layer, byte for byte as it was pushed, or a range of it."""
    row = registry().v1_images.get(session_repository(), image)
    if row.layer is None:
        raise ImageUnknown(id=image)
    return send_blob(BlobRow(row.layer, row.layer_size or 0), {})


def put_layer(image: ImageId) -> Response:
    """Take in an image's layer, of whatever compression the client chose."""
    registry().v1_images.put_layer(required_repository(), image, body_chunks())
    return answer()


def put_checksum(image: ImageId) -> Response:
    """Complete an image, once its client and we agree on what was sent."""
    registry().v1_images.put_checksum(required_repository(), image, _stated_checksum())
    return answer()


def get_ancestry(image: ImageId) -> Response:
    """List the image's id and those of its ancestors, the base last."""
    rows = registry().v1_images.ancestry(session_repository(), image)
    return answer([row.id for row in rows])


def _stated_checksum() -> Digest | None:
    """Return the payload checksum that the client states.

    None from those too old to know it, or that get it wrong.
    """
    payload = request.headers.get(_PAYLOAD)
    if not payload and not request.headers.get("X-Docker-Checksum"):
        raise RequestInvalid(reason="Missing Image's checksum")
    if not payload or _WRONG_PAYLOAD.match(request.user_agent.string):
        return None
    return Digest.parse(payload)
