"""dualreg.conf: both APIs through nginx, over TLS, with nginx sending the blobs."""

import hashlib
import http.client
import itertools
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.nginx.conftest import Front
from tests.nginx.site import Site, compared, members, nginx_site
from tests.programs import dualreg_server, require, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire

pytestmark = pytest.mark.client

MIB = 1 << 20
#: A blob whose every range is recognisable.
CONTENT = b"".join(number.to_bytes(4, "big") for number in range(50_000))


def push_blob(site: Site, name: str, content: bytes) -> str:
    """Upload *content* over TLS; return its digest."""
    digest = str(Digest.of(content))
    stored = site.send("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", body=content)
    assert stored.status == 201, stored
    return digest


@pytest.fixture(scope="module")
def blob(front: Front) -> str:
    """The path of a blob with CONTENT."""
    return f"/v2/ranges/blobs/{push_blob(front.site, 'ranges', CONTENT)}"


@pytest.mark.slow
@pytest.mark.parametrize("oci", [False, True], ids=["v2s2", "oci"])
def test_skopeo_pushes_and_pulls_through_tls(front: Front, tmp_path: Path, *, oci: bool) -> None:
    """What skopeo pushes through nginx, verifying its certificate, it pulls again byte for byte."""
    require("skopeo", package="skopeo")
    image = builders.image(
        builders.layer({"a": b"one"}), builders.layer({"b": bytes(300_000)}), oci=oci, author=str(oci)
    )
    source = builders.skopeo_folder(tmp_path / "in", image)
    reference = f"docker://{front.site.tls}/team/skopeo:{'oci' if oci else 'v2s2'}"
    trust = str(front.site.authority.parent)
    for command in (
        ["--dest-cert-dir", trust, f"dir:{source}", reference],
        ["--src-cert-dir", trust, reference, f"dir:{tmp_path / 'out'}"],
    ):
        subprocess.run(["skopeo", "copy", *command], check=True, capture_output=True, timeout=60)
    assert members(tmp_path / "out") == members(source)


def test_a_v1_client_pushes_and_pulls(front: Front) -> None:
    """Docker 1.5 pushes chunked layers and pulls them, and V2 clients pull the same image."""
    chain = builders.v1_chain(builders.layer({"a": b"one"}), builders.layer({"b": bytes(100_000)}))
    client = V1Client(front.site.plain)
    client.push("team/old", "1", chain)
    pulled = client.pull("team/old", "1")
    assert [(image.id, image.json, image.layer) for image in pulled] == [
        (image.id, image.json, image.layer) for image in chain
    ]
    assert len(V2Client(front.site.plain).pull("team/old", "1").layers) == 2


def test_a_v1_layer_resumes_through_nginx(front: Front) -> None:
    """A cut layer is resumed as Docker 0.12 to 1.9 do: one byte too many is asked for, a 416 is the end."""
    chain = builders.v1_chain(builders.layer({"a": bytes(range(256)) * 2000}), seed="resume")
    client = V1Client(front.site.plain)
    client.push("team/resume", "1", chain)
    token, wire = client.begin_pull("team/resume")
    total = len(chain[0].layer)
    pulled = client.fetch(wire, token, chain[0].id, cuts=[total // 3, total])
    assert pulled.layer == chain[0].layer


def test_v1_clients_are_sent_back_to_the_name_and_port_they_came_by(front: Front) -> None:
    """The endpoint of a V1 session is the Host header as the client sent it, not dualreg's own address."""
    answer = front.site.send("PUT", "/v1/repositories/team/host/", {"Host": "registry.test:8443"}, b"[]")
    assert (answer.status, answer.headers["x-docker-endpoints"]) == (200, "registry.test:8443")


def test_nginx_sends_the_whole_blob_with_the_registrys_headers(front: Front, blob: str) -> None:
    """A GET has the headers of HEAD, which dualreg answers itself; the internal redirect does not show."""
    got, head = front.site.send("GET", blob), front.site.send("HEAD", blob)
    assert (got.status, got.body) == (200, CONTENT)
    assert compared(got)[1] == compared(head)[1]
    assert got.headers["docker-content-digest"] == blob.rpartition("/")[2]


def test_dualreg_itself_sends_no_byte_of_the_blob(front: Front, blob: str) -> None:
    """Asked directly, dualreg answers a blob with its place below the prefix and nothing else."""
    answer = Wire(front.direct).send("GET", blob)
    digest = Digest.parse(blob.rpartition("/")[2])
    assert answer.headers["x-accel-redirect"] == f"/_blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"
    assert answer.body == b""


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=199990-", 199_990, 200_000),
        ("bytes=199990-200000", 199_990, 200_000),
        ("bytes=-10", 199_990, 200_000),
    ],
)
def test_ranges_through_nginx(front: Front, blob: str, asked: str, start: int, end: int) -> None:
    """A range is answered with exactly its bytes and the blob's own headers; an end too far is clamped."""
    answer = front.site.send("GET", blob, {"Range": asked})
    digest = blob.rpartition("/")[2]
    assert (answer.status, answer.body) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["etag"] == f'"{digest}"'
    assert "x-accel-redirect" not in answer.headers


def test_a_range_past_the_end_is_an_empty_416(front: Front, blob: str) -> None:
    """Docker 0.12 to 1.9 take only a 416 without a body for the end of a layer."""
    answer = front.site.send("GET", blob, {"Range": f"bytes={len(CONTENT)}-"})
    assert (answer.status, answer.body) == (416, b"")
    assert answer.headers["content-length"] == "0"
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_conditions_through_nginx(front: Front, blob: str) -> None:
    """If-None-Match and If-Range compare with the digest, as they do without nginx."""
    digest = blob.rpartition("/")[2]
    assert front.site.send("GET", blob, {"If-None-Match": f'"{digest}"'}).status == 304
    assert front.site.send("GET", blob, {"If-None-Match": '"other"'}).status == 200
    wanted = {"Range": "bytes=0-9", "If-Range": f'"{digest}"'}
    assert front.site.send("GET", blob, wanted).body == CONTENT[:10]
    assert front.site.send("GET", blob, wanted | {"If-Range": '"other"'}).body == CONTENT


def test_blobs_are_never_content_encoded(front: Front) -> None:
    """Neither blobs nor documents are compressed once more, though every Docker offers to take gzip."""
    text = json.dumps(["compressible"] * 5000).encode()
    digest = push_blob(front.site, "encoding", text)
    for path in (f"/v2/encoding/blobs/{digest}", "/v2/_catalog"):
        answer = front.site.send("GET", path, {"Accept-Encoding": "gzip"})
        assert answer.status == 200
        assert "content-encoding" not in answer.headers
        assert answer.headers["content-length"] == str(len(answer.body))


def test_the_blob_folder_cannot_be_asked_for(front: Front, blob: str) -> None:
    """The location that nginx sends blobs from is not there for clients, however they spell it."""
    digest = Digest.parse(blob.rpartition("/")[2])
    place = f"sha256/{digest.hex[:2]}/{digest.hex}/data"
    assert (front.data / "docker/registry/v2/blobs" / place).read_bytes() == CONTENT
    for path in (f"/_blobs/{place}", f"/%5fblobs/{place}", f"/v2/../_blobs/{place}", f"//_blobs/{place}"):
        answer = front.site.send("GET", path)
        assert answer.status == 404, path
        assert CONTENT not in answer.body


def test_a_blob_of_another_repository_is_refused(front: Front, blob: str) -> None:
    """The registry decides who may read: nginx has the file, but the repository has not the blob."""
    answer = front.site.send("GET", blob.replace("/v2/ranges/", "/v2/other/"))
    assert answer.status == 404
    assert json.loads(answer.body)["errors"][0]["code"] in {"BLOB_UNKNOWN", "NAME_UNKNOWN"}


@pytest.mark.slow
def test_an_upload_streams_through_nginx(front: Front) -> None:
    """A chunked PATCH of 200 MiB: its first half is stored before the second is sent; nginx keeps no file."""
    piece, count = bytes(range(256)) * (MIB // 256), 200
    started = front.site.send("POST", "/v2/streams/blobs/uploads/", body=b"")
    location = started.headers["location"]
    staged = front.data / "uploads" / location.rpartition("/")[2]
    arrived, kept = [], []

    def body() -> Iterator[bytes]:
        yield from itertools.repeat(piece, count // 2)
        # Some is still in sockets and buffers; of a body that is collected first, nothing would be here.
        arrived.append(until(lambda: staged.exists() and staged.stat().st_size > count * MIB // 4))
        kept.extend(front.site.kept_on_disk())
        yield from itertools.repeat(piece, count // 2)

    patched = front.site.send("PATCH", location, {"Content-Type": "application/octet-stream"}, body())
    assert (patched.status, patched.headers["range"]) == (202, f"0-{count * MIB - 1}")
    assert (arrived, kept) == ([True], [])
    digest = f"sha256:{hashlib.sha256(piece * count).hexdigest()}"
    assert front.site.send("PUT", f"{location}?digest={digest}", body=b"").status == 201
    hasher = hashlib.sha256()
    with front.site.connected() as connection:
        connection.request("GET", f"/v2/streams/blobs/{digest}")
        response = connection.getresponse()
        while chunk := response.read(MIB):
            hasher.update(chunk)
    assert f"sha256:{hasher.hexdigest()}" == digest
    assert front.site.kept_on_disk() == []


def test_a_body_with_content_length_streams_too(front: Front) -> None:
    """The first half of a monolithic PUT is in the store before the second half is sent."""
    content = bytes(range(256)) * (8 * MIB // 256)
    started = front.site.send("POST", "/v2/streams/blobs/uploads/", body=b"")
    location = started.headers["location"]
    staged = front.data / "uploads" / location.rpartition("/")[2]
    with front.site.connected() as connection:
        connection.putrequest("PUT", f"{location}?digest={Digest.of(content)}")
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders()
        connection.send(content[: 4 * MIB])
        assert until(lambda: staged.exists() and staged.stat().st_size > 2 * MIB)
        connection.send(content[4 * MIB :])
        assert connection.getresponse().status == 201


@pytest.mark.slow
def test_without_x_accel_a_download_streams(certificate: Path, tmp_path: Path) -> None:
    """A blob that dualreg itself sends to a slow client is not kept on nginx's disk meanwhile."""
    content = bytes(range(256)) * (64 * MIB // 256)
    with (
        dualreg_server(tmp_path / "data") as direct,
        nginx_site("dualreg.conf", tmp_path / "nginx", certificate, direct, tmp_path / "data") as site,
        site.connected() as connection,
    ):
        connection.request("GET", f"/v2/slow/blobs/{push_blob(site, 'slow', content)}")
        response = connection.getresponse()
        received = response.read(MIB)
        assert not until(site.kept_on_disk, seconds=0.5)
        assert received + response.read() == content


def test_a_manifest_too_large_is_refused_by_dualreg(front: Front) -> None:
    """The proxy's limit is higher: the 413 for a manifest over 4 MiB has the registry's explanation."""
    headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    answer = front.site.send("PUT", "/v2/large/manifests/1", headers, bytes(5 * MIB))
    assert (answer.status, json.loads(answer.body)["errors"][0]["code"]) == (413, "MANIFEST_INVALID")


@pytest.mark.parametrize("transport", ["tls", "plain"])
def test_slow_bodies_of_anybody_are_nginx_s_to_wait_for(front: Front, transport: str) -> None:
    """More clients than threads that send a byte of a manifest each stop nobody, over TLS or without."""
    context = ssl.create_default_context(cafile=str(front.site.authority))
    head = b"PUT /v2/slow/manifests/1 HTTP/1.1\r\nHost: registry\r\nContent-Length: 300000\r\n\r\n{"
    with ExitStack() as stack:
        for _ in range(50):
            name, port = getattr(front.site, transport).split(":")
            client = stack.enter_context(closing(socket.create_connection((name, int(port)))))
            if transport == "tls":
                client = stack.enter_context(context.wrap_socket(client, server_hostname=name))
            client.sendall(head)
        for path in ("/v2/", "/v2/_catalog"):
            assert Wire(front.direct).send("GET", path).status == 200
            assert front.site.send("GET", path).status == 200


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/", "/v1/_ping", "/v2/_catalog", "/v2//x/tags/list", "/v2/x%2fy/tags/list"]
)
def test_paths_reach_dualreg_as_they_are(front: Front, path: str) -> None:
    """No path is tidied or redirected on its way: the answer is the one that dualreg gives itself."""
    through, direct = front.site.send("GET", path), Wire(front.direct).send("GET", path)
    assert (through.status, through.body) == (direct.status, direct.body)


def test_locations_work_over_https(front: Front) -> None:
    """The Location of an upload can be used as it is, by a client that knows nothing but the HTTPS name."""
    started = front.site.send("POST", "/v2/locations/blobs/uploads/", body=b"")
    content, location = b"through TLS", started.headers["location"]
    assert location.startswith("/v2/locations/blobs/uploads/")
    finished = front.site.send("PUT", f"{location}?digest={Digest.of(content)}", body=content)
    assert finished.status == 201
    assert front.site.send("GET", finished.headers["location"]).body == content


def endpoint(host: str, headers: Mapping[str, str]) -> str | None:
    """Return the endpoint of a V1 session with registry.test:443.

    It leaves out the default port of its scheme, so it shows whether HTTPS was believed.
    """
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        sent = {"Host": "registry.test:443", **headers}
        connection.request("PUT", "/v1/repositories/team/scheme/", b"[]", sent)
        return connection.getresponse().headers["X-Docker-Endpoints"]


def test_nginx_says_the_scheme(front: Front) -> None:
    """The registry learns from nginx that the client used HTTPS."""
    answer = front.site.send("PUT", "/v1/repositories/team/scheme/", {"Host": "registry.test:443"}, b"[]")
    assert answer.headers["x-docker-endpoints"] == "registry.test"


@pytest.mark.parametrize(
    "claim",
    [{"X-Forwarded-Proto": "https"}, {"X-Forwarded-Ssl": "on"}, {"X-Forwarded-Protocol": "ssl"}],
    ids=lambda claim: next(iter(claim)),
)
def test_a_clients_claim_of_https_is_dropped(front: Front, claim: dict[str, str]) -> None:
    """Over plain HTTP, whatever a client says of its scheme, nginx overrules."""
    assert endpoint(front.site.plain, claim) == "registry.test:443"


@pytest.mark.slow
def test_an_untrusted_proxy_is_not_believed(tmp_path: Path) -> None:
    """X-Forwarded-Proto counts only from DUALREG_TRUSTED_PROXIES; by default that is this host."""
    claim = {"X-Forwarded-Proto": "https"}
    with dualreg_server(tmp_path / "trusting") as host:
        assert endpoint(host, claim) == "registry.test"
    with dualreg_server(tmp_path / "wary", trusted_proxies="192.0.2.1") as host:
        assert endpoint(host, claim) == "registry.test:443"


def test_an_old_go_client_can_shake_hands(front: Front) -> None:
    """TLS 1.2 with the one cipher and curve that Docker 1.x surely has is enough; TLS 1.1 is refused."""
    offer = ["openssl", "s_client", "-connect", front.site.tls, "-CAfile", front.site.authority]
    old = [
        "-tls1_2",
        "-cipher",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "-curves",
        "P-256",
        "-sigalgs",
        "ECDSA+SHA256",
    ]
    done = subprocess.run([*offer, *old], input=b"", capture_output=True, timeout=20, check=False)
    assert b"Verify return code: 0 (ok)" in done.stdout
    older = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    refused = subprocess.run([*offer, *older], input=b"", capture_output=True, timeout=20, check=False)
    assert b"protocol version" in refused.stderr


@pytest.mark.parametrize(
    ("sent", "is_taken"),
    [("ours-1", True), ("", False), ("a b", False), ("x" * 129, False), ("eyJ0.e30.x", False)],
)
def test_requests_have_one_id_in_both_logs(front: Front, blob: str, sent: str, *, is_taken: bool) -> None:
    """The client's if it is valid, or nginx's; of remembered answers, too, and of what nginx sends itself."""
    document = f"/v2/ranges/blobs/{Digest.of(b'')}"
    ids = []
    for path in (blob, blob, document, "/v2/", "/v1/search?q=s3cret", "/v2/ranges/manifests/none"):
        found = front.site.send("GET", path, {"X-Request-Id": sent} if sent else {}).headers["x-request-id"]
        assert (found == sent) if is_taken else re.fullmatch("[0-9a-f]{32}", found)
        ids.append(found)
    assert is_taken or len({*ids}) == len(ids)
    logged = front.site.prefix / "access.log"
    assert until(lambda: all(f" {each} -\n" in logged.read_text() for each in ids))
    assert '"GET /v1/search HTTP/1.1" 200 ' in logged.read_text()
    assert "s3cret" not in logged.read_text()
    (own,) = front.data.parent.glob("dualreg-*.log")
    assert until(lambda: f" {ids[-1]} ranges\n" in own.read_text())
    assert "127.0.0.1 - - [" in own.read_text()
