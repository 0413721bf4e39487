"""The grammars of names: what passes, what does not, and that nothing sneaks past the end of the line."""

import pytest

from dualreg.errors import DigestInvalid, ImageIdInvalid, NameInvalid, TagInvalid, UploadUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId, parse_reference


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "0",
        "busybox",
        "library/busybox",
        "a/b/c/d/e",
        "a.b_c__d-e---f",
        "foo---bar/x",
        "blobs/uploads",
        "manifests",
        "x/manifests/y",
        pytest.param("a" * 255, id="255 characters"),
        pytest.param("a/" * 127 + "a", id="255 characters of components"),
    ],
)
def test_repository_names(text: str) -> None:
    """Components of lower-case letters and digits, single separators inside, any number of dashes."""
    assert RepositoryName.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "A",
        "Library/busybox",
        "a..b",
        "a___b",
        "a._b",
        "a-.b",
        "_a",
        "a_",
        "-a",
        "a-",
        ".a",
        "a.",
        "..",
        "a/../b",
        "a b",
        "a:b",
        "a@b",
        "a\\b",
        "a\n",
        "\na",
        "a/b\n",
        "a\0",
        "caf\u00e9",
        "a\u0661",
        "\u0430",
        "a%2fb",
        pytest.param("a" * 256, id="256 characters"),
        pytest.param("a/" * 127 + "aa", id="256 characters of components"),
    ],
)
def test_bad_repository_names(text: str) -> None:
    """Everything outside the specification's grammar is refused, trailing newlines and Unicode digits too."""
    with pytest.raises(NameInvalid) as caught:
        RepositoryName.parse(text)
    assert caught.value.name == text[:255]


@pytest.mark.parametrize(
    "text", ["latest", "1", "_", "_x", "V1.0-rc_2", "A", "a...", pytest.param("t" * 128, id="128")]
)
def test_tags(text: str) -> None:
    """Letters, digits and underscore first; dots and dashes after; up to 128 characters."""
    assert Tag.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".x",
        "-x",
        "a/b",
        "a b",
        "a:b",
        "a+b",
        "a\n",
        "\n",
        "a\0",
        "..",
        "caf\u00e9",
        "v\u0661",
        pytest.param("t" * 129, id="129 characters"),
    ],
)
def test_bad_tags(text: str) -> None:
    """Everything outside the tag grammar is refused."""
    with pytest.raises(TagInvalid) as caught:
        Tag.parse(text)
    assert caught.value.tag == text


@pytest.mark.parametrize("text", ["0123456789abcdef", "0123456789abcdef" * 4])
def test_image_ids(text: str) -> None:
    """A V1 image id is 64 lower-case hex digits, or the 16 of the first images."""
    assert ImageId.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "a" * 15,
        "a" * 17,
        "a" * 32,
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "g" * 64,
        "a" * 64 + "\n",
        "a" * 63 + "\u0661",
        "../" + "a" * 61,
    ],
)
def test_bad_image_ids(text: str) -> None:
    """Any other length, case or digit is no image id."""
    with pytest.raises(ImageIdInvalid) as caught:
        ImageId.parse(text)
    assert caught.value.id == text


def test_new_upload_ids_are_distinct_and_parse() -> None:
    """An upload id that was made is one that is accepted, and never comes twice."""
    ids = {UploadId.new() for _ in range(100)}
    assert len(ids) == 100
    assert {UploadId.parse(str(upload)) for upload in ids} == ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "..",
        "../../../../etc/passwd",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8\n",
        "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
        "6ba7b8109dad11d180b400c04fd430c8",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c\u0661",
        "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
    ],
)
def test_bad_upload_ids(text: str) -> None:
    """A text that cannot be an upload's id is an unknown upload: no path passes."""
    with pytest.raises(UploadUnknown):
        UploadId.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latest", Tag("latest")),
        ("a" * 64, Tag("a" * 64)),
        ("sha256:" + "a" * 64, Digest("sha256", "a" * 64)),
        ("sha512:" + "b" * 128, Digest("sha512", "b" * 128)),
    ],
)
def test_a_colon_makes_a_reference_a_digest(text: str, expected: Tag | Digest) -> None:
    """A manifest URL ends with a digest if there is a colon, else with a tag."""
    found = parse_reference(text)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    ("text", "error"), [("sha256:abc", DigestInvalid), ("a:b", DigestInvalid), (".a", TagInvalid)]
)
def test_bad_references_fail_as_what_they_look_like(text: str, error: type[Exception]) -> None:
    """With a colon it is a bad digest, without one a bad tag."""
    with pytest.raises(error):
        parse_reference(text)
