"""V1Image: one layer with its JSON, id and parent, as in Docker 0.x and 1.x."""

from dataclasses import dataclass
from typing import Self

from dualreg.errors import ImageIdInvalid, ImageInvalid, shown
from dualreg.image.digest import Digest, Hasher
from dualreg.image.documents import NotJson, misspelt, parse_object
from dualreg.image.names import ImageId

#: Limit of the images in a chain, and of the steps in a history; no daemon can mount more than 127 layers.
CHAIN_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class V1Image:
    """An image JSON, and the ids in it.

    Attributes:
        parent: The id of the image below; None for a base image.
        json: The exact bytes received, which V1 clients get back.
    """

    id: ImageId
    parent: ImageId | None
    json: bytes

    @classmethod
    def parse(cls, json: bytes) -> Self:
        """Return the image whose JSON is *json*.

        Raises:
            ImageInvalid: *json* is not an object, has no ``id``, an invalid ``id`` or ``parent``, or a
                parent in another case, which only daemons read. Old clients print the reasons, which begin as
                those of docker-registry where it has one.
        """
        try:
            document = parse_object(json)
        except NotJson as error:
            raise ImageInvalid(reason=f"Invalid JSON: {error.__cause__}"[:200]) from error
        except ValueError as error:
            raise ImageInvalid(reason=str(error)[:200]) from error
        if not document:
            raise ImageInvalid(reason="Invalid JSON: it has no members")
        if "id" not in document:
            raise ImageInvalid(reason="Missing key `id' in JSON")
        if wrong := misspelt(document, ["parent"]):
            raise ImageInvalid(reason=f"{shown(wrong)} in JSON must be spelt parent")
        try:
            parent = document.get("parent") or None
            return cls(ImageId.parse(_text(document["id"])), parent and ImageId.parse(_text(parent)), json)
        except ImageIdInvalid as error:
            raise ImageInvalid(reason="JSON data contains invalid id") from error


def payload_hasher(json: bytes) -> Hasher:
    """Return a hasher that computes the V1 payload checksum when it is fed the layer, as sent.

    Source: docker-registry 0.9, ``checksums.py``: sha256 of the JSON, a newline, and the layer.
    """
    return Hasher(prefix=json + b"\n")


def chain_id(parent: str | None, diff_id: Digest) -> str:
    """Return the chain ID of the layer *diff_id* on top of the chain ID *parent*, in wire form.

    Source: OCI image-spec v1.1, config.md, "Layer ChainID".
    """
    return str(diff_id) if parent is None else str(Digest.of(f"{parent} {diff_id}".encode()))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ImageIdInvalid(id=str(value)[:100])
    return value
