"""Laws of the values: grammars, documents and layers, over whatever Hypothesis comes up with."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.errors import DigestInvalid, ImageIdInvalid, ManifestInvalid, NameInvalid, TagInvalid
from dualreg.image import media_types
from dualreg.image.digest import HEX_DIGITS, Digest
from dualreg.image.documents import dump, parse_object
from dualreg.image.formats import FORMATS
from dualreg.image.inflater import Compression
from dualreg.image.layer import DiffIdHasher, regzip
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag, parse_reference
from dualreg.image.v1_image import V1Image

_HEX = "0123456789abcdef"
_WORD = st.text("abcxyz059", min_size=1, max_size=8)
_SEPARATOR = st.sampled_from([".", "_", "__", "-", "--", "-----"])
_COMPONENT = st.builds(
    lambda first, rest: first + "".join(separator + word for separator, word in rest),
    _WORD,
    st.lists(st.tuples(_SEPARATOR, _WORD), max_size=3),
)
_NAME = st.lists(_COMPONENT, min_size=1, max_size=4).map("/".join).filter(lambda name: len(name) <= 255)
#: Texts that are nearly names: the letters of the grammars, and those that have fooled others.
_NEARLY = st.text("aZ0._-/:@ \n\0\u0661\u00e9%", max_size=12)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_OBJECT = st.dictionaries(st.text(max_size=8), _JSON, max_size=5)


@given(_NAME)
def test_names_of_the_grammar_are_names(text: str) -> None:
    """Whatever the specification's grammar produces is accepted unchanged."""
    assert RepositoryName.parse(text) == text


@given(_NEARLY | _NAME)
def test_names_are_what_a_reader_of_the_specification_accepts(text: str) -> None:
    """Our patterns agree with the grammar spelled out by hand, on texts that nearly are names."""

    def is_component(component: str) -> bool:
        words = component.replace("__", "_").replace(".", "_")
        while "--" in words:
            words = words.replace("--", "-")
        pieces = words.replace("-", "_").split("_")
        return "___" not in component and all(
            piece and set(piece) <= set("abcdefghijklmnopqrstuvwxyz0123456789") for piece in pieces
        )

    wanted = all(map(is_component, text.split("/")))
    try:
        accepted = RepositoryName.parse(text) == text
    except NameInvalid:
        accepted = False
    assert accepted is wanted


@given(st.text("aZ0._-", min_size=1, max_size=20) | _NEARLY)
def test_tags_are_what_a_reader_of_the_specification_accepts(text: str) -> None:
    """A tag's first character is a letter, digit or underscore, the others may be dots and dashes."""
    wanted = (
        0 < len(text) <= 128
        and text.isascii()
        and (text[0].isalnum() or text[0] == "_")
        and all(character.isalnum() or character in "._-" for character in text)
    )
    try:
        accepted = Tag.parse(text) == text
    except TagInvalid:
        accepted = False
    assert accepted is wanted


@given(st.sampled_from(sorted(HEX_DIGITS)), st.data())
def test_digests_round_trip(algorithm: str, data: st.DataObject) -> None:
    """Every digest of an offered algorithm reads as what it prints, and as a reference too."""
    digits = HEX_DIGITS[algorithm]
    text = f"{algorithm}:{data.draw(st.text(_HEX, min_size=digits, max_size=digits))}"
    assert str(Digest.parse(text)) == text
    assert parse_reference(text) == Digest.parse(text)


@pytest.mark.slow
@given(st.text())
def test_any_text_is_a_value_or_the_error_of_its_kind(text: str) -> None:
    """Parsers accept a text unchanged or refuse it with their own error; nothing else comes out."""
    parsers: list[tuple[Callable[[str], object], type[Exception]]] = [
        (RepositoryName.parse, NameInvalid),
        (Tag.parse, TagInvalid),
        (ImageId.parse, ImageIdInvalid),
        (Digest.parse, DigestInvalid),
    ]
    for parser, error in parsers:
        try:
            assert str(parser(text)) == text
        except error:
            continue


@pytest.mark.slow
@given(_OBJECT)
def test_documents_round_trip(document: dict[str, Any]) -> None:
    """What is written is read as what it was, unless its keys are ambiguous; Python's own reader agrees."""
    data = dump(document)
    assert json.loads(data) == document
    assert not {b"<", b">", b"&"} & {bytes([byte]) for byte in data}
    try:
        assert parse_object(data) == document
    except ValueError:
        assert len({key.casefold() for key in document}) < len(document)


@given(st.binary(max_size=60) | _OBJECT.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    """Nothing but ValueError comes out of the reader, and what it accepts can be written again."""
    try:
        document = parse_object(data)
    except ValueError:
        return
    assert parse_object(dump(document)) == document


_DESCRIPTOR = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": st.sampled_from([media_types.OCI_CONFIG, media_types.OCI_LAYER, "", None, 1]),
        "digest": st.sampled_from(["sha256:" + "a" * 64, "sha256:x", "", None, 1]),
        "size": st.sampled_from([0, 1, -1, 2**63, 1.5, True, "1", None]),
        "platform": _JSON,
        "data": st.sampled_from(["", "YQ==", "?", None, 1]),
        "annotations": _JSON,
    },
)
_PART = _DESCRIPTOR | _JSON
_MANIFEST = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.sampled_from([1, 2, "2", None]),
        "mediaType": st.sampled_from([*sorted(FORMATS), "", "x/y", None, 1]),
        "config": _PART,
        "layers": st.lists(_PART, max_size=2) | _JSON,
        "manifests": st.lists(_PART, max_size=2) | _JSON,
        "subject": _PART,
        "artifactType": _JSON,
        "annotations": _JSON,
        "fsLayers": _JSON,
    },
)


@pytest.mark.slow
@given(st.sampled_from([*sorted(FORMATS), "", "application/json", "x/y"]), _MANIFEST)
def test_any_document_is_a_manifest_or_invalid(media_type: str, document: dict[str, Any]) -> None:
    """Nothing but ManifestInvalid comes out of the parser, and what it accepts is kept byte for byte."""
    payload = json.dumps(document).encode()
    try:
        manifest = parse(media_type, payload)
    except ManifestInvalid:
        return
    assert (manifest.payload, manifest.digest) == (payload, Digest.of(payload))
    assert parse(manifest.media_type, payload) == manifest


@given(st.text(_HEX, min_size=64, max_size=64), st.none() | st.text(_HEX, min_size=64, max_size=64), _OBJECT)
def test_v1_images_round_trip(image: str, parent: str | None, members: dict[str, Any]) -> None:
    """Id and parent are read whatever else an image says, and its bytes stay."""
    folded = {key.casefold(): (key, value) for key, value in members.items()}
    others = dict(pair for key, pair in folded.items() if key not in {"id", "parent"})
    data = json.dumps(others | {"id": image, "parent": parent}).encode()
    assert V1Image.parse(data) == V1Image(ImageId(image), parent and ImageId(parent), data)


_COMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: bytes,
    Compression.GZIP: gzip.compress,
    Compression.BZIP2: bz2.compress,
    Compression.XZ: lambda data: lzma.compress(data, preset=0),
}


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("compression", _COMPRESS)
@given(
    members=st.lists(st.binary(max_size=200), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0), max_size=6),
)
def test_diff_ids_do_not_depend_on_pieces(
    compression: Compression, members: list[bytes], cuts: list[int]
) -> None:
    """However a layer is cut, whatever members it is made of, its diff id is that of what is inside."""
    inside = b"tar" + b"".join(members)
    compress = _COMPRESS[compression]
    layer = b"".join([compress(b"tar" + members[0]), *map(compress, members[1:])])
    hasher = DiffIdHasher()
    for piece in _cut(layer, cuts):
        hasher.update(piece)
    assert (hasher.digest(), hasher.compression) == (Digest.of(inside), compression)
    if compression in (Compression.BZIP2, Compression.XZ):
        assert b"".join(regzip(_cut(layer, cuts))) == b"".join(regzip([layer]))
