"""immutable.conf: nginx answers what has a digest, as dualreg would, and only while it may."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dualreg.assembly import open_registry
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests import builders, signers
from tests.auth.conftest import PASSWORD, basic, bearer, ends
from tests.nginx.site import Site, compared, nginx_site
from tests.programs import dualreg_process, dualreg_server, until
from tests.properties.registries import push_v2
from tests.protocol.clients.libtrust import signed
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire
from tests.protocol.test_schema1 import payload
from tests.signers import key_of, push

pytestmark = pytest.mark.client

NAME = "team/app"
IMAGE = builders.image(builders.layer({"a": bytes(range(256)) * 40}))
UNTYPED = json.dumps(
    {key: value for key, value in json.loads(IMAGE.manifest).items() if key != "mediaType"}
).encode()
SCHEMA1 = payload(NAME, layers=(EMPTY_LAYER,), ids=(f"{1:064x}",))
LOOSE = b"a blob that nothing names"
LAYER = next(iter(IMAGE.blobs))
#: For how many seconds an answer may be remembered, and for how many the test may be late.
MEMORY, LATE = 5, 1.5

BLOB, MANIFEST = f"/v2/{NAME}/blobs/{LAYER}", f"/v2/{NAME}/manifests/{IMAGE.digest}"
PATHS = {
    "a layer": BLOB,
    "a loose blob": f"/v2/{NAME}/blobs/{Digest.of(LOOSE)}",
    "a blob without bytes": f"/v2/{NAME}/blobs/{Digest.of(b'')}",
    "the empty layer": f"/v2/{NAME}/blobs/{Digest.of(EMPTY_LAYER)}",
    "a blob with SHA-512": f"/v2/{NAME}/blobs/sha512:{hashlib.sha512(LOOSE).hexdigest()}",
    "a blob of another repository": f"/v2/team/other/blobs/{LAYER}",
    "an unknown blob": f"/v2/{NAME}/blobs/{Digest.of(b'unknown')}",
    "a manifest that is asked for as a blob": f"/v2/{NAME}/blobs/{IMAGE.digest}",
    "a manifest": MANIFEST,
    "a manifest without a media type": f"/v2/{NAME}/manifests/{Digest.of(UNTYPED)}",
    "a signed manifest": f"/v2/{NAME}/manifests/{Digest.of(SCHEMA1)}",
    "a manifest of another repository": f"/v2/team/other/manifests/{IMAGE.digest}",
    "a layer that is asked for as a manifest": f"/v2/{NAME}/manifests/{LAYER}",
    "a query": f"{BLOB}?ns=docker.io",
    "a manifest with a query": f"{MANIFEST}?ns=docker.io",
    "an escaped digest": BLOB.replace("sha256:", "sha256%3A"),
    "dots": BLOB.replace("/team/", "/x/../team/"),
    "dots after the name": f"/v2/{NAME}/blobs/x/../{LAYER}",
    "two slashes": BLOB.replace("/blobs/", "//blobs/"),
    "a slash at the end": f"{BLOB}/",
    "capitals": BLOB.replace("/team/", "/Team/"),
    "a digest in capitals": f"/v2/{NAME}/blobs/sha256:{LAYER.hex.upper()}",
}  # fmt: skip
HEADERS = {
    "whole": {},
    "a range from the start": {"Range": "bytes=0-9"},
    "all as a range": {"Range": "bytes=0-"},
    "a range too long": {"Range": "bytes=0-99999999"},
    "a range in the middle": {"Range": "bytes=5-9"},
    "a range from the end": {"Range": "bytes=-5"},
    "a range past the end": {"Range": "bytes=99999999-"},
    "a range that ends before it starts": {"Range": "bytes=5-2"},
    "If-Range": {"Range": "bytes=0-9", "If-Range": f'"{LAYER}"'},
    "another If-Range": {"Range": "bytes=0-9", "If-Range": '"other"'},
    "If-None-Match": {"If-None-Match": f'"{LAYER}", W/"{IMAGE.digest}"'},
    "another If-None-Match": {"If-None-Match": '"other"'},
    "If-Modified-Since": {"If-Modified-Since": "Sat, 28 Nov 2026 12:00:00 GMT"},
    "Accept": {"Accept": "application/vnd.oci.image.index.v1+json", "Accept-Encoding": "gzip"},
    "no-transform": {"Cache-Control": "no-transform, no-cache"},
    "an origin": {"Origin": "https://example.com"},
    "Docker 1.5": {"User-Agent": "docker/1.5.0 go/go1.4.1 kernel/3.16 os/linux arch/amd64"},
    "Docker 1.8": {"User-Agent": "docker/1.8.3 go/go1.4.2 os/linux arch/amd64"},
}  # fmt: skip


class Pair(NamedTuple):
    """Two registries over one store, of which one is behind nginx; *log* is the log of that."""

    site: Site
    alone: str
    log: Path

    def asked(self) -> int:
        """Return how many requests the first one has answered."""
        time.sleep(0.1)  # it writes its log after it has answered
        return self.log.read_text().count(" HTTP/1.")


@pytest.fixture(scope="module")
def pair(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """With an image, and all else that PATHS names."""
    folder = tmp_path_factory.mktemp("pair")
    data, key = folder / "data", ec.generate_private_key(ec.SECP256R1())
    notice = {"notice": "closed on Sunday"}
    with (
        dualreg_process(data, x_accel_prefix="/_blobs", access_log="true", **notice) as (direct, _, log),
        dualreg_server(data, **notice) as alone,
        nginx_site("dualreg.conf", folder / "nginx", certificate, direct, data) as site,
    ):
        client = V2Client(site.plain)
        client.push(NAME, "one", IMAGE)
        client.push("team/other", "two", builders.image(builders.layer({"b": b"2"})))
        for content in (LOOSE, b"", EMPTY_LAYER):
            client.push_blob(NAME, str(Digest.of(content)), content)
        client.push_blob(NAME, f"sha512:{hashlib.sha512(LOOSE).hexdigest()}", LOOSE)
        client.push_manifest(NAME, str(Digest.of(UNTYPED)), IMAGE.media_type, UNTYPED)
        typed, old = {"Content-Type": media_types.SCHEMA1_SIGNED}, f"/v2/{NAME}/manifests/old"
        assert site.send("PUT", old, typed, signed(SCHEMA1, key)).status == 201
        yield Pair(site, alone, log)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_answers_are_those_of_dualreg(pair: Pair, path: str, method: str) -> None:
    """Byte for byte and header for header, the first time and when they are remembered."""
    for what, headers in HEADERS.items():
        host = Wire(pair.alone)
        expected = compared(host.send(method, PATHS[path], headers))
        for _ in range(2):
            assert compared(Wire(pair.site.plain).send(method, PATHS[path], headers)) == expected, what


@pytest.mark.parametrize(
    "path", ["a layer", "a loose blob", "a manifest", "a query", "a manifest with a query"]
)
def test_dualreg_is_not_asked_again(pair: Pair, path: str) -> None:
    """Within a second of the first answer, there are many without it, to GET and to HEAD."""
    until(lambda: pair.site.send("GET", PATHS[path]).status == 200 and time.time() % 1 < 0.2)
    before = pair.asked()
    for method in ["GET", "HEAD"] * 10:
        assert pair.site.send(method, PATHS[path]).status == 200
    assert pair.asked() - before <= 3  # memory may end meanwhile


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (BLOB, {"If-None-Match": '"other"'}),
        (BLOB, {"Range": "bytes=1-2"}),
        (BLOB, basic("alice")),
        (BLOB, {"Authorization": "Bearer a b"}),
        (PATHS["a manifest without a media type"], {}),
        (PATHS["a signed manifest"], {}),
        (f"/v2/{NAME}/manifests/one", {}),
    ],
)
def test_what_dualreg_answers_each_time(pair: Pair, path: str, headers: dict[str, str]) -> None:
    """Conditions, passwords, and manifests that may be answered otherwise next time."""
    before = pair.asked()
    for _ in range(5):
        pair.site.send("GET", path, headers)
    assert pair.asked() - before >= 5


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_what_is_deleted_is_unknown_at_once(pair: Pair, kind: str) -> None:
    """Though it was answered by nginx just before; pushed again, it is known again."""
    client, content = (
        V2Client(pair.site.plain),
        UNTYPED.replace(b"{", b'{"mediaType": "%s",' % IMAGE.media_type.encode(), 1),
    )
    digest = Digest.of(content)
    path = f"/v2/{NAME}/{kind}/{digest}"
    for _ in range(2):
        if kind == "blobs":
            client.push_blob(NAME, str(digest), content)
        else:
            client.push_manifest(NAME, str(digest), IMAGE.media_type, content)
        assert [pair.site.send("GET", path).body for _ in range(3)] == [content] * 3
        assert pair.site.send("DELETE", path).status == 202
        for method in ("GET", "HEAD"):
            answer = pair.site.send(method, path)
            assert answer.status == 404
        assert json.loads(pair.site.send("GET", path).body)["errors"][0]["code"].endswith("_UNKNOWN")


@pytest.mark.parametrize("path", ["/_pull", f"/_pull?repository={NAME}", "/_blob", "/%5fpull"])
def test_what_nginx_asks_itself_is_not_for_clients(pair: Pair, path: str) -> None:
    """The locations are not there, and say nothing."""
    answer = pair.site.send("GET", path)
    assert answer.status == 404
    assert "x-accel-expires" not in answer.headers


@pytest.mark.slow
def test_lost_bytes_are_soon_unknown(pair: Pair) -> None:
    """A file that is gone is noticed within the time for which open files are kept."""
    content = b"about to be lost"
    digest = Digest.of(content)
    path = f"/v2/{NAME}/blobs/{digest}"
    V2Client(pair.site.plain).push_blob(NAME, str(digest), content)
    assert pair.site.send("GET", path).body == content
    FilesystemStore(pair.log.parent / "data").path(digest).unlink()
    assert until(lambda: pair.site.send("GET", path).status == 404, MEMORY + LATE)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"cors_origins": "https://example.com"}, {"request_limit": "5/h"}, {}])
def test_what_nginx_may_not_answer(certificate: Path, tmp_path: Path, settings: dict[str, str]) -> None:
    """With answers of their own for web pages, with a limit of requests, or without the prefix: nothing."""
    data, chosen = tmp_path / "data", settings and {"x_accel_prefix": "/_blobs", **settings}
    with (
        dualreg_server(data) as alone,
        dualreg_process(data, access_log="true", **chosen) as (direct, _, log),
        nginx_site("dualreg.conf", tmp_path / "nginx", certificate, direct, data) as site,
    ):
        V2Client(alone).push(NAME, "one", IMAGE)
        answers = [site.send("GET", path) for path in [BLOB, MANIFEST, BLOB] * 2]
        limited = "request_limit" in settings
        assert [answer.status for answer in answers] == [200] * 5 + [429 if limited else 200]
        assert log.read_text().count(f"{MANIFEST} HTTP") == 2
        assert "error]" not in (site.prefix / "error.log").read_text()


@pytest.mark.slow
def test_pages_of_other_origins_read_blobs(certificate: Path, tmp_path: Path) -> None:
    """The headers that let them are there, though nginx sends the file."""
    data, origin = tmp_path / "data", "https://example.com"
    with (
        dualreg_server(data, x_accel_prefix="/_blobs", cors_origins=origin) as direct,
        nginx_site("dualreg.conf", tmp_path / "nginx", certificate, direct, data) as site,
    ):
        V2Client(direct).push(NAME, "one", IMAGE)
        head = Wire(direct).send("HEAD", BLOB, {"Origin": origin})
        answer = site.send("GET", BLOB, {"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert compared(answer)[1] == compared(head)[1]
        assert site.send("GET", BLOB).headers["vary"] == "Origin"


@dataclass(frozen=True)
class Guarded:
    """A registry with accounts behind nginx."""

    site: Site
    accounts: Accounts
    audit: Path

    def token(self, account: str, password: str = PASSWORD) -> dict[str, str]:
        """Return the header with a token to pull from NAME."""
        asked = self.site.send("GET", f"/token?scope=repository:{NAME}:pull", basic(account, password))
        return bearer(json.loads(asked.body)["token"])

    def denials(self) -> int:
        """Return how many lines of the audit log say that something was denied."""
        return self.audit.read_text().count('"denied"')


@pytest.fixture(scope="module")
def guarded(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Alice may push and pull everywhere, bob nowhere, and mallory may not log in."""
    folder = tmp_path_factory.mktemp("guarded")
    data = folder / "data"
    with (
        dualreg_server(data, x_accel_prefix="/_blobs", auth="accounts", token_leeway="0s") as direct,
        nginx_site("dualreg.conf", folder / "nginx", certificate, direct, data) as site,
    ):
        registry = open_registry(Settings(data=data))
        accounts = Accounts(registry.state.catalog, Passwords(rounds=4))
        for name in ("alice", "bob"):
            accounts.add(name, PASSWORD)
        accounts.grant("alice", "*", "pull,push,delete")
        push_v2(registry, RepositoryName(NAME), Tag("one"), IMAGE)
        yield Guarded(site, accounts, data / "audit.jsonl")
        registry.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", [BLOB, MANIFEST])
def test_nobody_reads_what_somebody_else_has_just_read(guarded: Guarded, path: str) -> None:
    """What is remembered for one client is refused to others, in the dialect, with one line in the log."""
    token, of_bob = guarded.token("alice"), guarded.token("bob")
    for _ in range(2):
        for method in ("GET", "HEAD"):
            answer = guarded.site.send(method, path, token)
            assert answer.status == 200
            assert answer.headers.get("cache-control", "private").startswith("private")
    before = guarded.denials()
    for headers in ({}, of_bob, bearer("forged"), {"Authorization": token["Authorization"] + "A"}):
        for method in ("GET", "HEAD"):
            answer = guarded.site.send(method, path, headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].count("Bearer realm=") == 1
        body = guarded.site.send("GET", path, headers).body
        assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
    assert guarded.site.send("GET", path, basic("bob")).status == 403
    assert guarded.denials() - before == 13
    assert guarded.site.send("GET", path, token).status == 200
    kept = [file.read_bytes() for file in (guarded.site.prefix / "cache").rglob("*") if file.is_file()]
    assert any(NAME.encode() in content for content in kept)
    assert not any(token["Authorization"].split(".")[1].encode() in content for content in kept)


@pytest.mark.slow
def test_wrong_passwords_count_once(guarded: Guarded) -> None:
    """As many may fail as without nginx: it asks nothing about passwords."""
    wrong = [guarded.site.send("GET", BLOB, basic("mallory", f"wrong {n}")).status for n in range(11)]
    assert wrong == [401] * 10 + [429]


@pytest.mark.slow
@pytest.mark.parametrize("path", [BLOB, MANIFEST])
def test_a_revoked_reader_goes_on_for_five_seconds_at_most(guarded: Guarded, path: str) -> None:
    """What nginx has seen allowed, it allows until then; the next look says no."""
    guarded.accounts.grant("anonymous", NAME, "pull")
    assert until(lambda: guarded.site.send("GET", path).status == 200, MEMORY + LATE)
    time.sleep(MEMORY + LATE)  # so that the memory is new
    assert guarded.site.send("GET", path).status == 200
    guarded.accounts.ungrant("anonymous", NAME, None)
    revoked = time.monotonic()
    assert guarded.site.send("GET", path).status == 200
    assert until(lambda: guarded.site.send("GET", path).status == 401, MEMORY + LATE)
    assert time.monotonic() - revoked < MEMORY + LATE


@pytest.mark.slow
def test_a_token_is_not_remembered_for_longer_than_it_is_valid(guarded: Guarded) -> None:
    """It ends with the key that it was issued for."""
    key = guarded.accounts.add_key("alice", limits="", note="", lifetime=timedelta(seconds=4)).text
    token = guarded.token("alice", key)
    expires, served = ends(token["Authorization"].removeprefix("Bearer ")), []
    while (now := time.time()) < expires + 1:
        served.append((now, guarded.site.send("GET", BLOB, token).status))
    assert {status for at, status in served if at < expires - 0.5} == {200}
    assert {status for at, status in served if at >= expires} == {401}


@pytest.mark.slow
def test_repositories_whose_images_must_be_signed(certificate: Path, tmp_path: Path) -> None:
    """All requests to them are handed on, though nginx remembers the same manifest of another repository."""
    key, data = key_of("ecdsa"), tmp_path / "data"
    (tmp_path / "release.pub").write_bytes(signers.public_pem(key))
    table = {"repositories": "team/*", "keys": str(tmp_path / "release.pub"), "mode": "refuse", "on": "pull"}
    policies = json.dumps({"release": table})
    with (
        dualreg_process(data, x_accel_prefix="/_blobs", workers=1, signatures=policies) as (direct, _, _),
        nginx_site("dualreg.conf", tmp_path / "nginx", certificate, direct, data) as site,
    ):
        client = V2Client(site.plain)
        for name in (NAME, "other/app"):
            client.push(name, "one", IMAGE)
        other = MANIFEST.replace(NAME, "other/app")
        assert [site.send("GET", path).status for path in (other, MANIFEST) * 3] == [200, 403] * 3
        with closing(open_registry(Settings(data=data))) as registry:
            push(registry, RepositoryName(NAME), signers.cosign_bundle(IMAGE, key))
        signed_now = [site.send("GET", MANIFEST) for _ in range(3)]
        assert [answer.status for answer in signed_now] == [200] * 3
        assert site.send("GET", BLOB).status == 200
