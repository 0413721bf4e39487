"""V1 image documents, payload checksums and chain ids."""

import json
from typing import Any

import pytest

from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId
from dualreg.image.v1_image import V1Image, chain_id, payload_hasher

ID, PARENT, SHORT = "a" * 64, "b" * 64, "0123456789abcdef"


@pytest.mark.parametrize(
    ("document", "parent"),
    [
        ({"id": ID}, None),
        ({"id": ID, "parent": None}, None),
        ({"id": ID, "parent": ""}, None),
        ({"id": ID, "parent": PARENT}, PARENT),
        ({"id": ID, "parent": SHORT}, SHORT),
        ({"id": SHORT, "anything": {"else": []}}, None),
    ],
)
def test_images_say_who_they_are_and_stand_on(document: dict[str, Any], parent: str | None) -> None:
    """Id and parent are read, and the bytes stay what they were, the final newline too."""
    data = json.dumps(document, indent=1).encode() + b"\n"
    assert V1Image.parse(data) == V1Image(ImageId(document["id"]), parent and ImageId(parent), data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"{}", "Invalid JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"id":"x","id":"y"}', 'duplicate member "id"'),
        (f'{{"id":"{ID}","ID":"{PARENT}"}}'.encode(), 'members "id" and "ID" differ only in case'),
        (f'{{"id":"{ID}","Parent":"{PARENT}"}}'.encode(), "Parent in JSON must be spelt parent"),
        (f'{{"id":"{ID}","PARENT":""}}'.encode(), "PARENT in JSON must be spelt parent"),
        (f'{{"ID":"{ID}"}}'.encode(), "Missing key `id' in JSON"),
        (b'{"parent":"x"}', "Missing key `id' in JSON"),
        (b'{"id":"x"}', "JSON data contains invalid id"),
        (b'{"id":7}', "JSON data contains invalid id"),
        (b'{"id":null}', "JSON data contains invalid id"),
        (b'{"id":[]}', "JSON data contains invalid id"),
        (f'{{"id":"{ID}\\n"}}'.encode(), "JSON data contains invalid id"),
        (f'{{"id":"{ID}","parent":"x"}}'.encode(), "JSON data contains invalid id"),
        (f'{{"id":"{ID}","parent":7}}'.encode(), "JSON data contains invalid id"),
        (f'{{"id":"{ID}","parent":["{PARENT}"]}}'.encode(), "JSON data contains invalid id"),
    ],
)
def test_bad_images_are_refused_in_old_words(data: bytes, reason: str) -> None:
    """Old clients print the reasons, which are docker-registry's where it has one."""
    with pytest.raises(ImageInvalid) as caught:
        V1Image.parse(data)
    assert caught.value.reason.split(": ")[0] == reason


def test_the_payload_checksum_covers_json_newline_and_layer() -> None:
    """The layer counts as it was sent, in pieces of any size."""
    hasher = payload_hasher(b'{"id":1}')
    for piece in (b"lay", b"", b"er"):
        hasher.update(piece)
    assert hasher.digest() == Digest.of(b'{"id":1}\nlayer')


def test_chain_ids_chain() -> None:
    """The base's chain id is its diff id; above, it hashes both wire forms with a space between."""
    base, above = Digest.of(b"base"), Digest.of(b"above")
    assert chain_id(None, base) == str(base)
    assert chain_id(str(base), above) == str(Digest.of(f"{base} {above}".encode()))
