"""Editions, byte for byte: digests that clients print and pull by depend on every byte.

The vectors were written down independently of the code, from the formats' specifications.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.errors import ImageUnreadable
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.editions import (
    Edition,
    Entry,
    Family,
    image_edition,
    images_only,
    index_edition,
    zstd_layers,
)
from dualreg.image.formats import Role
from dualreg.image.manifest import Manifest, parse
from tests import builders

CONFIG, BASE, TOP, SMALL = (Digest.of(text) for text in (b"config", b"base", b"top", b"small"))
CHUNKED = "io.github.containers.zstd-chunked.manifest-checksum"
#: The gzip edition of the layer TOP.
GZIPPED = {TOP: Descriptor(media_types.OCI_LAYER_GZIP, SMALL, 5)}


def named(media_type: str, digest: Digest, size: int, **members: Any) -> dict[str, Any]:
    """Return a descriptor as JSON."""
    return {"mediaType": media_type, "digest": str(digest), "size": size, **members}


def manifest(media_type: str, *layers: Mapping[str, Any], **members: Any) -> Manifest:
    """Return an image manifest with all members that tools write; *members* add to them or replace them."""
    oci = media_type == media_types.OCI_MANIFEST
    config = media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": named(config, CONFIG, 6, data="Y29uZmln"),
        "layers": list(layers),
        "annotations": {"org.opencontainers.image.base.name": "a < b"},
        "subject": named(media_type, SMALL, 7),
        **members,
    }
    return parse(media_type, json.dumps(document).encode())


OCI_IMAGE = manifest(
    media_types.OCI_MANIFEST,
    named(media_types.OCI_LAYER_GZIP, BASE, 4, annotations={"note": "kept"}),
    named(media_types.OCI_LAYER_ZSTD, TOP, 3, annotations={CHUNKED: "x", "note": "é"}, data="dG9w"),
    named(media_types.OCI_LAYER, BASE, 4),
)
DOCKER_IMAGE = manifest(
    media_types.DOCKER_MANIFEST,
    named(media_types.DOCKER_LAYER_FOREIGN, BASE, 4, urls=["https://example.com/base"]),
    named(media_types.DOCKER_LAYER_ZSTD, TOP, 3),
)
#: Of the OCI image.
SCHEMA2 = f"""{{
   "schemaVersion": 2,
   "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
   "config": {{
      "mediaType": "application/vnd.docker.container.image.v1+json",
      "size": 6,
      "digest": "{CONFIG}"
   }},
   "layers": [
      {{
         "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
         "size": 4,
         "digest": "{BASE}"
      }},
      {{
         "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
         "size": 5,
         "digest": "{SMALL}"
      }},
      {{
         "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
         "size": 4,
         "digest": "{BASE}"
      }}
   ]
}}"""
GZIP = (
    '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
    f'"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{CONFIG}",'
    '"size":6,"data":"Y29uZmln"},'
    f'"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{BASE}",'
    '"size":4,"annotations":{"note":"kept"}},'
    f'{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{SMALL}",'
    '"size":5,"annotations":{"note":"é"}},'
    f'{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{BASE}","size":4}}],'
    '"annotations":{"org.opencontainers.image.base.name":"a \\u003c b"}}'
)
#: Of the Docker image.
OCI = (
    '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
    f'"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{CONFIG}",'
    '"size":6,"data":"Y29uZmln"},'
    '"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",'
    f'"digest":"{BASE}","size":4,"urls":["https://example.com/base"]}},'
    f'{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{SMALL}","size":5}}],'
    '"annotations":{"org.opencontainers.image.base.name":"a \\u003c b"}}'
)


@pytest.mark.parametrize(
    ("image", "edition", "expected"),
    [
        (OCI_IMAGE, Edition.SCHEMA2, SCHEMA2),
        (OCI_IMAGE, Edition.GZIP, GZIP),
        (DOCKER_IMAGE, Edition.OCI, OCI),
    ],
    ids=str,
)
def test_an_edition_of_an_image(image: Manifest, edition: Edition, expected: str) -> None:
    """Config and layers are the same; what describes the zstd bytes goes, and so does the subject."""
    media_type, payload = image_edition(image, edition, GZIPPED)
    assert payload.decode() == expected
    made = parse(media_type, payload)
    assert made.described(Role.CONFIG)[0].digest == CONFIG
    assert (made.subject, zstd_layers(made)) == (None, ())


def test_the_digests_stay_the_same() -> None:
    """A release that changes one of these has to change the version of the rules."""
    made = [
        image_edition(OCI_IMAGE, Edition.SCHEMA2, GZIPPED),
        image_edition(OCI_IMAGE, Edition.GZIP, GZIPPED),
        image_edition(DOCKER_IMAGE, Edition.GZIP, GZIPPED),
        image_edition(DOCKER_IMAGE, Edition.OCI, GZIPPED),
        index_edition(media_types.OCI_INDEX, INDEX, Edition.SCHEMA2, ENTRIES),
        index_edition(media_types.OCI_INDEX, INDEX, Edition.GZIP, ENTRIES),
        index_edition(media_types.DOCKER_LIST, INDEX, Edition.OCI, ENTRIES),
    ]
    assert [Digest.of(payload).hex[:12] for _, payload in made] == [
        *("d334c7c19c00", "033c756ee4ae", "66fed01a1902", "c24ced1262a3"),
        *("68e96b88ab06", "aeb28519fd3a", "576d523f7ad0"),
    ]


PLATFORM = {"architecture": "arm", "os": "linux", "variant": "v7", "os.features": ["x"]}
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "manifests": [],
        "annotations": {"note": "of the index"},
        "subject": named(media_types.OCI_MANIFEST, SMALL, 7),
        "artifactType": "application/vnd.example",
    }
).encode()
ENTRIES = [
    Entry(
        named(media_types.OCI_MANIFEST, TOP, 3, platform=PLATFORM, annotations={"a": "b"}, data="dG9w"),
        media_types.DOCKER_MANIFEST,
        BASE,
        4,
    ),
]


@pytest.mark.parametrize(
    ("source", "edition", "media_type", "members"),
    [
        (media_types.OCI_INDEX, Edition.SCHEMA2, media_types.DOCKER_LIST, {}),
        (media_types.DOCKER_LIST, Edition.OCI, media_types.OCI_INDEX, {"annotations"}),
        (media_types.OCI_INDEX, Edition.GZIP, media_types.OCI_INDEX, {"annotations", "artifactType"}),
    ],
)
def test_an_edition_of_an_index(source: str, edition: Edition, media_type: str, members: set[str]) -> None:
    """It lists what it is given for the entries, with their platforms; Docker knows no annotations."""
    made, payload = index_edition(source, INDEX, edition, ENTRIES)
    document = json.loads(payload)
    kept = {} if edition is Edition.SCHEMA2 else {"annotations": {"a": "b"}}
    entry = named(media_types.DOCKER_MANIFEST, BASE, 4, platform=PLATFORM, **kept)
    assert (made, document["manifests"]) == (media_type, [entry])
    assert document.keys() - {"schemaVersion", "manifests", "mediaType"} == {*members}
    assert edition is Edition.GZIP or document["mediaType"] == media_type


FOREIGN_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
UNREADABLE = {
    "encrypted": (
        manifest(media_types.OCI_MANIFEST, named(f"{media_types.OCI_LAYER_GZIP}+encrypted", BASE, 4)),
        "its layers are encrypted: application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    ),
    "foreign zstd": (
        manifest(
            media_types.OCI_MANIFEST,
            named(FOREIGN_ZSTD, BASE, 4),
        ),
        f"it has foreign layers that only newer clients read: {FOREIGN_ZSTD}",
    ),
    "other layers": (
        manifest(media_types.OCI_MANIFEST, named("application/vnd.in-toto+json", BASE, 4)),
        "it has layers of another type than tar: application/vnd.in-toto+json",
    ),
    "artifact": (
        manifest(media_types.OCI_MANIFEST, config=named("application/vnd.cncf.helm.config.v1+json", BASE, 4)),
        "it is an artifact, not an image: application/vnd.cncf.helm.config.v1+json",
    ),
    "plugin": (
        manifest(media_types.DOCKER_MANIFEST, config=named(media_types.DOCKER_PLUGIN_CONFIG, BASE, 4)),
        "it is an artifact, not an image: application/vnd.docker.plugin.v1+json",
    ),
}


@pytest.mark.parametrize("fault", UNREADABLE)
@pytest.mark.parametrize("edition", Edition)
def test_what_has_no_edition_says_why(fault: str, edition: Edition) -> None:
    """The reason names the media type in the way."""
    image, reason = UNREADABLE[fault]
    with pytest.raises(ImageUnreadable) as caught:
        image_edition(image, edition, {})
    assert caught.value.reason == reason


@pytest.mark.parametrize("layers", [None, []])
def test_an_image_without_layers(layers: object) -> None:
    """Programs in Go write null."""
    image = manifest(media_types.OCI_MANIFEST, layers=layers)
    _, payload = image_edition(image, Edition.SCHEMA2, {})
    assert json.loads(payload)["layers"] == []


@pytest.mark.parametrize("config_type", ["", media_types.OCTET_STREAM, None])
def test_vague_configs_of_docker_become_configs_of_images(config_type: str | None) -> None:
    """Docker 1.10 and 1.11 push such; OCI tells images from artifacts by that type."""
    image = builders.relabelled(builders.image(builders.layer({"a": b"b"})), config_type)
    _, payload = image_edition(parse(image.media_type, image.manifest), Edition.OCI, {})
    assert json.loads(payload)["config"]["mediaType"] == media_types.OCI_CONFIG


def test_which_entries_are_images() -> None:
    """Attestations, artifacts and blobs of build caches are none; nested indexes may list some."""
    of_image = named(media_types.OCI_MANIFEST, BASE, 4, platform={"os": "linux", "architecture": "amd64"})
    bare, nested = named(media_types.DOCKER_MANIFEST, BASE, 4), named(media_types.DOCKER_LIST, TOP, 3)
    marked = {"vnd.docker.reference.type": "attestation-manifest"}
    others = [
        named(media_types.OCI_MANIFEST, TOP, 3, annotations=marked),
        named(media_types.OCI_MANIFEST, TOP, 3, platform={"os": "unknown", "architecture": "unknown"}),
        named(media_types.OCI_LAYER_GZIP, TOP, 3),
        named("application/vnd.buildkit.cacheconfig.v0", TOP, 3),
    ]
    assert images_only([of_image, *others, bare, nested]) == [of_image, bare, nested]


@pytest.mark.parametrize("annotations", ["text", 1, ["a"], None])
def test_annotations_of_descriptors_may_be_anything(annotations: object) -> None:
    """No push is refused for them."""
    entry = named(media_types.OCI_MANIFEST, BASE, 4, annotations=annotations)
    assert images_only([entry]) == [entry]
    layer = named(media_types.OCI_LAYER_ZSTD, TOP, 3, annotations=annotations)
    _, payload = image_edition(manifest(media_types.OCI_MANIFEST, layer), Edition.GZIP, GZIPPED)
    assert json.loads(payload)["layers"] == [named(media_types.OCI_LAYER_GZIP, SMALL, 5)]


_TYPES = {
    media_types.OCI_MANIFEST: (media_types.OCI_LAYER, media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER_ZSTD),
    media_types.DOCKER_MANIFEST: (
        *(media_types.DOCKER_LAYER, media_types.DOCKER_LAYER_GZIP),
        *(media_types.DOCKER_LAYER_ZSTD, media_types.DOCKER_LAYER_FOREIGN),
    ),
}
_IMAGES = st.sampled_from(sorted(_TYPES)).flatmap(
    lambda media_type: st.lists(
        st.tuples(st.sampled_from(_TYPES[media_type]), st.sampled_from([BASE, TOP, SMALL])), max_size=5
    ).map(lambda layers: manifest(media_type, *(named(kind, digest, 9) for kind, digest in layers)))
)


@given(_IMAGES, st.sampled_from(Edition))
def test_an_edition_is_the_same_image(image: Manifest, edition: Edition) -> None:
    """It has the family asked for, the same config, as many layers in their order, and no zstd.

    An edition of an edition is that edition, and back in the family of an image without zstd, its layers are
    what they were.
    """
    gzipped = {
        layer.digest: Descriptor("", Digest.of(layer.digest.hex.encode()), 1) for layer in zstd_layers(image)
    }
    media_type, payload = image_edition(image, edition, gzipped)
    made = parse(media_type, payload)
    assert Family.of(media_type) is edition.family(image.media_type)
    assert made.described(Role.CONFIG)[0].digest == CONFIG
    layers = [gzipped.get(layer.digest, layer).digest if "zstd" in layer.media_type else layer.digest
              for layer in image.described(Role.LAYER)]  # fmt: skip
    assert [layer.digest for layer in made.described(Role.LAYER)] == layers
    assert not any("zstd" in layer.media_type for layer in made.described(Role.LAYER))
    assert image_edition(made, edition, {}) == (media_type, payload)
    if not gzipped:
        back = parse(*image_edition(made, Edition.in_family(Family.of(image.media_type)), {}))
        assert [layer.media_type for layer in back.described(Role.LAYER)] == [
            layer.media_type for layer in image.described(Role.LAYER)
        ]
