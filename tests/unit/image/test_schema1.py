"""Schema 1 and what it is made of.

The vectors are those of images that were computed independently of this code.
"""

import json

import pytest

from dualreg.errors import ManifestInvalid
from dualreg.image import media_types
from dualreg.image.convert import Link, V1Layer, manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role
from dualreg.image.formats.schema1 import contents
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.schema1 import chain_from_schema1, schema1_from_chain, schema1_from_image
from dualreg.image.v1_image import V1Image
from tests import builders
from tests.builders import descriptor
from tests.unit.image.test_convert import DIFF_A, LAYER_A

NAME, TAG = RepositoryName("a/b"), Tag("one")
STEP_A, STEP_B = "/bin/sh -c #(nop) ADD file:x in /", "/bin/sh -c #(nop) CMD [/bin/sh]"


def _config(*, keep: bool) -> bytes:
    """Return the config of two steps, the second of which changes no file, as Docker writes it."""
    diff_ids = [str(DIFF_A), *([str(Digest.of(bytes(1024)))] if keep else [])]
    step_b = {"created": "2014-01-02T00:00:00Z", "author": "me <me@x>", "created_by": STEP_B}
    document = {
        "architecture": "amd64",
        "author": "me <me@x>",
        "config": {"Cmd": ["/bin/sh"]},
        "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) CMD [/bin/sh]"]},
        "created": "2014-01-02T00:00:00Z",
        "docker_version": "1.9.0",
        "history": [
            {"created": "2014-01-01T00:00:00Z", "created_by": STEP_A},
            step_b if keep else step_b | {"empty_layer": True},
        ],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    text = json.dumps(document, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").encode()


def _payload(*, keep: bool, layer_type: str = media_types.DOCKER_LAYER) -> dict[str, object] | None:
    config = _config(keep=keep)
    layers = [descriptor(layer_type, LAYER_A)]
    if keep:
        layers.append(descriptor(media_types.DOCKER_LAYER_GZIP, EMPTY_LAYER))
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST,
        "config": descriptor(media_types.DOCKER_CONFIG, config),
        "layers": layers,
    }
    manifest = parse("", json.dumps(document).encode())
    payload = schema1_from_image(manifest, config, NAME, TAG)
    return payload and json.loads(payload)  # type: ignore[no-any-return]


#: Of the image with and without its blank layer: the config's digest, and the id on top.
CONFIGS = {
    True: "e0b721c65846dfc72044eeb5cdb613394bc82eb1b256ff122180a0b71ec81334",
    False: "1c3e5ad39ac2079345c89928da8fda32ad71dd59908529d27af4698bee4299ce",
}
TOPS = {
    True: "2d212911a2200cc294f96f214683b4ce58c2241d2233fa5e7efc4d6c5f2d4e3b",
    False: "30aa27878cf96b0889207fb269c69ddc0bfb4c583a45fc300894d1deb6d36916",
}


@pytest.mark.parametrize("keep", [True, False])
def test_ids_are_the_reference_registrys(*, keep: bool) -> None:
    """The ids of a newer image as schema 1 hang on layers, order and config, as distribution made them."""
    assert Digest.of(_config(keep=keep)).hex == CONFIGS[keep]
    payload = _payload(keep=keep)
    assert payload is not None
    history = [json.loads(entry["v1Compatibility"]) for entry in payload["history"]]  # type: ignore[attr-defined]
    base = "f2bdad0e808128f49d4d761c595f3a34e9d4b9d387fa575ee423911e229d97d3"
    assert [entry["id"] for entry in history] == [TOPS[keep], base]
    assert [entry.get("parent") for entry in history] == [base, None]
    assert history[0].get("throwaway", False) is not keep
    assert (payload["name"], payload["tag"], payload["architecture"]) == (NAME, TAG, "amd64")
    sums = [entry["blobSum"] for entry in payload["fsLayers"]]  # type: ignore[attr-defined]
    assert sums == [str(Digest.of(EMPTY_LAYER)), str(Digest.of(LAYER_A))]


@pytest.mark.parametrize("layer_type", [media_types.OCI_LAYER + "+zstd", media_types.DOCKER_LAYER_FOREIGN])
def test_what_schema_1_cannot_express(layer_type: str) -> None:
    """No Docker of that time unpacks zstd or follows URLs."""
    assert _payload(keep=False, layer_type=layer_type) is None


#: Histories that a config may have, and how many steps of schema 1 they make over one layer.
HISTORIES = {
    "none": (None, 1),
    "empty": ([], 1),
    "no list": ({"created_by": "x"}, 1),
    "no entries": (["x"], 1),
    "too short": ([{"empty_layer": True}], 1),
    "too long": ([{}, {}], 1),
    "one": ([{"created_by": "x"}], 1),
    "with an empty layer": ([{"created_by": "x"}, {"empty_layer": True}], 2),
}


@pytest.mark.parametrize(("history", "steps"), HISTORIES.values(), ids=HISTORIES)
@pytest.mark.parametrize("layers", [0, 1])
def test_an_image_needs_no_history(layers: int, history: object, steps: int) -> None:
    """One that is missing or does not fit the layers is left out: V1 shows such an image too."""
    data = [builders.layer({"a": b"1"})] * layers
    made = builders.image(*data, history=history)
    payload = schema1_from_image(parse(made.media_type, made.manifest), made.config, NAME, TAG)
    assert payload is not None
    document = json.loads(payload)
    chain = chain_from_schema1(
        payload,
        {
            Digest.of(blob): V1Layer(Digest.of(blob), len(blob), Digest.of(blob))
            for blob in (*data, EMPTY_LAYER)
        },
    )
    assert chain is not None
    assert len(chain) == len(document["history"]) == (steps if layers else 1)
    assert [link.layer.digest for link in chain][:1] == [Digest.of(data[0] if data else EMPTY_LAYER)]
    assert json.loads(chain[-1].image.json)["config"] == {"Cmd": ["/bin/sh"]}


def _chain(*ids: str) -> list[Link]:
    links: list[Link] = []
    for image in map(ImageId, ids):
        parent = links[-1].image.id if links else None
        document = {"id": image, "created": "2014-01-01T00:00:00Z", "architecture": "arm"}
        text = json.dumps(document | ({"parent": parent} if parent else {})).encode() + b"\n"
        layer = V1Layer(Digest.of(text), 10, DIFF_A)
        links.append(Link(V1Image(image, parent, text), layer))
    return links


def test_a_chain_keeps_its_ids_and_jsons() -> None:
    """There and back, a V1 chain is the same byte for byte, the newline of its JSONs included."""
    chain = _chain("a" * 64, "b" * 64, "c" * 64)
    payload = schema1_from_chain(chain, NAME, TAG)
    document = json.loads(payload)
    assert [entry["v1Compatibility"].encode() for entry in reversed(document["history"])] == [
        link.image.json for link in chain
    ]
    assert (document["architecture"], document["schemaVersion"]) == ("arm", 1)
    assert payload.startswith(b'{\n   "schemaVersion": 1,\n   "name": "a/b",\n   "tag": "one",\n')
    layers = {link.layer.digest: link.layer for link in chain}
    assert chain_from_schema1(payload, layers) == tuple(chain)
    assert contents(document).named == (NAME, TAG)
    assert [child.role for child in contents(document).children] == [Role.LAYER] * 3


def test_a_parent_in_another_case_is_none() -> None:
    """The order of the list counts, whatever a JSON calls it."""
    chain = _chain("a" * 64, "b" * 64)
    texts = [link.image.json.decode().replace('"parent"', '"Parent"') for link in chain]
    texts[0] = texts[0].replace("{", '{"PARENT": "x", ', 1)
    document = json.loads(schema1_from_chain(chain, NAME, TAG))
    document["history"] = [{"v1Compatibility": text} for text in reversed(texts)]
    layers = {link.layer.digest: link.layer for link in chain}
    read = chain_from_schema1(json.dumps(document).encode(), layers)
    assert read is not None
    parents = [
        {key: value for key, value in parse_object(link.image.json).items() if key.lower() == "parent"}
        for link in read
    ]
    assert parents == [{}, {"parent": "a" * 64}]
    assert [link.image.parent for link in read] == [None, "a" * 64]
    assert parse_object(manifest_from_chain(read).config)


def test_ids_of_the_first_images_are_lengthened() -> None:
    """Clients of schema 1 take 64 digits only: the whole chain goes on to agree with itself."""
    payload = schema1_from_chain(_chain("27cf784147099545", "b" * 64), NAME, TAG)
    top, base = (json.loads(entry["v1Compatibility"]) for entry in json.loads(payload)["history"])
    assert base["id"] == top["parent"] == Digest.of(b"27cf784147099545").hex
    assert top["id"] == "b" * 64


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("aab", "ab"),  # Docker 1.6 wrote its top twice
        ("abb", "ab"),
        ("aba", None),
        ("a", "a"),
    ],
)
def test_chains_are_read_by_the_order_of_the_list(ids: str, expected: str | None) -> None:
    """Wrong parents are corrected, a repeated image counts once, and a circle is no chain."""
    history = [
        {"v1Compatibility": json.dumps({"id": digit * 64, "parent": "f" * 64})} for digit in reversed(ids)
    ]
    digest = Digest.of(b"layer")
    layers = [{"blobSum": str(digest)} for _ in ids]
    payload = json.dumps({"schemaVersion": 1, "fsLayers": layers, "history": history}).encode()
    chain = chain_from_schema1(payload, {digest: V1Layer(digest, 5, DIFF_A)})
    if expected is None:
        assert chain is None
        return
    assert chain is not None
    assert [link.image.id[0] for link in chain] == [*expected]
    parents = [json.loads(link.image.json).get("parent") for link in chain]
    assert parents == [None, *(digit * 64 for digit in expected[:-1])]


BAD = {
    "schemaVersion 2": {"schemaVersion": 2},
    "no layers": {"fsLayers": []},
    "layers no list": {"fsLayers": {}},
    "more layers than history": {"history": []},
    "a layer without blobSum": {"fsLayers": [{}]},
    "a tarsum": {"fsLayers": [{"blobSum": "tarsum.v1+sha256:" + "a" * 64}]},
    "history no objects": {"history": ["x"]},
    "v1Compatibility no JSON": {"history": [{"v1Compatibility": "{"}]},
    "also an image": {"config": {}},
    "name no text": {"name": 7},
}


@pytest.mark.parametrize("fault", BAD)
def test_malformed_payloads_are_refused(fault: str) -> None:
    """Even a well signed payload must be a schema 1 manifest."""
    good = {
        "schemaVersion": 1,
        "name": NAME,
        "tag": TAG,
        "fsLayers": [{"blobSum": str(Digest.of(b""))}],
        "history": [{"v1Compatibility": "{}"}],
    }
    assert contents(good).children
    with pytest.raises(ManifestInvalid):
        contents(good | BAD[fault])
