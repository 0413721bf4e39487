"""Images of today over HTTP, as older clients ask for them: what they get is the same image, and stays."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.children import ManifestRules
from tests import builders
from tests.apps import client_of
from tests.builders import Image
from tests.conftest import GuardedStore
from tests.properties.registries import push_v2
from tests.protocol.clients.schema1 import push_chain
from tests.protocol.clients.v2 import DOCKER, DOCKER_1_10, IMAGES_ONLY, OCI

NAME, OTHER, TAG = RepositoryName("team/app"), RepositoryName("other/app"), Tag("latest")
LAYERS = [builders.layer({"a": b"a" * 900}), builders.layer({"b": b"b" * 900})]
SYSTEM = "go/go1.18 git-commit/x kernel/5.15 os/linux arch"
READERS: Mapping[str, tuple[Sequence[str], str]] = {
    "1.10": (DOCKER_1_10, f"docker/1.10.3 {SYSTEM}/amd64"),
    "17.09": (DOCKER_1_10, f"docker/17.09.1-ce {SYSTEM}/amd64 UpstreamClient(Docker-Client/17.09.1-ce)"),
    "20.10": (DOCKER, f"docker/20.10.24+dfsg1 {SYSTEM}/amd64"),
    "28": (DOCKER, f"docker/28.0.0 {SYSTEM}/amd64"),
    "docker types": (DOCKER_1_10[2:], "crane/0.1"),
    "oci types": (OCI, "tool/1"),
    "images": (IMAGES_ONLY, "tool/1"),
    "images on arm": (IMAGES_ONLY, f"docker/20.10.24 {SYSTEM}/arm"),
    "images on s390x": (IMAGES_ONLY, f"docker/28.0.0 {SYSTEM}/s390x"),
    "images on ppc64le": (IMAGES_ONLY, f"docker/1.13.1 {SYSTEM}/ppc64le"),
}
#: Readers that read Docker's media types only.
OLD = ("1.10", "17.09", "docker types")


def get(
    client: FlaskClient, reader: str, reference: str = TAG, status: int = 200, **headers: str
) -> TestResponse:
    """Get a manifest as a reader, after HEAD has promised the very same."""
    types, agent = READERS[reader]
    sent = {"Accept": ", ".join(types), "User-Agent": agent, **headers}
    path = f"/v2/{NAME}/manifests/{reference}"
    head, answer = client.head(path, headers=sent), client.get(path, headers=sent)
    assert (head.status_code, answer.status_code) == (status, status)
    assert dict(head.headers) == dict(answer.headers)
    return answer


def document(answer: TestResponse) -> dict[str, Any]:
    """Return the manifest in an answer, whose headers describe it."""
    assert answer.headers["Docker-Content-Digest"] == str(Digest.of(answer.data))
    assert answer.headers["Vary"] == "Accept, User-Agent"
    found = json.loads(answer.data)
    assert found.get("mediaType") in (answer.content_type, None)
    return found  # type: ignore[no-any-return]


def files(client: FlaskClient, manifest: Mapping[str, Any]) -> list[bytes]:
    """Return the tars of the layers, all of which are gzip or plain and as large as the manifest says."""
    tars = []
    for layer in manifest["layers"]:
        assert "zstd" not in layer["mediaType"]
        content = client.get(f"/v2/{NAME}/blobs/{layer['digest']}").data
        assert (len(content), str(Digest.of(content))) == (layer["size"], layer["digest"])
        tars.append(gzip.decompress(content))
    return tars


PLAIN = [gzip.decompress(layer) for layer in LAYERS]
ONE = {
    "oci": builders.image(*LAYERS, oci=True),
    "zstd": builders.zstd_image(*LAYERS),
    "docker": builders.image(*LAYERS),
}
#: The media type of the manifest that a reader gets; None: the one that is stored.
GETS = {
    "oci": dict.fromkeys(OLD, media_types.DOCKER_MANIFEST),
    "zstd": dict.fromkeys(OLD, media_types.DOCKER_MANIFEST)
    | dict.fromkeys(("20.10", "images on arm", "images on ppc64le"), media_types.OCI_MANIFEST),
    "docker": {"oci types": media_types.OCI_MANIFEST},
}


@pytest.mark.parametrize("image", ONE)
def test_every_reader_gets_an_image_that_it_reads(
    client: FlaskClient, registry: Registry, image: str
) -> None:
    """The config, and so the ID of the image, is the same; every layer has the same files.

    All ask in turn, twice, so that no answer for one is given to another; what was made is not made again.
    """
    push_v2(registry, NAME, TAG, ONE[image])
    answers = [{reader: get(client, reader) for reader in READERS} for _ in range(2)]
    for reader in READERS:
        first, again = (each[reader] for each in answers)
        assert (first.data, first.headers["ETag"]) == (again.data, again.headers["ETag"])
        expected = GETS[image].get(reader)
        if expected is None:
            assert first.data == ONE[image].manifest
            continue
        manifest = document(first)
        assert first.content_type == expected
        assert first.data != ONE[image].manifest
        assert manifest["config"]["digest"] == str(Digest.of(ONE[image].config))
        assert files(client, manifest) == PLAIN


@pytest.mark.parametrize("image", ONE)
def test_what_a_reader_got_can_be_pulled_by_its_digest(
    client: FlaskClient, registry: Registry, image: str
) -> None:
    """By every reader, as those bytes; the tag stays at what was pushed, and nothing new is listed."""
    push_v2(registry, NAME, TAG, ONE[image])
    answers = [get(client, reader) for reader in READERS]
    got = {answer.headers["Docker-Content-Digest"]: answer.data for answer in answers}
    for digest, data in got.items():
        for reader in READERS:
            assert get(client, reader, digest).data == data
    assert client.get(f"/v2/{NAME}/tags/list").json["tags"] == [TAG]  # type: ignore[index]
    assert registry.manifests.find(NAME, TAG).digest == ONE[image].digest
    for digest in got:
        assert client.get(f"/v2/{NAME}/referrers/{digest}").json["manifests"] == []  # type: ignore[index]


def test_a_reader_that_has_an_edition_is_told_so(client: FlaskClient, registry: Registry) -> None:
    """Its digest counts for If-None-Match, not that of what is stored."""
    push_v2(registry, NAME, TAG, ONE["zstd"])
    made = get(client, "20.10").headers["ETag"]
    assert get(client, "20.10", status=304, **{"If-None-Match": made}).data == b""
    assert get(client, "20.10", **{"If-None-Match": f'"{ONE["zstd"].digest}"'}).headers["ETag"] == made
    assert get(client, "28", **{"If-None-Match": made}).data == ONE["zstd"].manifest
    assert get(client, "20.10", **{"Cache-Control": "no-transform"}).data == ONE["zstd"].manifest


def test_an_edition_is_that_of_what_the_tag_points_at_now(client: FlaskClient, registry: Registry) -> None:
    """A tag that moves has other editions; those of before stay as long as their image."""
    push_v2(registry, NAME, TAG, ONE["zstd"])
    before = get(client, "20.10").data
    push_v2(registry, NAME, TAG, builders.zstd_image(LAYERS[0]))
    after = get(client, "20.10")
    assert files(client, document(after)) == PLAIN[:1]
    assert get(client, "20.10", str(Digest.of(before))).data == before
    client.delete(f"/v2/{NAME}/manifests/{Digest.of(before)}")
    push_v2(registry, NAME, TAG, ONE["zstd"])
    assert get(client, "20.10").data == before


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["docker types", "oci types"])
@pytest.mark.parametrize("listed", [False, True])
def test_deleting_an_edition_deletes_its_image(
    client: FlaskClient, registry: Registry, reader: str, *, listed: bool
) -> None:
    """Scripts look up a tag, as a client that reads little, and delete the digest that they get.

    An edition that has a tag of its own is an image like any other.
    """
    image = ONE["docker" if reader == "oci types" else "oci"]
    if listed:
        push_index(registry, push_child(registry, image, platform=on("amd64")))
    else:
        push_v2(registry, NAME, TAG, image)
    made = get(client, reader)
    path = f"/v2/{NAME}/manifests/{made.headers['Docker-Content-Digest']}"
    assert client.delete(path, headers={"If-Match": '"sha256:0"'}).status_code == 412
    assert client.delete(path).status_code == 202
    for each in READERS:
        get(client, each, status=404)
    assert client.delete(path).status_code == 404
    push_v2(registry, NAME, TAG, image)
    made = get(client, reader)
    registry.manifests.put(NAME, Tag("made"), made.content_type, made.data)
    assert client.delete(f"/v2/{NAME}/manifests/{Digest.of(made.data)}").status_code == 202
    assert get(client, "28").data == image.manifest


def push_index(registry: Registry, *entries: Mapping[str, Any], tag: Tag | None = TAG) -> dict[str, Any]:
    """Push an index of *entries*, with a tag or without one; return the entry of an index for it."""
    payload = builders.index_of(*entries)
    registry.manifests.put(NAME, tag or Digest.of(payload), media_types.OCI_INDEX, payload)
    return builders.descriptor(media_types.OCI_INDEX, payload)


def push_child(registry: Registry, image: Image, **members: Any) -> dict[str, Any]:
    """Push an image by digest; return the entry of an index for it."""
    for digest, blob in image.blobs.items():
        registry.uploads.ingest(NAME, [blob], expected=digest)
    registry.manifests.put(NAME, image.digest, image.media_type, image.manifest)
    return builders.descriptor(image.media_type, image.manifest, **members)


def on(architecture: str, variant: str = "") -> dict[str, str]:
    """Return the platform object of an entry."""
    return {"architecture": architecture, "os": "linux"} | ({"variant": variant} if variant else {})


@pytest.fixture
def images(registry: Registry) -> dict[str, Image]:
    """An index as BuildKit pushes it, with an attestation, a nested index and images of every kind."""
    images = {
        "amd64": builders.zstd_image(*LAYERS),
        "arm v7": builders.image(LAYERS[0], oci=True, architecture="arm"),
        "arm v6": builders.zstd_image(LAYERS[1], architecture="arm"),
        "s390x": builders.image(LAYERS[1], architecture="s390x"),
    }
    systems = {"amd64": on("amd64"), "arm v7": on("arm", "v7"), "arm v6": on("arm", "v6")}
    amd64, v7, v6 = (
        push_child(registry, images[name], platform=platform) for name, platform in systems.items()
    )
    bare = push_child(registry, images["s390x"])  # without a platform, which its config has
    marks = {"vnd.docker.reference.type": "attestation-manifest"}
    attestation = push_child(
        registry,
        builders.artifact("application/vnd.in-toto+json", b"{}"),
        platform={"architecture": "unknown", "os": "unknown"},
        annotations=marks | {"vnd.docker.reference.digest": amd64["digest"]},
    )
    nested = push_index(registry, bare, v7, tag=None)
    push_index(registry, amd64, attestation, nested, v6, v7)
    return images


@pytest.mark.parametrize("reader", ["1.10", "20.10", "docker types", "oci types", "28"])
def test_an_index_lists_what_its_reader_reads(
    client: FlaskClient, registry: Registry, images: dict[str, Image], reader: str
) -> None:
    """Images only, each for its platform, in an edition that the reader gets by digest."""
    stored = registry.manifests.find(NAME, TAG)
    answer = get(client, reader)
    if reader == "28":
        assert Digest.of(answer.data) == stored.digest
        return
    index, docker = document(answer), reader in OLD
    assert answer.content_type == (media_types.DOCKER_LIST if docker else media_types.OCI_INDEX)
    platforms = [entry["platform"] for entry in index["manifests"]]
    assert platforms == [on("amd64"), on("arm", "v6"), on("arm", "v7"), on("s390x")]
    for entry, name in zip(index["manifests"], ("amd64", "arm v6", "arm v7", "s390x"), strict=True):
        found = get(client, reader, entry["digest"])
        assert (found.content_type, len(found.data)) == (entry["mediaType"], entry["size"])
        if reader != "20.10":
            types = (media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST)
            assert found.content_type == types[docker]
        manifest = json.loads(found.data)
        assert manifest["config"]["digest"] == str(Digest.of(images[name].config))
        files(client, manifest)
    assert get(client, reader).data == get(client, reader, str(Digest.of(answer.data))).data == answer.data


@pytest.mark.parametrize(
    ("reader", "name"), [("images", "amd64"), ("images on arm", "arm v6"), ("images on s390x", "s390x")]
)
def test_a_reader_without_indexes_gets_an_image_for_its_system(
    client: FlaskClient, images: dict[str, Image], reader: str, name: str
) -> None:
    """Of the variants, the oldest, which runs on every machine; in an edition that it reads."""
    manifest = document(get(client, reader))
    assert manifest["config"]["digest"] == str(Digest.of(images[name].config))
    if reader == "images on arm":
        files(client, manifest)


@pytest.mark.slow
def test_a_diamond_of_indexes_is_walked_once(client: FlaskClient, registry: Registry) -> None:
    """Each of forty levels lists the next one twice; the image at its end is listed once."""
    entry = push_child(registry, ONE["zstd"], platform=on("amd64"))
    for _ in range(40):
        entry = push_index(registry, entry, entry, tag=None)
    push_index(registry, entry)
    (listed,) = document(get(client, "1.10"))["manifests"]
    assert listed["platform"] == on("amd64")
    assert document(get(client, "images"))["config"]["digest"] == str(Digest.of(ONE["zstd"].config))


def encrypted() -> Image:
    """Return an image whose layers are encrypted."""
    return builders.retyped(builders.image(*LAYERS, oci=True), f"{media_types.OCI_LAYER_GZIP}+encrypted")


UNREADABLE = {
    "artifact": (
        builders.artifact("application/vnd.cncf.helm.config.v1+json", b"{}"),
        "it is an artifact, not an image: application/vnd.cncf.helm.config.v1+json",
    ),
    "encrypted": (
        encrypted(),
        f"its layers are encrypted: {media_types.OCI_LAYER_GZIP}+encrypted",
    ),
}


@pytest.mark.parametrize("indexed", [False, True], ids=["image", "index"])
@pytest.mark.parametrize("fault", UNREADABLE)
def test_what_a_reader_cannot_have_says_why(
    client: FlaskClient, registry: Registry, fault: str, *, indexed: bool
) -> None:
    """With a code after which Docker shows the message; whoever reads OCI gets what is stored."""
    image, reason = UNREADABLE[fault]
    entry = push_child(registry, image, platform=on("amd64"))
    if indexed:
        push_index(registry, entry)
    else:
        registry.manifests.put(NAME, TAG, image.media_type, image.manifest)
    for reader in OLD:
        (error,) = get(client, reader, status=406).json["errors"]  # type: ignore[index]
        assert error["code"] == "UNSUPPORTED"
        assert error["message"] == f"this client cannot read the image: {reason}"
    for url in ("images", f"tags/{TAG}"):
        answer = client.get(f"/v1/repositories/{NAME}/{url}")
        assert (answer.status_code, answer.json) == (406, {"error": error["message"]})
    schema1 = client.get(f"/v2/{NAME}/manifests/{TAG}", headers={"User-Agent": "docker/1.9.1"})
    assert (schema1.status_code, schema1.json["errors"]) == (406, [error])  # type: ignore[index]
    for reader in ("20.10", "28"):
        assert Digest.of(get(client, reader).data) == registry.manifests.find(NAME, TAG).digest


def test_an_index_without_a_platform_says_which_there_are(
    client: FlaskClient, images: dict[str, Image]
) -> None:
    """Not the image for another one."""
    assert images
    answer = get(client, "images on ppc64le", status=406)
    assert (
        "no image for linux/ppc64le, only for linux/amd64, linux/arm/v6, linux/arm/v7, linux/s390x"
        in answer.text
    )


def test_one_image_that_cannot_be_read_is_left_out_of_an_index(
    client: FlaskClient, registry: Registry
) -> None:
    """The images for other platforms can be had."""
    entries = [
        push_child(registry, encrypted(), platform=on("arm64")),
        push_child(registry, ONE["oci"], platform=on("amd64")),
    ]
    push_index(registry, *entries)
    (listed,) = document(get(client, "1.10"))["manifests"]
    assert listed["platform"] == on("amd64")


@pytest.mark.slow
@pytest.mark.parametrize("late", ["manifest", "layer"])
@pytest.mark.parametrize("reader", ["1.10", "20.10"])
def test_images_that_an_index_lacks_are_listed_when_they_arrive(
    registry: Registry, store: GuardedStore, reader: str, late: str
) -> None:
    """Until then, the images for other platforms can be had; what clients were given stays."""
    registry = registry.taking(ManifestRules(sparse_indexes=True))
    client = client_of(registry)
    images = [builders.zstd_image(LAYERS[0]), builders.zstd_image(LAYERS[1], architecture="arm64")]
    entries = [
        builders.descriptor(image.media_type, image.manifest, platform=on(architecture))
        for image, architecture in zip(images, ("amd64", "arm64"), strict=True)
    ]
    push_child(registry, images[0])
    if late == "layer":
        push_child(registry, images[1])
        store.delete(Digest.of(images[1].layers[0]))
    push_index(registry, *entries)
    before = [get(client, reader) for _ in range(2)]
    push_child(registry, images[1])
    after = [get(client, reader) for _ in range(2)]
    for answers, architectures in ((before, ["amd64"]), (after, ["amd64", "arm64"])):
        assert answers[0].data == answers[1].data
        assert [each["platform"] for each in document(answers[0])["manifests"]] == [*map(on, architectures)]
        assert get(client, reader, str(Digest.of(answers[0].data))).data == answers[0].data


def test_an_image_whose_layer_is_lost(client: FlaskClient, registry: Registry, store: GuardedStore) -> None:
    """It is unknown until that is pushed again, in every edition; that is no mistake of the client."""
    push_v2(registry, NAME, TAG, ONE["oci"])
    store.delete(Digest.of(LAYERS[0]))
    (error,) = get(client, "1.10", status=404).json["errors"]  # type: ignore[index]
    assert "lost" in error["message"]
    push_v2(registry, NAME, TAG, ONE["oci"])
    assert files(client, document(get(client, "1.10"))) == PLAIN


def test_wrong_sizes_do_not_prevent_editions(client: FlaskClient, registry: Registry) -> None:
    """Of what was pushed before sizes were checked."""
    image = ONE["oci"]
    wrong = json.loads(image.manifest)
    wrong["config"]["size"] += 1
    push_v2(registry, NAME, TAG, replace(image, manifest=json.dumps(wrong).encode()))
    client = client_of(registry.taking(ManifestRules(strict=True)))
    assert files(client, document(get(client, "1.10"))) == PLAIN


def test_the_same_bytes_may_be_images_of_two_families(client: FlaskClient, registry: Registry) -> None:
    """If they do not say their media type, each repository has them as they were pushed there."""
    bare = json.loads(ONE["oci"].manifest)
    del bare["mediaType"]
    bare["config"]["mediaType"] = media_types.DOCKER_CONFIG
    image = replace(ONE["oci"], manifest=json.dumps(bare).encode())
    push_v2(registry, NAME, TAG, image)
    assert get(client, "1.10").content_type == media_types.DOCKER_MANIFEST
    for digest, blob in image.blobs.items():
        registry.uploads.ingest(OTHER, [blob], expected=digest)
    registry.manifests.put(OTHER, TAG, media_types.DOCKER_MANIFEST, image.manifest)
    path = f"/v2/{OTHER}/manifests/{TAG}"
    answer = client.get(path, headers={"Accept": ", ".join(OCI)})
    assert answer.content_type == media_types.OCI_MANIFEST


@pytest.mark.parametrize("reader", ["1.10", "20.10", "images"])
def test_schema_1_goes_to_readers_of_it_alone(client: FlaskClient, registry: Registry, reader: str) -> None:
    """What a V1 client of 1.6 pushed, everybody else gets as schema 2 or OCI, although some name schema 1."""
    push_chain(registry, NAME, str(TAG), builders.v1_chain(*LAYERS))
    answer = get(client, reader)
    assert answer.content_type == media_types.DOCKER_MANIFEST
    assert files(client, document(answer)) == PLAIN
