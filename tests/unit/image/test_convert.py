"""Conversions between a V1 chain and a manifest, byte for byte: ids that users know hang on every byte.

The vectors are those of two images, one with a file and one without, computed independently of this code.
"""

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dualreg.image import media_types
from dualreg.image.convert import (
    Converted,
    Link,
    V1Layer,
    chain_from_manifest,
    docker_to_oci,
    manifest_from_chain,
    read_image,
)
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.inflater import Compression
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.schema1 import schema1_from_image
from dualreg.image.v1_image import V1Image, chain_id, payload_hasher
from tests.builders import Image, descriptor, image, layer, relabelled

#: A ustar of one file, ``hello``, as a layer without compression.
LAYER_A = zlib.decompress(
    base64.b64decode(
        "eNrLSM3JyWegLTAAAjMTEzANBOg0SBaJDRI3MzczZ1AwYKADKC0uSSwCWskwMkEGKP65GEbBKBgFo2AUjDAAANXkEHA="
    )
)
DIFF_A = Digest("sha256", "3df56dd8f5269b656c3837099e2436d67c1a773a0725ecce8d464b2f0c674fae")
DIFF_EMPTY = Digest("sha256", "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")
ID_A, ID_B = "a" * 64, "b" * 64
JSON_A = (
    f'{{"id":"{ID_A}","created":"2014-01-01T00:00:00Z",'
    '"container_config":{"Cmd":["/bin/sh","-c","#(nop) ADD file:x in /"]},'
    '"docker_version":"1.0.0","architecture":"amd64","os":"linux"}'
).encode()
JSON_B = (
    f'{{"id":"{ID_B}","parent":"{ID_A}","created":"2014-01-02T00:00:00Z",'
    '"container_config":{"Cmd":["/bin/sh","-c","#(nop) CMD [/bin/sh]"]},'
    '"docker_version":"1.9.0","author":"me <me@x>","config":{"Cmd":["/bin/sh"]},'
    '"architecture":"amd64","os":"linux","Size":0}'
).encode()
CONFIG_WITHOUT_EMPTY = (
    rb'{"architecture":"amd64","author":"me \u003cme@x\u003e","config":{"Cmd":["/bin/sh"]},'
    rb'"container_config":{"Cmd":["/bin/sh","-c","#(nop) CMD [/bin/sh]"]},"created":"2014-01-02T00:00:00Z",'
    rb'"docker_version":"1.9.0","history":[{"created":"2014-01-01T00:00:00Z",'
    rb'"created_by":"/bin/sh -c #(nop) ADD file:x in /"},{"created":"2014-01-02T00:00:00Z",'
    rb'"author":"me \u003cme@x\u003e","created_by":"/bin/sh -c #(nop) CMD [/bin/sh]","empty_layer":true}],'
    rb'"os":"linux","rootfs":{"type":"layers","diff_ids":['
    rb'"sha256:3df56dd8f5269b656c3837099e2436d67c1a773a0725ecce8d464b2f0c674fae"]}}'
)

EMPTY = V1Layer(Digest.of(EMPTY_LAYER), len(EMPTY_LAYER), DIFF_EMPTY)
PLAIN = V1Layer(Digest.of(LAYER_A), len(LAYER_A), DIFF_A, Compression.NONE)
EMPTY_DESCRIPTOR = Descriptor(media_types.DOCKER_LAYER_GZIP, EMPTY.digest, EMPTY.size)
CHAIN = [Link(V1Image.parse(JSON_A), PLAIN), Link(V1Image.parse(JSON_B), EMPTY)]


def _vector(*, keep_empty: bool) -> Converted:
    return manifest_from_chain(CHAIN, keep_empty=keep_empty, media_type=media_types.DOCKER_MANIFEST)


def _link(**members: Any) -> Link:
    """Return a base image whose JSON has *members*, over the file layer as gzip."""
    document = {"id": ID_A, "os": "linux", "architecture": "amd64", **members}
    return Link(V1Image.parse(json.dumps(document).encode()), V1Layer(Digest.of(b"gz"), 2, DIFF_A))


def test_the_layer_of_the_vectors() -> None:
    """2048 bytes of tar with the diff id that the vectors are about."""
    assert (len(LAYER_A), Digest.of(LAYER_A)) == (2048, DIFF_A)


@pytest.mark.parametrize(
    ("document", "data", "checksum"),
    [
        (JSON_A, LAYER_A, "9cfeeda2860b7cad1ae514f1188cde60f3f8547ced189842c6bef492a69802dd"),
        (JSON_B, EMPTY_LAYER, "9dafc4ce22c6cae15074f4d96c9d0b65dfc5dbe1a8efe17fe61b000d224e611c"),
    ],
    ids=["A", "B"],
)
def test_payload_checksums_of_the_vectors(document: bytes, data: bytes, checksum: str) -> None:
    """The checksums that a V1 client would send for these images."""
    hasher = payload_hasher(document)
    hasher.update(data)
    assert hasher.digest() == Digest("sha256", checksum)


@pytest.mark.parametrize(
    ("keep_empty", "config", "manifest"),
    [
        pytest.param(
            True,
            (619, "e0b721c65846dfc72044eeb5cdb613394bc82eb1b256ff122180a0b71ec81334"),
            (725, "4d67b6194c82f1ef3abbf7204277a1a800886d53e45a61f14b1b2bb1add219a2"),
            id="all layers kept",
        ),
        pytest.param(
            False,
            (564, "1c3e5ad39ac2079345c89928da8fda32ad71dd59908529d27af4698bee4299ce"),
            (519, "204c211e7606fd47f22dabcf855a3091fbc7a132a4ea337f578511c0e184f83f"),
            id="empty layers left out",
        ),
    ],
)
def test_chain_to_schema2(config: tuple[int, str], manifest: tuple[int, str], *, keep_empty: bool) -> None:
    """The config and schema 2 manifest of the vector, by length and digest."""
    made = _vector(keep_empty=keep_empty)
    assert (len(made.config), Digest.of(made.config).hex) == config
    assert (len(made.payload), Digest.of(made.payload).hex) == manifest


def test_the_vectors_config_text() -> None:
    """The config, letter by letter: sorted keys, Go's escapes, one history entry an image."""
    assert _vector(keep_empty=False).config == CONFIG_WITHOUT_EMPTY


def test_chain_ids_of_the_vectors() -> None:
    """The chain id of both layers."""
    both = chain_id(str(DIFF_A), DIFF_EMPTY)
    assert both == "sha256:4e66e74896eb993f038ed6f1aa3a5c03391ea6a8823be20c7e283e7ab135cde2"


@pytest.mark.parametrize(
    ("keep_empty", "ids"),
    [
        (True, [DIFF_A.hex, "e0b721c65846dfc72044eeb5cdb613394bc82eb1b256ff122180a0b71ec81334"]),
        (False, ["1c3e5ad39ac2079345c89928da8fda32ad71dd59908529d27af4698bee4299ce"]),
    ],
)
def test_schema2_to_chain(ids: list[str], *, keep_empty: bool) -> None:
    """The ids that Docker 1.10 would give the vector's manifests in a V1 push, and their JSON."""
    made = _vector(keep_empty=keep_empty)
    chain = chain_from_manifest(parse(made.media_type, made.payload), made.config, EMPTY_DESCRIPTOR)
    assert chain is not None
    assert [link.image.id for link in chain] == ids
    parent = f'"parent":"{ids[0]}"' if len(ids) > 1 else ""
    assert (
        chain[-1].image.json
        == (
            r'{"architecture":"amd64","author":"me \u003cme@x\u003e","config":{"Cmd":["/bin/sh"]},'
            r'"container_config":{"Cmd":["/bin/sh","-c","#(nop) CMD [/bin/sh]"]},'
            rf'"created":"2014-01-02T00:00:00Z","docker_version":"1.9.0","id":"{ids[-1]}","os":"linux"'
            rf"{',' * bool(parent)}{parent}}}"
        ).encode()
    )
    if keep_empty:
        assert chain[0].image.json == f'{{"id":"{ids[0]}"}}'.encode()
    for link in chain:
        assert V1Image.parse(link.image.json) == link.image


@pytest.mark.parametrize(
    ("compressions", "media_type", "layer_types"),
    [
        ([Compression.GZIP], media_types.DOCKER_MANIFEST, [media_types.DOCKER_LAYER_GZIP]),
        ([Compression.NONE], media_types.OCI_MANIFEST, [media_types.OCI_LAYER]),
        (
            [Compression.GZIP, Compression.NONE],
            media_types.OCI_MANIFEST,
            [media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER],
        ),
    ],
)
def test_the_manifests_type_follows_the_layers(
    compressions: list[Compression], media_type: str, layer_types: list[str]
) -> None:
    """All gzip makes schema 2; a plain tar among them makes OCI, whose type for it is read more widely."""
    chain = [
        Link(CHAIN[0].image, V1Layer(Digest.of(bytes([n])), 1, DIFF_A, compression))
        for n, compression in enumerate(compressions)
    ]
    made = manifest_from_chain(chain)
    manifest = parse(made.media_type, made.payload)
    config, *layers = [child.descriptor for child in manifest.children]
    oci = media_type == media_types.OCI_MANIFEST
    assert (manifest.media_type, [entry.media_type for entry in layers]) == (media_type, layer_types)
    assert config.media_type == (media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG)
    assert (config.digest, config.size) == (Digest.of(made.config), len(made.config))
    assert [entry.digest for entry in layers] == [link.layer.digest for link in chain]


def test_an_image_of_empty_layers_keeps_one() -> None:
    """Tools dislike images without layers, so the base's empty one stays."""
    chain = [Link(CHAIN[0].image, EMPTY), Link(CHAIN[1].image, EMPTY)]
    made = manifest_from_chain(chain)
    config = json.loads(made.config)
    assert config["rootfs"]["diff_ids"] == [str(DIFF_EMPTY)]
    assert [entry.get("empty_layer") for entry in config["history"]] == [None, True]
    assert len(json.loads(made.payload)["layers"]) == 1


def test_a_layer_used_twice_is_listed_twice() -> None:
    """The manifest follows the chain, not the set of its blobs."""
    made = manifest_from_chain([_link(), _link(parent=ID_B)])
    assert len(json.loads(made.payload)["layers"]) == 2
    assert json.loads(made.config)["rootfs"]["diff_ids"] == [str(DIFF_A)] * 2


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, {"architecture": "amd64", "os": "linux"}),
        ({"architecture": "x86_64", "os": ""}, {"architecture": "amd64", "os": "linux"}),
        ({"architecture": "aarch64"}, {"architecture": "arm64", "os": "linux"}),
        ({"architecture": "i686"}, {"architecture": "386", "os": "linux"}),
        ({"architecture": "s390x"}, {"architecture": "s390x", "os": "linux"}),
        ({"architecture": None, "os": None}, {"architecture": "amd64", "os": "linux"}),
        ({"architecture": ["amd64"]}, {"architecture": "amd64", "os": "linux"}),
        ({"os": "windows"}, {"architecture": "amd64", "os": "windows"}),
    ],
)
def test_platforms_are_put_right(members: dict[str, Any], expected: dict[str, str]) -> None:
    """A config must name architecture and system, the way Go spells them."""
    config = json.loads(manifest_from_chain([_link(**members)]).config)
    assert {key: config[key] for key in expected} == expected


def test_members_about_the_chain_do_not_reach_the_config() -> None:
    """What the manifest says instead is dropped; everything else is kept, nested order too."""
    config = json.loads(
        manifest_from_chain(
            [_link(Size=1, parent=ID_B, parent_id="x", layer_id="y", throwaway=True, zeta={"b": 1, "a": 2})]
        ).config
    )
    assert {*config} == {"architecture", "os", "history", "rootfs", "zeta"}
    assert [*config["zeta"]] == ["b", "a"]


@pytest.mark.parametrize("name", ["ROOTFS", "History", "size", "Throwaway"])
def test_members_in_another_case_do_not_reach_the_config(name: str) -> None:
    """Beside those that the conversion writes, they would make it ambiguous."""
    link = Link(V1Image.parse(json.dumps({"id": ID_A, "x": 1, name: "evil"}).encode()), PLAIN)
    config = parse_object(manifest_from_chain([link]).config)
    assert config.keys() == {"architecture", "history", "os", "rootfs", "x"}


def test_what_daemons_read_in_another_case_is_read() -> None:
    """A config says of the platform what the daemon that made the image took it to be."""
    members = {
        "id": ID_A,
        "o\u017f": "windows",
        "ARCHITECTURE": "aarch64",
        "Created": "never",
        "Author": "me",
    }
    link = Link(V1Image.parse(json.dumps(members).encode()), PLAIN)
    config = parse_object(manifest_from_chain([link]).config)
    assert (config["os"], config["architecture"], config["author"]) == ("windows", "arm64", "me")
    assert config["history"] == [{"author": "me"}]
    assert config.keys() == {"architecture", "author", "history", "os", "rootfs"}


@pytest.mark.parametrize("name", ["RootFS", "OS", "History"])
def test_configs_are_read_as_daemons_read_them(name: str) -> None:
    """A member in another case is that member to every client in Go, so it is here."""
    made = image(layer({"a": b"1"}))
    config = json.loads(made.config)
    config[name] = config.pop(name.lower())
    renamed = json.dumps(config).encode()
    read = read_image(parse(made.media_type, made.manifest), renamed)
    assert read is not None
    assert read.document == json.loads(made.config)


def test_a_config_with_two_lists_of_diff_ids_is_no_image() -> None:
    """Each program would read another one."""
    made = image(layer({"a": b"1"}))
    config = json.loads(made.config)
    config["rootfs"]["Diff_IDs"] = [str(DIFF_A)]
    assert read_image(parse(made.media_type, made.manifest), json.dumps(config).encode()) is None


@pytest.mark.parametrize("name", ["ID", "Id", "Parent", "PARENT"])
def test_nor_do_they_reach_what_v1_clients_get(name: str) -> None:
    """The ids are those of the conversion, however Go reads them."""
    made = image(layer({"a": b"1"}), layer({"b": b"2"}), **{name: "evil"})
    chain = _chain_of(made)
    assert chain is not None
    payload = schema1_from_image(
        parse(made.media_type, made.manifest), made.config, RepositoryName("a"), Tag("b")
    )
    texts = [entry["v1Compatibility"] for entry in json.loads(payload or b"{}")["history"]]
    for text in (chain[-1].image.json, texts[0].encode()):
        assert "evil" not in parse_object(text).values()


#: Times as daemons wrote them, and what Go also reads.
TIMES = ("2013-06-13T14:03:50.821769-07:00", "0001-01-01T00:00:00Z", "0000-02-29T23:59:59+23:59", None)
_NOON = "2014-01-01T12:00:00Z"
#: What no client of today can read, where a time is expected.
NO_TIMES = (
    "", "now", 5, [], "2014-01-01", "2014-01-01 12:00:00Z", "2014-01-01T12:00:00", "2014-01-01t12:00:00z",
    "2014-02-30T12:00:00Z", "2014-01-01T24:00:00Z", "2014-01-01T12:00:60Z", "2014-01-01T12:00:00,5Z",
    "2014-01-01T12:00:00+24:00", "2014-01-01T12:00:00+0100", "14-01-01T12:00:00Z", "2014-01-01T1:00:00Z",
    "\u0662014-01-01T12:00:00Z", "2014-01-01T12:00:00Z\n",
)  # fmt: skip


@pytest.mark.parametrize("created", [*TIMES, *NO_TIMES])
def test_times_that_are_none_are_left_out(created: object) -> None:
    """Clients refuse an image for them; every other stays as it is written."""
    config = json.loads(manifest_from_chain([_link(created=created)]).config)
    kept = {"created": created} if created in TIMES else {}
    assert {key: config[key] for key in ("created",) if key in config} == kept
    assert config["history"] == [kept if created else {}]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ({"Cmd": "sh -c x", "Entrypoint": "e"}, {"Cmd": ["sh -c x"], "Entrypoint": ["e"]}),
        ({"Z": 1, "Cmd": "", "A": 2}, {"Z": 1, "Cmd": [""], "A": 2}),
        ({"Cmd": ["a"], "Entrypoint": None}, {"Cmd": ["a"], "Entrypoint": None}),
        (None, None),
        ("text", "text"),
    ],
)
def test_commands_that_are_texts_become_lists(inner: object, expected: object) -> None:
    """As the daemons of the time took them; the order of all members stays."""
    config = json.loads(manifest_from_chain([_link(config=inner)]).config)["config"]
    assert (config, list(config or ())) == (expected, list(expected or ()))  # type: ignore[call-overload]  # any


@pytest.mark.parametrize(
    ("members", "entry"),
    [
        ({}, {}),
        ({"created": "", "author": "", "comment": ""}, {}),
        ({"created": 7, "author": None, "comment": []}, {}),
        (
            {"comment": "c", "author": "a", "created": _NOON},
            {"created": _NOON, "author": "a", "comment": "c"},
        ),
        ({"created": "yesterday"}, {}),
        ({"container_config": {"Cmd": ["a", "b c"]}}, {"created_by": "a b c"}),
        ({"container_config": {"Cmd": ["a", 7, None, "b"]}}, {"created_by": "a b"}),
        ({"container_config": {"Cmd": "a b"}}, {"created_by": "a b"}),
        ({"container_config": {"Cmd": None}}, {}),
        ({"container_config": {"Cmd": []}}, {}),
        ({"container_config": {"Cmd": {"a": "b"}}}, {}),
        ({"container_config": None}, {}),
        ({"container_config": "text"}, {}),
        ({"config": {"Cmd": ["other"]}}, {}),
    ],
)
def test_history(members: dict[str, Any], entry: dict[str, str]) -> None:
    """An image's entry has what the image says as text; empty and odd members are left out."""
    config = json.loads(manifest_from_chain([_link(**members)]).config)
    assert config["history"] == [entry]
    assert [*config["history"][0]] == [
        key for key in ("created", "author", "created_by", "comment") if key in entry
    ]


def _chain_of(made: Image, config: bytes | None = None) -> tuple[Link, ...] | None:
    return chain_from_manifest(parse(made.media_type, made.manifest), config or made.config, EMPTY_DESCRIPTOR)


@pytest.mark.parametrize("oci", [False, True], ids=["schema2", "oci"])
def test_an_images_chain_has_its_layers_in_order(*, oci: bool) -> None:
    """Below the top, ids are chain ids and the JSON says nothing but the place; the top is the config."""
    layers = [layer({"a": b"1"}), layer({"b": b"2"}), layer({"a": b"1"})]
    made = image(*layers, oci=oci)
    diff_ids = [Digest.parse(each) for each in json.loads(made.config)["rootfs"]["diff_ids"]]
    chain = _chain_of(made)
    assert chain is not None
    first = chain_id(None, diff_ids[0])
    second = chain_id(first, diff_ids[1])
    below = [text.removeprefix("sha256:") for text in (first, second)]
    assert [link.image.id for link in chain] == [*below, Digest.of(made.config).hex]
    assert [link.image.parent for link in chain] == [None, *below]
    assert [(link.layer.digest, link.layer.size) for link in chain] == [
        (Digest.of(data), len(data)) for data in layers
    ]
    assert [link.layer.diff_id for link in chain] == diff_ids
    assert chain[1].image.json == f'{{"id":"{below[1]}","parent":"{below[0]}"}}'.encode()
    top = json.loads(chain[2].image.json)
    assert {"rootfs", "history"}.isdisjoint(top)
    assert [*top] == sorted(top)


def test_an_image_without_layers_is_one_empty_v1_image() -> None:
    """V1 knows no image without a layer: it gets the well-known empty one."""
    made = image()
    chain = _chain_of(made)
    assert chain is not None
    ((only),) = chain
    assert only.layer == EMPTY
    assert (only.image.id, only.image.parent) == (Digest.of(made.config).hex, None)


def test_a_config_under_sha512_makes_an_id_of_64_digits() -> None:
    """V1 ids have 64 digits, whichever algorithm addressed the config."""
    made = image(layer({"a": b"1"}))
    document = json.loads(made.manifest)
    digest = Digest.of(made.config, "sha512")
    document["config"]["digest"] = str(digest)
    chain = chain_from_manifest(
        parse(made.media_type, json.dumps(document).encode()), made.config, EMPTY_DESCRIPTOR
    )
    assert chain is not None
    assert chain[-1].image.id == digest.hex[:64]


def _retyped(media_type: str) -> Callable[[Image], Image]:
    """Return a change of the media type of an image's first layer."""

    def change(made: Image) -> Image:
        document = json.loads(made.manifest)
        document["layers"][0]["mediaType"] = media_type
        return replace(made, manifest=json.dumps(document).encode())

    return change


#: What configs of Docker schema 2 were called, and whether that can be an image.
LABELS = {
    media_types.DOCKER_CONFIG: True,
    media_types.OCTET_STREAM: True,  # Docker 1.10
    None: True,  # Docker 1.11, on a second tag
    "": True,
    "text/html": True,  # by way of a proxy
    "application/vnd.cncf.helm.config.v1+json": True,
    media_types.DOCKER_PLUGIN_CONFIG: False,
}


@pytest.mark.parametrize(("label", "is_image"), LABELS.items())
def test_a_config_is_judged_by_its_content(label: str | None, *, is_image: bool) -> None:
    """Docker schema 2 is an image if its config lists the layers' diff IDs, whatever that is called."""
    made = image(layer({"a": b"1"}))
    chain = _chain_of(relabelled(made, label))
    assert chain == (_chain_of(made) if is_image else None)
    other = b'{"architecture":"amd64"}'
    assert _chain_of(relabelled(made, label), other) is None
    bare = relabelled(image(), label)
    assert _chain_of(bare, b"{}") is None


@pytest.mark.parametrize("label", [*LABELS, "application/vnd.oci.empty.v1+json"])
def test_the_config_of_an_oci_manifest_is_judged_by_its_type(label: str | None) -> None:
    """It tells artifacts from images there, whatever the content."""
    chain = _chain_of(relabelled(image(layer({"a": b"1"}), oci=True), label))
    assert (chain is not None) is (label in media_types.IMAGE_CONFIGS)


@pytest.mark.parametrize("label", LABELS)
def test_a_layouts_config_has_the_type_that_oci_clients_look_for(label: str | None) -> None:
    """A vague one becomes that of an image; one that names something else stays."""
    converted = json.loads(docker_to_oci(relabelled(image(layer({"a": b"1"})), label).manifest, {}))
    vague = not label or label in media_types.VAGUE_CONFIGS or label in media_types.IMAGE_CONFIGS
    assert converted["config"]["mediaType"] == (media_types.OCI_CONFIG if vague else label)


@pytest.mark.parametrize(
    ("change", "config"),
    [
        (_retyped(media_types.DOCKER_LAYER_FOREIGN), {}),
        (_retyped("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), {}),
        (_retyped("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), {}),
        (None, {"os": "windows"}),
        (None, {"os": 7}),
        (None, {"rootfs": {"type": "layers", "diff_ids": []}}),
        (None, {"rootfs": {"type": "layers"}}),
        (None, {"rootfs": None}),
        (None, {"rootfs": []}),
        (None, {"rootfs": {"diff_ids": ["x"]}}),
        (None, {"rootfs": {"diff_ids": [7]}}),
        (None, {"rootfs": {"diff_ids": 7}}),
        (None, {"rootfs": {"diff_ids": [str(DIFF_A)] * 2}}),
    ],
)
def test_what_v1_clients_cannot_use_has_no_chain(
    change: Callable[[Image], Image] | None, config: dict[str, Any]
) -> None:
    """Artifacts, foreign and encrypted layers, other systems, configs that do not fit their layers."""
    made = image(layer({"a": b"1"}), **config)
    assert _chain_of(change(made) if change else made) is None


@pytest.mark.parametrize("config", [b"", b"[]", b"null", b"\xff", b'{"os":"linux","os":"linux"}'])
def test_a_config_that_is_no_object_has_no_chain(config: bytes) -> None:
    """Bytes that call themselves a config but are none are left to V2 clients."""
    config_descriptor = descriptor(media_types.DOCKER_CONFIG, config)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST,
        "config": config_descriptor,
        "layers": [],
    }
    manifest = parse("", json.dumps(document).encode())
    assert chain_from_manifest(manifest, config, EMPTY_DESCRIPTOR) is None


def test_conversions_repeat_themselves() -> None:
    """There and back and there again: the same chain always gives the same bytes."""
    once, again = manifest_from_chain(CHAIN), manifest_from_chain(list(CHAIN))
    assert once == again
    made = image(layer({"a": b"1"}), layer({"b": b"2"}))
    assert _chain_of(made) == _chain_of(made)


def test_sixteen_digit_ids_convert() -> None:
    """The ids of the very first images are no obstacle: a config does not name them."""
    link = Link(V1Image(ImageId("0123456789abcdef"), None, b'{"id":"0123456789abcdef"}'), EMPTY)
    config = json.loads(manifest_from_chain([link]).config)
    assert "id" not in config
