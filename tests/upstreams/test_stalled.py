"""What is here is served while more clients than there are threads wait for an upstream that is slow."""

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests.builders import image, layer
from tests.clients.stock import stock_registry
from tests.migrate.fronts import front
from tests.programs import dualreg_process
from tests.upstreams.world import ACCEPT, There

#: Threads of the only process, and clients that ask again and again for what is not here.
THREADS, CLIENTS = 8, 24
#: The image that is here, with a layer that takes a slot of downloads.
WARM = image(layer({"warm": bytes(range(256)) * 400}))
BASE = "/v2/hub/team/app"
PATHS = (
    f"{BASE}/manifests/1",
    f"{BASE}/manifests/{WARM.digest}",
    *(f"{BASE}/blobs/{digest}" for digest in WARM.blobs),
    f"{BASE}/tags/list",
    "/v1/repositories/hub/team/app/tags/1",
)
#: For how many seconds requests are made for what is here.
LONG = 6.0


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    """A reference registry with an image."""
    folder = tmp_path_factory.mktemp("there")
    with stock_registry(folder / "data", folder) as tools:
        registry = There(tools.host)
        registry.put("team/app", WARM, "1")
        yield registry


def ask(host: str, method: str, path: str, address: str) -> tuple[int, float]:
    """Return the status of an answer that a client at an address gets, and the seconds that it took."""
    began = time.monotonic()
    with closing(http.client.HTTPConnection(host, timeout=60, source_address=(address, 0))) as connection:
        connection.request(method, path, headers=ACCEPT)
        response = connection.getresponse()
        response.read()
        return response.status, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(("delay", "check_interval", "soon"), [(2, "1h", 4), (300, "0s", 30)])
def test_what_is_here_is_served(
    there: There, tmp_path: Path, delay: float, check_interval: str, soon: float
) -> None:
    """All of it, and soon; only who asks for a tag that is due to be compared waits for the upstream, too."""
    config, stopped = tmp_path / "config.toml", threading.Event()

    def wait_for_upstream(number: int) -> list[int]:
        """Ask for images and blobs that are not here, and return the statuses of the answers."""
        answers = list[int]()
        while not stopped.wait(0.1):
            name = f"/v2/hub/cold{number}/n{len(answers)}"
            path = f"{name}/blobs/{Digest.of(name.encode())}" if number % 2 else f"{name}/manifests/1"
            answers.append(ask(host, "GET", path, f"127.0.1.{number}")[0])
        return answers

    with front(there.host) as between, ThreadPoolExecutor(CLIENTS) as pool:
        config.write_text(
            f'[upstreams."hub/*"]\nurl = "{between.url}"\ncheck_interval = "{check_interval}"\n'
        )
        settings = {"config": str(config), "workers": 1, "threads": THREADS, "audit": "off"}
        with dualreg_process(tmp_path / "data", **settings) as serving:
            host = serving.host
            assert {ask(host, "GET", path, "127.0.0.9")[0] for path in PATHS} == {200}
            between.delay = delay
            waiting = [pool.submit(wait_for_upstream, number) for number in range(1, CLIENTS + 1)]
            answers, end = list[tuple[float, int, str, str]](), time.monotonic() + LONG
            while time.monotonic() < end:
                for method in ("HEAD", "GET"):
                    for path in PATHS:
                        status, seconds = ask(host, method, path, "127.0.0.9")
                        answers.append((seconds, status, method, path))
            stopped.set()
            cold = [status for each in waiting for status in each.result()]
    assert [each for each in answers if each[1] != 200] == []
    assert max(answers)[0] < soon, sorted(answers)[-5:]
    assert 503 in cold
    assert set(cold) <= {404, 503}
