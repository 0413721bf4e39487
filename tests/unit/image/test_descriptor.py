"""Descriptors: what may name content."""

from typing import Any

import pytest

from dualreg.errors import ManifestInvalid
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest

DIGEST = "sha256:" + "a" * 64


def _document(**members: Any) -> dict[str, Any]:
    return {"mediaType": "x/y", "digest": DIGEST, "size": 7, **members}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (_document(), Descriptor("x/y", Digest.parse(DIGEST), 7)),
        (_document(size=0), Descriptor("x/y", Digest.parse(DIGEST), 0)),
        (_document(size=2**63 - 1), Descriptor("x/y", Digest.parse(DIGEST), 2**63 - 1)),
        (_document(platform={"os": "linux"}), Descriptor("x/y", Digest.parse(DIGEST), 7, {"os": "linux"})),
        (_document(platform=None), Descriptor("x/y", Digest.parse(DIGEST), 7)),
        ({"digest": DIGEST, "size": 7}, Descriptor("", Digest.parse(DIGEST), 7)),
        (_document(mediaType=None), Descriptor("", Digest.parse(DIGEST), 7)),
        (_document(size=None), Descriptor("x/y", Digest.parse(DIGEST), None)),
        (_document(size=-1), Descriptor("x/y", Digest.parse(DIGEST), None)),
        ({"mediaType": "x/y", "digest": DIGEST}, Descriptor("x/y", Digest.parse(DIGEST), None)),
        (_document(size=1, digest=str(Digest.of(b"a")), data="YQ=="), Descriptor("x/y", Digest.of(b"a"), 1)),
        (_document(annotations={"a": "b"}, urls=["http://x"]), Descriptor("x/y", Digest.parse(DIGEST), 7)),
    ],
)
def test_descriptors_are_read(value: object, expected: Descriptor) -> None:
    """Media type, digest, size and platform are read; what else is there stays in the document."""
    assert Descriptor.from_json(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        7,
        {},
        _document(mediaType=["x"]),
        _document(digest=None),
        _document(digest=7),
        _document(digest="sha256:abc"),
        _document(digest="md5:d41d8cd98f00b204e9800998ecf8427e"),
        _document(mediaType="x/\0"),
        _document(data="YQ=="),
        _document(data=""),
        _document(size=1, digest=str(Digest.of(b"a")), data="Yg=="),
        _document(size=2, digest=str(Digest.of(b"a")), data="YQ=="),
        _document(size=1, digest=str(Digest.of(b"a")), data="?"),
        _document(size=1, digest=str(Digest.of(b"a")), data="\u00e9"),
        _document(size=1, digest=str(Digest.of(b"a")), data=7),
        _document(size="7"),
        _document(size=7.0),
        _document(size=True),
        _document(size=2**63),
        _document(platform="linux"),
        _document(platform=["linux"]),
    ],
)
def test_bad_descriptors_are_invalid_manifests(value: object) -> None:
    """Whatever is not a descriptor makes the manifest invalid, and the error says why."""
    with pytest.raises(ManifestInvalid) as caught:
        Descriptor.from_json(value)
    assert caught.value.reason


def test_descriptors_are_written_in_dockers_order() -> None:
    """Digests of converted manifests depend on the order of keys."""
    written = Descriptor("x/y", Digest.parse(DIGEST), 7).to_json()
    assert [*written.items()] == [("mediaType", "x/y"), ("size", 7), ("digest", DIGEST)]
