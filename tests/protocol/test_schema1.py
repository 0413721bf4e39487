"""Schema 1 over HTTP: it is returned byte for byte, and every client gets what it can read."""

import bz2
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.assembly import open_registry
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.schema1 import schema1_from_image
from dualreg.registry import Registry, layers, schema1_editions
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.migrate import stock_trees
from tests.migrate.commands import command
from tests.properties.registries import push_v1, push_v2
from tests.protocol.clients.libtrust import signed, verified
from tests.protocol.clients.v2 import DOCKER_1_10

OLD = {"User-Agent": "docker/1.8.3 go/go1.4.2 os/linux arch/amd64"}
KEY = ec.generate_private_key(ec.SECP256R1())
LAYER = builders.layer({"hello": b"hello\n"})
TODAY = {"Accept": ", ".join((*sorted(media_types.IMAGES), *sorted(media_types.INDEXES)))}
REPOSITORY = "old/app"


def push_blob(client: FlaskClient, data: bytes, repository: str = REPOSITORY) -> None:
    """Push a blob in one request."""
    answer = client.post(f"/v2/{repository}/blobs/uploads/?digest={Digest.of(data)}", data=data)
    assert answer.status_code == 201


def payload(
    name: str = REPOSITORY,
    tag: str = "one",
    layers: tuple[bytes, ...] = (LAYER, EMPTY_LAYER),
    ids: Sequence[str] = (f"{1:064x}", f"{2:064x}"),
) -> bytes:
    """Return what Docker 1.8 would sign: an image JSON for each layer, the top first."""
    texts = []
    for number, _ in enumerate(layers):
        document: dict[str, object] = {"id": ids[number], "created": "2015-01-01T00:00:00Z"}
        if number:
            document["parent"] = ids[number - 1]
        texts.append(json.dumps(document))
    document = {
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(Digest.of(layer))} for layer in reversed(layers)],
        "history": [{"v1Compatibility": text} for text in reversed(texts)],
    }
    return json.dumps(document, indent=3).encode()


def put(client: FlaskClient, body: bytes, reference: str = "one", **headers: str) -> TestResponse:
    """Put a manifest as Docker 1.8 does: without a Content-Type."""
    return client.put(f"/v2/{REPOSITORY}/manifests/{reference}", data=body, headers=headers or None)


def get(client: FlaskClient, reference: str, headers: Mapping[str, str]) -> TestResponse:
    """Get a manifest, after HEAD has promised the very same."""
    path = f"/v2/{REPOSITORY}/manifests/{reference}"
    head, answer = client.head(path, headers=headers), client.get(path, headers=headers)
    assert head.status_code == answer.status_code
    for name in ("Content-Length", "Content-Type", "Docker-Content-Digest", "ETag"):
        assert head.headers.get(name) == answer.headers.get(name)
    return answer


@pytest.fixture
def pushed(client: FlaskClient) -> bytes:
    """A signed image in the repository: its body. The empty layer was never pushed."""
    push_blob(client, LAYER)
    body = signed(payload(), KEY)
    assert put(client, body).status_code == 201
    return body


def test_a_signed_manifest_comes_back_bit_by_bit(client: FlaskClient, pushed: bytes) -> None:
    """By tag and digest, to old clients and new ones that take it; its digest is that of what was signed."""
    digest = str(Digest.of(payload()))
    for reference in ("one", digest):
        for headers in (OLD, {}, {"Accept": "*/*"}, {"Accept": media_types.SCHEMA1_SIGNED}):
            answer = get(client, reference, headers)
            assert (answer.status_code, answer.data) == (200, pushed)
            assert answer.headers["Docker-Content-Digest"] == digest
            assert answer.headers["Content-Type"] == media_types.SCHEMA1_SIGNED


def test_the_newest_signatures_count(client: FlaskClient, pushed: bytes) -> None:
    """The same payload signed again is the same manifest, with the later body."""
    again = signed(payload(), ec.generate_private_key(ec.SECP256R1()))
    assert again != pushed
    assert put(client, again).status_code == 201
    assert get(client, "one", OLD).data == again


def test_the_signed_body_is_kept_as_long_as_its_manifest(client: FlaskClient, pushed: bytes) -> None:
    """It is a blob that the manifest names; with the manifest gone, it is free to go."""
    blob = f"/v2/{REPOSITORY}/blobs/{Digest.of(pushed)}"
    assert client.delete(blob).status_code == 405
    assert client.delete(f"/v2/{REPOSITORY}/manifests/{Digest.of(payload())}").status_code == 202
    assert client.delete(blob).status_code == 202


REFUSED = {
    "unsigned": (payload(), "MANIFEST_UNVERIFIED"),
    "changed": (signed(payload(), KEY).replace(b'"amd64"', b'"arm64"'), "MANIFEST_UNVERIFIED"),
    "a missing layer": (signed(payload(layers=(b"nobody has this",)), KEY), "MANIFEST_BLOB_UNKNOWN"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_refused_changes_nothing(client: FlaskClient, pushed: bytes, fault: str) -> None:
    """Signatures must be valid, and everything named must exist."""
    body, code = REFUSED[fault]
    answer = put(client, body)
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, code)  # type: ignore[index]
    assert get(client, "one", OLD).data == pushed


@pytest.mark.parametrize("changed", [False, True], ids=["signed", "changed"])
@pytest.mark.parametrize("place", [{"name": "else/where"}, {"tag": "two"}, {"name": "", "tag": ""}])
def test_copies_keep_their_signatures(client: FlaskClient, place: dict[str, str], *, changed: bool) -> None:
    """Programs that copy images push schema 1 as it is; its signature has to be right all the same."""
    for layer in (LAYER, EMPTY_LAYER):
        push_blob(client, layer)
    copy = signed(payload(**place), KEY)
    if changed:
        answer = put(client, copy.replace(b'"amd64"', b'"arm64"'))
        assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "MANIFEST_UNVERIFIED")  # type: ignore[index]
        return
    assert put(client, copy).status_code == 201
    assert get(client, "one", OLD).data == copy
    assert get(client, "one", TODAY).headers["Content-Type"] in media_types.IMAGES
    assert client.get(f"/v1/repositories/{REPOSITORY}/tags").json.keys() == {"one"}


@pytest.mark.parametrize("old", [True, False], ids=["and schema 1", "only"])
@pytest.mark.parametrize("kind", sorted(media_types.IMAGES))
def test_who_reads_newer_images_gets_them(
    client: FlaskClient, pushed: bytes, kind: str, *, old: bool
) -> None:
    """Naming schema 1 beside them is no wish for it: crane, trivy and syft do, and cannot read it."""
    types = [*(sorted(media_types.SCHEMA1_TYPES) if old else ()), kind, *sorted(media_types.INDEXES)]
    got = get(client, "one", {"Accept": ", ".join(types)})
    assert got.headers["Content-Type"] == kind
    by_digest = get(client, str(Digest.of(payload())), {"Accept": ", ".join(types)})
    assert by_digest.data == pushed
    as_it_is = get(client, "one", {"Accept": ", ".join(types), "Cache-Control": "no-transform"})
    assert as_it_is.data == pushed


def test_under_its_digest_any_tag_will_do(client: FlaskClient, pushed: bytes) -> None:
    """Docker tags digests again without signing again."""
    digest = Digest.of(payload())
    assert put(client, pushed, f"{digest}?tag=two").status_code == 201
    assert get(client, "two", OLD).data == pushed
    other = Digest.of(b"")
    answer = put(client, pushed, str(other))
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "DIGEST_INVALID")  # type: ignore[index]


@pytest.mark.parametrize("kind", sorted(media_types.IMAGES))
def test_who_reads_no_schema_1_gets_a_newer_image(client: FlaskClient, pushed: bytes, kind: str) -> None:
    """Made once, stored, and pullable by its digest: config, layers and all. The tag stays what it was."""
    first, again = (get(client, "one", {"Accept": kind}) for _ in range(2))
    assert first.data == again.data
    assert first.headers["Content-Type"] == kind
    digest = first.headers["Docker-Content-Digest"]
    assert digest == str(Digest.of(first.data))
    assert get(client, digest, {}).data == first.data
    manifest = json.loads(first.data)
    config = client.get(f"/v2/{REPOSITORY}/blobs/{manifest['config']['digest']}")
    assert [entry.get("empty_layer", False) for entry in json.loads(config.data)["history"]] == [False, True]
    assert [entry["digest"] for entry in manifest["layers"]] == [str(Digest.of(LAYER))]
    assert get(client, "one", OLD).data == pushed


@pytest.mark.parametrize("kind", sorted(media_types.IMAGES))
def test_who_pulls_schema_1_by_digest_learns_of_the_newer_image(
    client: FlaskClient, pushed: bytes, kind: str
) -> None:
    """Once there is one, of a type that the client names; the bytes stay those of the digest."""
    digest, today = str(Digest.of(payload())), {"Accept": kind}
    assert "Warning" not in get(client, digest, today).headers
    newer = get(client, "one", today).headers["Docker-Content-Digest"]
    warned = get(client, digest, today)
    text = f"this is schema 1, which current clients do not read; pull {newer} instead"
    assert (warned.data, warned.headers["Warning"]) == (pushed, f'299 - "{text}"')
    assert client.head(f"/v2/{REPOSITORY}/manifests/{digest}", headers=today).headers["Warning"]
    assert "Warning" not in get(client, digest, OLD).headers
    assert "Warning" not in get(client, newer, today).headers


def test_schema_1_without_signatures_is_not_left_to_nginx(tmp_path: Path) -> None:
    """Nginx does not look at Accept; it remembers the answers with the newer image."""
    tree = stock_trees.StockTree(tmp_path / "old")
    digest = tree.schema1("team/one", "1", LAYER, signed=False)
    command(tmp_path / "data", f"run registry-tree:{tree.root}")
    settings = Settings(data=tmp_path / "data", x_accel_prefix="/blobs", audit="off")
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        path = "/v2/team/one/manifests/"
        newer = client.get(f"{path}1", headers=TODAY)
        answers = [client.get(f"{path}{each}", headers=TODAY) for each in (digest, digest)]
        answers.append(client.get(f"{path}{newer.headers['Docker-Content-Digest']}", headers=TODAY))
    assert ["X-Accel-Expires" in each.headers for each in answers] == [False, False, True]
    assert ["Warning" in each.headers for each in answers] == [True, True, False]


def test_a_client_of_anything_gets_what_it_names(client: FlaskClient, pushed: bytes) -> None:
    """Containerd names the newer types and adds ``*/*``, but cannot read schema 1."""
    assert pushed
    answer = get(client, "one", {"Accept": f"{media_types.DOCKER_MANIFEST}, */*"})
    assert answer.headers["Content-Type"] == media_types.DOCKER_MANIFEST


def test_v1_clients_see_the_ids_that_were_signed(client: FlaskClient, pushed: bytes) -> None:
    """A tag pushed as schema 1 is the V1 image that its JSONs always were."""
    assert pushed
    tags = client.get(f"/v1/repositories/{REPOSITORY}/tags")
    assert tags.json == {"one": f"{2:064x}"}
    assert client.get(f"/v1/images/{2:064x}/ancestry").json == [f"{2:064x}", f"{1:064x}"]
    assert client.get(f"/v1/images/{1:064x}/layer").data == LAYER
    assert client.get(f"/v1/images/{2:064x}/layer").data == EMPTY_LAYER


@pytest.mark.parametrize("oci", [False, True])
def test_old_clients_get_newer_images_as_schema_1(client: FlaskClient, *, oci: bool) -> None:
    """Signed, for this very name and tag, the same digest every time; by digest nothing is converted."""
    image = builders.image(LAYER, oci=oci)
    for blob in image.blobs.values():
        push_blob(client, blob)
    put(client, image.manifest, "new", **{"Content-Type": image.media_type})
    for headers in (OLD, {"Accept": media_types.SCHEMA1}, {"Accept": media_types.SCHEMA1_SIGNED}):
        answer = get(client, "new", headers)
        text = verified(answer.data)
        document = json.loads(text)
        assert (document["name"], document["tag"], document["schemaVersion"]) == (REPOSITORY, "new", 1)
        assert answer.headers["Docker-Content-Digest"] == str(Digest.of(text))
        assert [entry["blobSum"] for entry in document["fsLayers"]] == [str(Digest.of(LAYER))]
    assert get(client, str(image.digest), OLD).data == image.manifest
    assert get(client, "new", TODAY).data == image.manifest


@pytest.mark.slow
def test_what_cannot_be_schema_1_says_why(client: FlaskClient) -> None:
    """An artifact is no image on V1 either, so clients are not sent there."""
    artifact = builders.artifact("application/vnd.example+json", b"{}")
    push_blob(client, artifact.config)
    put(client, artifact.manifest, "art", **{"Content-Type": artifact.media_type})
    answer = get(client, "art", OLD)
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (406, "UNSUPPORTED")  # type: ignore[index]
    assert "an artifact, not an image: application/vnd.example+json" in answer.text


@pytest.mark.parametrize(
    "config",
    [
        {"history": [{"empty_layer": True}] * 1001},
        {"quotes": '"' * 1_900_000},
    ],
    ids=["too many steps", "too large"],
)
def test_what_would_be_too_large_a_schema_1_is_none(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, config: dict[str, object]
) -> None:
    """The config is looked at once, and nothing is signed."""
    image = builders.image(*[] if "history" in config else [LAYER], **config)
    for blob in image.blobs.values():
        push_blob(client, blob)
    put(client, image.manifest, "huge", **{"Content-Type": image.media_type})
    looked = []
    monkeypatch.setattr(
        schema1_editions,
        "schema1_from_image",
        lambda *args: looked.append(args) or schema1_from_image(*args),
    )
    assert [get(client, "huge", OLD).status_code for _ in range(3)] == [404] * 3
    assert len(looked) == 1
    assert get(client, "huge", TODAY).data == image.manifest


@pytest.mark.slow
def test_a_layer_that_cannot_be_read_is_read_once(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema 1 image over a bomb costs the first modern client's request a moment, and no other."""
    bomb = bz2.compress(bytes(8 << 20)) * 12
    push_blob(client, bomb)
    body = signed(payload(layers=(bomb, EMPTY_LAYER)), KEY)
    assert put(client, body).status_code == 201
    first = get(client, "one", TODAY)
    monkeypatch.setattr(layers, "read_diff_id", lambda *_: pytest.fail("read again"))
    assert get(client, "one", TODAY).data == first.data == body
    assert client.get(f"/v1/repositories/{REPOSITORY}/tags").status_code == 404


def test_the_empty_layer_is_everywhere(client: FlaskClient) -> None:
    """It can be read though no client pushed it."""
    path = f"/v2/any/where/blobs/{Digest.of(EMPTY_LAYER)}"
    assert client.head(path).headers["Content-Length"] == "32"
    assert client.get(path).data == EMPTY_LAYER
    assert client.get(path, headers={"Range": "bytes=30-"}).data == EMPTY_LAYER[30:]


def test_the_key_stays_the_same(client: FlaskClient) -> None:
    """Every converted manifest is signed with one key, which outlives the process."""
    image = builders.image(LAYER)
    for blob in image.blobs.values():
        push_blob(client, blob)
    kids = set()
    for tag in ("a", "b"):
        put(client, image.manifest, tag, **{"Content-Type": image.media_type})
        body = json.loads(get(client, tag, OLD).data)
        kids.add(body["signatures"][0]["header"]["jwk"]["kid"])
    assert len(kids) == 1


@pytest.mark.parametrize(("agent", "absolute"), [("1.6.2", True), ("1.7.1", True), ("1.8.3", False)])
def test_docker_1_6_and_1_7_need_absolute_locations(
    client: FlaskClient, agent: str, *, absolute: bool
) -> None:
    """They fail on a relative one; others get those that survive every proxy."""
    headers = {"User-Agent": f"docker/{agent} go/go1.4.2"}
    answer = client.post(f"/v2/{REPOSITORY}/blobs/uploads/", headers=headers)
    assert answer.headers["Location"].startswith("http://localhost/v2/" if absolute else "/v2/")


def test_tarsums_are_not_here(client: FlaskClient) -> None:
    """Docker 1.6 asks for some, and takes only 404 for a no."""
    path = f"/v2/{REPOSITORY}/blobs/tarsum.v1+sha256:{'a' * 64}"
    assert (client.head(path).status_code, client.get(path).status_code) == (404, 404)


@pytest.mark.parametrize(
    ("generation", "first"),
    # Not V1 after ours: an id that is there already is not sent again.
    [("v1", "theirs"), ("v2", "theirs"), ("v2", "ours")],
)
def test_nobody_takes_the_id_of_another_image(
    client: FlaskClient, registry: Registry, generation: str, first: str
) -> None:
    """Schema 1 with a known id for other files is no V1 image; V2 clients can pull it.

    If the id is that of its content, the order of pushes does not matter.
    """
    name, good, evil = RepositoryName(REPOSITORY), LAYER, builders.layer({"hello": b"evil\n"})
    image, chain = builders.image(good), builders.v1_chain(good)
    if generation == "v1":
        top = chain[0].id
    else:
        push_v2(registry, RepositoryName("else/where"), Tag("x"), image)
        top = registry.bridge.resolve(RepositoryName("else/where"), Tag("x"))

    def theirs() -> None:
        if generation == "v1":
            push_v1(registry, name, Tag("good"), chain)
        else:
            push_v2(registry, name, Tag("good"), image)

    def ours() -> None:
        push_blob(client, evil)
        body = signed(payload(layers=(evil,), ids=[top]), KEY)
        assert put(client, body).status_code == 201
        client.get(f"/v1/repositories/{REPOSITORY}/tags")

    for act in (theirs, ours) if first == "theirs" else (ours, theirs):
        act()
    before = get(client, "good", OLD).headers["Docker-Content-Digest"]
    tags = client.get(f"/v1/repositories/{REPOSITORY}/tags").json
    assert tags == {"good": top}
    (row,) = registry.v1_images.ancestry(name, ImageId(top))
    assert row.layer == Digest.of(good)
    original = registry.manifests.find(name, Tag("good")).digest
    registry.bridge.tag(name, Tag("again"), ImageId(top))
    assert registry.manifests.find(name, Tag("again")).digest == original
    assert get(client, "good", OLD).headers["Docker-Content-Digest"] == before
    today = get(client, "one", TODAY).json
    assert [layer["digest"] for layer in today["layers"]] == [str(Digest.of(evil))]


def test_docker_1_10_gets_no_oci(client: FlaskClient, registry: Registry) -> None:
    """It names schema 1 and 2, so it gets an OCI image as schema 2."""
    image = builders.image(LAYER, oci=True)
    push_v2(registry, RepositoryName(REPOSITORY), Tag("oci"), image)
    accept = ", ".join(DOCKER_1_10)
    answer = get(client, "oci", {"Accept": accept, "User-Agent": "docker/1.10.3"})
    assert answer.content_type == media_types.DOCKER_MANIFEST
    assert answer.json["config"]["digest"] == str(Digest.of(image.config))  # type: ignore[index]
