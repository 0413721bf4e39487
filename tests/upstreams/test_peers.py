"""Registries that fetch from each other what one of them has from upstream."""

import json
import os
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from tests import builders
from tests.migrate.fronts import Front, Hostile, Step, cut, front, hostile, status
from tests.programs import dualreg_server
from tests.upstreams.world import Here, There, here

NAME = RepositoryName("hub/team/app")
LARGE = builders.image(builders.layer({"large": os.urandom(1 << 20)}), oci=True)
LAYER = Digest.of(LARGE.layers[0])
#: Nothing listens there.
DEAD = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def there(there: There) -> There:
    """The reference registry, with a larger image."""
    there.put("team/app", LARGE, "1")
    return there


def one(folder: Path, upstream: Front, *peers: str) -> AbstractContextManager[Here]:
    """Run a registry that has the upstream, and peers."""
    return here(folder, upstream.url, peers=", ".join(peers), namespaces=["docker.io"])


def blobs(front: Front) -> list[str]:
    """Return the digests of blobs that were sent, in their order."""
    sent = [path.rpartition("/")[2] for method, path in front.seen if method == "GET" and "/blobs/" in path]
    return sorted(sent)


@pytest.mark.slow
def test_what_a_peer_has_upstream_does_not_send(between: Front, tmp_path: Path) -> None:
    """By digest, nothing comes from upstream then. A peer that has nothing fetches nothing."""
    everything = sorted(map(str, LARGE.blobs))
    tables = json.dumps({"hub/*": {"url": between.url, "namespaces": ["docker.io"]}})
    with dualreg_server(tmp_path / "peer", upstreams=tables) as host, front(host) as peer:
        with one(tmp_path / "first", between, peer.url) as first:
            first.pull(NAME, LARGE, "1")
        assert (blobs(between), blobs(peer)) == (everything, [])
        for path in ("manifests/1", *(f"blobs/{digest}" for digest in LARGE.blobs)):
            There(host).send("GET", f"/v2/hub/team/app/{path}")
        between.seen.clear()
        with one(tmp_path / "second", between, DEAD, peer.url) as second:
            second.pull(NAME, LARGE, str(LARGE.digest))
            assert (between.seen, blobs(peer)) == ([], everything)
            second.pull(NAME, LARGE, "1")  # the tag is asked for upstream
            assert {path for _, path in between.seen} == {"/v2/team/app/manifests/1"}


@pytest.mark.parametrize(
    ("sent", "is_seen"),
    [
        (cut(LARGE.layers[0], 500_000), False),
        (status(500), False),
        (status(200, b"?" * len(LARGE.layers[0])), True),
    ],
    ids=["cut", "failed", "other bytes"],
)
def test_a_peer_that_fails(between: Front, tmp_path: Path, sent: Step, *, is_seen: bool) -> None:
    """Upstream sends the rest. Bytes that are not the blob end the pull; upstream sends it the next time."""
    with hostile() as peer, one(tmp_path / "data", between, peer.url) as registry:
        _offer(peer, LAYER, LARGE.layers[0], sent)
        registry.get(f"{NAME}/manifests/1")
        if is_seen:
            with suppress(ConnectionResetError):  # or an error, if nothing was sent before
                assert registry.get(f"{NAME}/blobs/{LAYER}").data != LARGE.layers[0]
            assert registry.registry.blobs.find(NAME, LAYER) is None
        assert registry.get(f"{NAME}/blobs/{LAYER}").data == LARGE.layers[0]
    assert blobs(between) == [str(LAYER)]


def test_a_peer_whose_manifest_is_another(between: Front, tmp_path: Path) -> None:
    """It is not taken for the one that was asked for, as it is stored, of what the peer has itself."""
    said = list[str]()
    other = builders.image(builders.layer({"other": b""}), oci=True).manifest

    def answer(handler: BaseHTTPRequestHandler) -> None:
        said.append(handler.headers["Cache-Control"])
        status(200, other, Content_Type=media_types.OCI_MANIFEST)(handler)

    with hostile() as peer, one(tmp_path / "data", between, peer.url) as registry:
        peer.answers[f"/v2/team/app/manifests/{LARGE.digest}"] = [answer]
        registry.pull(NAME, LARGE, str(LARGE.digest))
    assert said == ["only-if-cached, no-transform"]


def test_a_peer_that_offers_what_is_here(between: Front, tmp_path: Path) -> None:
    """That it says so gives no repository what another one has: upstream decides."""
    secret = b"of another repository"
    with hostile() as peer, one(tmp_path / "data", between, peer.url) as registry:
        path = f"own/app/blobs/uploads/?digest={Digest.of(secret)}"
        assert registry.client.post(f"/v2/{path}", data=secret).status_code == 201
        _offer(peer, Digest.of(secret), secret, status(500))
        assert registry.get(f"{NAME}/blobs/{Digest.of(secret)}").status_code == 404


def _offer(peer: Hostile, digest: Digest, content: bytes, sent: Step) -> None:
    """Have a peer offer a blob, and send something."""
    path = f"/v2/team/app/blobs/{digest}"
    peer.answers |= {f"HEAD {path}": [status(200, content)], f"GET {path}": [sent]}
