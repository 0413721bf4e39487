"""Clients that fetch blobs from the bucket themselves: who is sent there, and how real ones follow."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.clients.tools import Tools, layout_manifest, verified
from tests.contracts.radosgw import s3_bucket, settings_of
from tests.programs import Serving, dualreg_process
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Answer, Wire, need
from tests.quick import memory_folder

pytestmark = [pytest.mark.s3, pytest.mark.client]

DATA = hashlib.shake_128(b"data").digest(300_000)
DIGEST = Digest.of(DATA)
BLOB = f"/v2/team/app/blobs/{DIGEST}"


@contextmanager
def registry(folder: Path, **settings: str) -> Iterator[Serving]:
    """Run a registry over a bucket, with a blob in it."""
    with s3_bucket() as url:
        chosen = settings_of(url) | settings
        with dualreg_process(folder / "data", workers=1, **chosen) as serving:
            uploads = f"/v2/team/app/blobs/uploads/?digest={DIGEST}"
            need(Wire(serving.host).send("POST", uploads, body=DATA), 201, "a blob")
            yield serving


def fetch(answer: Answer, headers: dict[str, str] | None = None) -> Answer:
    """Follow a redirect as clients do: without what is for the registry alone."""
    assert answer.status == 307
    assert answer.headers["cache-control"] == "no-store"
    parts = urlsplit(answer.headers["location"])
    return Wire(parts.netloc).send("GET", f"{parts.path}?{parts.query}", headers or {})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a registry that redirects all but two kinds of clients."""
    settings = "on,10.0.0.0/8=off,old/*=off"
    with registry(tmp_path_factory.mktemp("redirects"), s3_redirects=settings) as serving:
        yield serving.host


@pytest.mark.parametrize(
    ("headers", "status", "content"),
    [
        ({}, 200, DATA),
        ({"Range": "bytes=9-99"}, 206, DATA[9:100]),
        ({"Range": f"bytes={len(DATA) - 5}-"}, 206, DATA[-5:]),
        ({"Range": "bytes=-7"}, 206, DATA[-7:]),
    ],
)
def test_a_blob_comes_from_the_bucket(
    host: str, headers: dict[str, str], status: int, content: bytes
) -> None:
    """All of it, or a range; the registry says which one it is, and lends the URL for some minutes."""
    answer = Wire(host).send("GET", BLOB, headers)
    assert answer.headers["docker-content-digest"] == str(DIGEST)
    assert (answer.body, answer.headers["content-length"]) == (b"", "0")
    assert parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"] == ["1200"]
    fetched = fetch(answer, headers)
    assert (fetched.status, fetched.body) == (status, content)


@pytest.mark.parametrize(
    ("method", "headers", "status", "content"),
    [
        ("HEAD", {}, 200, b""),
        ("GET", {"If-None-Match": f'"{DIGEST}"'}, 304, b""),
        ("GET", {"Range": f"bytes={len(DATA)}-"}, 416, b""),
        ("GET", {"Range": "bytes=0-0,5-9"}, 206, None),
        ("GET", {"X-Forwarded-For": "10.1.2.3"}, 200, DATA),
        ("GET", {"X-Forwarded-For": "::ffff:10.1.2.3"}, 200, DATA),
        ("GET", {"User-Agent": "old/1.0 go"}, 200, DATA),
    ],
)
def test_what_is_not_redirected(
    host: str, method: str, headers: dict[str, str], status: int, content: bytes | None
) -> None:
    """What the registry knows itself, what no object store can answer, and clients that cannot follow."""
    answer = Wire(host).send(method, BLOB, headers)
    assert answer.status == status
    assert (
        answer.headers.get("content-length") == (str(len(DATA)) if status == 200 else None) or status != 200
    )
    assert content is None or answer.body == content


def test_layers_of_v1_come_from_the_bucket(host: str) -> None:
    """Clients of all generations follow then; the JSON of an image comes from the registry."""
    chain = builders.v1_chain(builders.layer({"b": b"2"}))
    V1Client(host).push("team/old", "1", chain)
    images = Wire(host).send("GET", "/v1/repositories/team/old/images", {"X-Docker-Token": "true"})
    token = {"Authorization": f"Token {images.headers['x-docker-token']}"}
    image = Wire(host).send("GET", "/v1/repositories/team/old/tags/1", token).body.decode().strip('"')
    assert Wire(host).send("GET", f"/v1/images/{image}/json", token).status == 200
    assert fetch(Wire(host).send("GET", f"/v1/images/{image}/layer", token)).body == chain[-1].layer


def test_an_absent_blob_is_not_redirected(host: str) -> None:
    """Whether it is in no repository, in another one only, or lost."""
    for path in (f"/v2/team/app/blobs/sha256:{'0' * 64}", f"/v2/team/other/blobs/{DIGEST}"):
        answer = Wire(host).send("GET", path)
        assert (answer.status, answer.headers.get("location")) == (404, None)


def test_who_may_not_pull_is_not_redirected(tmp_path: Path) -> None:
    """The permission is checked first; what the registry answers has no way into the bucket."""
    rules = tmp_path / "rules"
    rules.write_text("anonymous * pull,push\n")
    settings = {"s3_redirects": "on", "auth": "accounts", "permissions": f"{rules}"}
    with registry(tmp_path, **settings) as serving:
        assert Wire(serving.host).send("GET", BLOB).status == 307
        rules.write_text("anonymous other/* pull\n")
        answer = Wire(serving.host).send("GET", BLOB)
        assert (answer.status, answer.headers.get("location")) == (401, None)


def test_clients_get_an_address_of_their_own(tmp_path: Path) -> None:
    """The signed URL names the host that clients see; the registry itself goes on with the other one."""
    settings = {"s3_redirects": "off,127.0.0.0/8=on", "s3_redirect_endpoint": "https://blobs.example.org"}
    with registry(tmp_path, **settings) as serving:
        location = urlsplit(Wire(serving.host).send("GET", BLOB).headers["location"])
        assert (location.scheme, location.netloc) == ("https", "blobs.example.org")
        assert location.path.endswith("/data")
        assert Wire(serving.host).send("HEAD", BLOB).status == 200


@contextmanager
def redirecting(folder: Path) -> Iterator[tuple[Tools, Path]]:
    """Run a registry that redirects; yield the programs that speak to it, and its log."""
    with (
        registry(folder, s3_redirects="on") as serving,
        TemporaryDirectory(prefix="dualreg-", dir=memory_folder()) as home,
    ):
        yield Tools(Path(home), serving.host), serving.log


def redirected(log: Path, name: str) -> int:
    """Return how many GETs of blobs were redirected."""
    return len(re.findall(rf'"GET /v2/{name}/blobs/\S+ HTTP/1.1" 307 ', log.read_text()))


@pytest.mark.parametrize("program", ["skopeo", "podman", "buildah"])
def test_programs_follow(layout: Path, tmp_path: Path, program: str) -> None:
    """All blobs come from the bucket, and the image is the one that was pushed."""
    digest, manifest = layout_manifest(layout, "app")
    with redirecting(tmp_path) as (tools, log):
        tools.push("--format=oci", f"oci:{layout}:app", name="own/app:1")
        if program == "skopeo":
            tools.pull("own/app:1", f"dir:{tmp_path / 'out'}")
            assert verified(tmp_path / "out") == (digest, manifest)
        else:
            run = tools.podman if program == "podman" else tools.buildah
            pulled = run("pull", "-q", "--tls-verify=false", f"{tools.host}/own/app:1")
            assert manifest["config"]["digest"] == f"sha256:{pulled}"
        assert redirected(log, "own/app") == len(manifest["layers"]) + 1


def test_docker_follows(docker: Tools, tmp_path: Path) -> None:
    """The daemon, too, of an image that it does not have."""
    image = builders.image(*(builders.layer({"own": os.urandom(20)}) for _ in range(2)), oci=True)
    with redirecting(tmp_path) as (tools, log):
        V2Client(tools.host).push("own/app", "1", image)
        reference = f"{tools.host}/own/app:1"
        docker.docker("pull", "-q", reference)
        identity = docker.docker("image", "inspect", "-f", "{{.Id}}", reference)
        assert identity == str(Digest.of(image.config))
        assert redirected(log, "own/app") == len(image.blobs)
