"""Blobs of a real registry, on their way through ``dualreg serve`` to clients."""

import http.client
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.cli import main
from dualreg.image.digest import Digest
from tests.builders import Image, image, layer
from tests.clients.stock import stock_registry
from tests.programs import Serving, children, dualreg_process, until
from tests.protocol.clients.v2 import V2Client
from tests.upstreams.link import Link, link

NAME, LAYERS, SIZE = "team/app", 3, 1 << 20
WAIT = 0.2


def _layer(number: int) -> bytes:
    return layer({f"{number}": random.Random(number).randbytes(SIZE)})  # noqa: S311 -- no secret


IMAGE: Image = image(*map(_layer, range(LAYERS)))
LAYER = IMAGE.layers[0]
PATH = f"/v2/hub/{NAME}/blobs/{Digest.of(LAYER)}"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The reference registry, with an image."""
    folder = tmp_path_factory.mktemp("stock")
    with stock_registry(folder / "data", folder) as tools:
        V2Client(tools.host).push(NAME, "1", IMAGE)
        yield tools.host


@pytest.fixture
def upstream(stock: str) -> Iterator[Link]:
    """The network before it."""
    with link(stock) as own:
        yield own


@pytest.fixture
def server(upstream: Link, tmp_path: Path) -> Iterator[Serving]:
    """``dualreg serve`` behind it, with several workers; its log has no traceback."""
    settings = {"upstreams": f"hub/*={upstream.url}", "workers": 3, "threads": 32, "audit": "off"}
    with dualreg_process(tmp_path / "data", **settings) as serving:
        yield serving
    assert "Traceback" not in serving.log.read_text()


@contextmanager
def asked(host: str, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """Yield the response to a GET, before its body; a server that is busy is asked again."""
    while True:
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status != 503:
            break
        response.close()
        connection.close()
        time.sleep(WAIT)
    with closing(connection), response:
        yield response


def get(host: str, path: str, **headers: str) -> bytes:
    """Return a body, whole."""
    with asked(host, path, **headers) as response:
        assert response.status in (200, 206)
        return response.read()


@pytest.mark.slow
def test_many_clients_cause_one_transfer_of_each_blob(upstream: Link, server: Serving) -> None:
    """They come at once, to all workers."""
    upstream.rate = 4 << 20

    def pull(_: int) -> bool:
        manifest = get(server.host, f"/v2/hub/{NAME}/manifests/1", Accept=IMAGE.media_type)
        blobs = IMAGE.blobs.items()
        same = (get(server.host, f"/v2/hub/{NAME}/blobs/{digest}") == blob for digest, blob in blobs)
        return manifest == IMAGE.manifest and all(same)

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(pull, range(32)))
    assert {*upstream.transfers.values()} == {1}
    assert len(upstream.transfers) == len(IMAGE.blobs)


@pytest.mark.slow
def test_the_first_bytes_arrive_before_the_last_have_left(upstream: Link, server: Serving) -> None:
    """A client reads what upstream has sent, and another one waits for bytes that it has not."""
    upstream.stall_at = half = len(LAYER) // 2
    with asked(server.host, PATH) as response, ThreadPoolExecutor() as pool:
        assert response.getheader("Content-Length") == str(len(LAYER))
        assert response.read(half - (128 << 10)) == LAYER[: half - (128 << 10)]
        assert upstream.sent < len(LAYER)
        late = f"bytes={half + 100_000}-{half + 100_999}"
        later = pool.submit(get, server.host, PATH, Range=late)
        several = pool.submit(get, server.host, PATH, Range=f"{late},0-9")
        time.sleep(WAIT)
        assert not later.done()
        upstream.flow.set()
        assert later.result() == LAYER[half + 100_000 : half + 101_000]
        assert LAYER[:10] in several.result()
        assert response.read() == LAYER[half - (128 << 10) :]
    assert upstream.transfers.total() == 1


@pytest.mark.slow
def test_head_transfers_nothing(upstream: Link, server: Serving) -> None:
    """It says how long the blob is; a client that has the blob gets none of it."""
    connection = http.client.HTTPConnection(server.host)
    connection.request("HEAD", PATH)
    assert connection.getresponse().getheader("Content-Length") == str(len(LAYER))
    connection.close()
    with asked(server.host, PATH, **{"If-None-Match": f'"{Digest.of(LAYER)}"'}) as response:
        assert response.status == 304
    with asked(server.host, PATH, Range=f"bytes={len(LAYER)}-") as response:
        assert response.status == 416
    assert upstream.sent == 0


@pytest.mark.slow
def test_a_client_that_leaves_ends_nothing(upstream: Link, server: Serving) -> None:
    """The blob is there soon after."""
    upstream.stall_at = len(LAYER) // 2
    with asked(server.host, PATH) as response:
        response.read(1000)
    upstream.flow.set()
    assert until(lambda: upstream.sent == len(LAYER))
    assert get(server.host, PATH) == LAYER
    assert upstream.transfers.total() == 1


@pytest.mark.slow
def test_a_damaged_blob_is_never_served_to_its_end(upstream: Link, server: Serving) -> None:
    """Its bytes are discarded; the next request gets those that upstream sends then."""
    upstream.damaged = True
    with asked(server.host, PATH) as response, pytest.raises(http.client.IncompleteRead) as cut:
        response.read()
    assert len(cut.value.partial) < len(LAYER)
    assert until(lambda: "what it sent is" in server.log.read_text())
    assert "Traceback" not in server.log.read_text()
    upstream.damaged = False
    assert get(server.host, PATH) == LAYER


@pytest.mark.slow
def test_another_process_goes_on_in_place_of_one_that_is_killed(
    upstream: Link, server: Serving, tmp_path: Path
) -> None:
    """Its own clients are cut off, others get all bytes, and upstream sends the rest only."""
    upstream.stall_at = len(LAYER) // 2
    upstreams = f"hub/*={upstream.url}"
    with (
        dualreg_process(tmp_path / "data", upstreams=upstreams, workers=1, audit="off") as other,
        asked(other.host, PATH) as lost,
        asked(server.host, PATH) as kept,
    ):
        beginnings = [each.read(1000) for each in (lost, kept)]
        os.kill(children(other.process.pid)[0], signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            lost.read()
        upstream.stall_at = None
        upstream.flow.set()
        assert beginnings[1] + kept.read() == LAYER
    assert upstream.transfers.total() == 2
    assert upstream.sent < 1.5 * len(LAYER)


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 500])
def test_an_error_of_upstream_is_passed_on(upstream: Link, server: Serving, status: int) -> None:
    """Nothing is here to be sent instead; it may succeed later."""
    upstream.status = status
    connection = http.client.HTTPConnection(server.host)
    connection.request("GET", PATH)
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.slow
def test_a_broken_transfer_is_resumed(upstream: Link, server: Serving) -> None:
    """Clients do not notice, and go on with their connections."""
    upstream.cut_at = len(LAYER) // 2
    with closing(http.client.HTTPConnection(server.host, timeout=30)) as connection:
        connection.connect()
        own = connection.sock
        for _ in range(2):
            connection.request("GET", PATH)
            with connection.getresponse() as response:
                assert response.read() == LAYER
        assert connection.sock is own
    assert upstream.sent <= len(LAYER) + (64 << 10)


@pytest.mark.slow
def test_what_was_fetched_is_counted(upstream: Link, tmp_path: Path) -> None:
    """Pulls, bytes and failures of all workers; all of it is written by the end of the server."""
    data = tmp_path / "data"
    settings = {"upstreams": f"hub/*={upstream.url}", "audit": "off"}
    with dualreg_process(data, **settings) as serving:
        for _ in range(3):
            get(serving.host, f"/v2/hub/{NAME}/manifests/1", Accept=IMAGE.media_type)
        get(serving.host, PATH)
        upstream.status = 500
        with asked(serving.host, PATH.replace(str(Digest.of(LAYER)), str(Digest.of(b"")))) as response:
            assert response.status == 500
    config = tmp_path / "dualreg.toml"
    config.write_text(f'upstreams = "hub/*={upstream.url}"')
    command = ["upstreams", "--json", "--data", str(data), "--config", str(config)]
    result = CliRunner().invoke(main, command)
    (counted,) = json.loads(result.stdout)
    expected = {"hits": 2, "misses": 2, "stale": 0, "errors": 1, "bytes": len(LAYER)}
    assert counted == {"upstream": upstream.url, **expected}
    assert (
        f"hub/*  2     2       0      1       {len(LAYER)}"
        in CliRunner().invoke(main, [word for word in command if word != "--json"]).stdout
    )


@pytest.mark.slow
def test_clients_beyond_the_threads_are_to_come_again(upstream: Link, tmp_path: Path) -> None:
    """With 503, after which Docker repeats the request; other requests find threads meanwhile."""
    upstream.stall_at = len(LAYER) // 2
    settings = {"upstreams": f"hub/*={upstream.url}", "workers": 1, "threads": 4, "audit": "off"}
    with dualreg_process(tmp_path / "data", **settings) as serving, asked(serving.host, PATH) as first:
        first.read(1000)
        refused = http.client.HTTPConnection(serving.host)
        refused.request("GET", PATH)
        response = refused.getresponse()
        assert (response.status, response.getheader("Retry-After")) == (503, "5")
        response.close()
        refused.close()
        assert get(serving.host, "/v2/") == b"{}"
        upstream.flow.set()
        first.read()
        assert get(serving.host, PATH) == LAYER
