"""What is here is served while more clients than there are threads wait for an upstream that is slow."""

import http.client
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from tests.builders import image, layer, zstd_image
from tests.clients.stock import stock_registry
from tests.programs import dualreg_process
from tests.upstreams.link import link
from tests.upstreams.world import ACCEPT, There

#: Threads of the only process, and clients that ask again and again for what is not here.
THREADS, CLIENTS = 8, 27
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
#: Images of which only the manifest is here, and after how many bytes their layers stall.
NOISE = random.Random(1).randbytes(400_000)  # noqa: S311 -- no secret
COLD, ZSTD, STALL_AT = image(layer({"cold": NOISE})), zstd_image(layer({"zstd": NOISE})), 64 << 10
DOCKER_20_10 = {
    "Accept": ", ".join((*media_types.IMAGES, *media_types.INDEXES)),
    "User-Agent": "docker/20.10.24 go/go1.18 os/linux arch/amd64",
}
#: For how many seconds requests are made for what is here.
LONG = 4.0


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    """A reference registry with images."""
    folder = tmp_path_factory.mktemp("there")
    with stock_registry(folder / "data", folder) as tools:
        registry = There(tools.host)
        registry.put("team/app", WARM, "1")
        registry.put("team/cold", COLD, "1")
        registry.put("team/zstd", ZSTD, "1")
        yield registry


def ask(
    host: str, method: str, path: str, address: str, headers: dict[str, str] = ACCEPT
) -> tuple[int, float]:
    """Return the status of an answer that a client at an address gets, and the seconds that it took."""
    began = time.monotonic()
    with closing(http.client.HTTPConnection(host, timeout=60, source_address=(address, 0))) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(("delay", "check_interval"), [(2, "1h"), (300, "0s")])
def test_what_is_here_is_served(there: There, tmp_path: Path, delay: float, check_interval: str) -> None:
    """All of it, and soon, also a tag that is due to be compared.

    A third of the other clients wait for answers of the upstream, a third for bytes of a layer, and a third,
    which read no zstd, for an edition of a layer that does not arrive.
    """
    config, stopped = tmp_path / "config.toml", threading.Event()

    def wait_for_upstream(number: int) -> list[int]:
        """Ask for what is not here, and return the statuses of the answers; 0 if one was not complete."""
        answers = list[int]()
        while not stopped.wait(0.1):
            path, headers = f"/v2/hub/cold{number}/n{len(answers)}/manifests/1", ACCEPT
            if number % 3 == 1:
                path = f"/v2/hub/team/cold/blobs/{Digest.of(COLD.layers[0])}"
            elif number % 3 == 2:
                path, headers = "/v2/hub/team/zstd/manifests/1", DOCKER_20_10
            try:
                answers.append(ask(host, "GET", path, f"127.0.1.{number}", headers)[0])
            except (OSError, http.client.HTTPException):
                answers.append(0)
        return answers

    with link(there.host) as between, ThreadPoolExecutor(CLIENTS) as pool:
        config.write_text(
            f'[upstreams."hub/*"]\nurl = "{between.url}"\ncheck_interval = "{check_interval}"\n'
        )
        settings = {"config": str(config), "workers": 1, "threads": THREADS, "audit": "off"}
        with dualreg_process(tmp_path / "data", **settings) as serving:
            host, manifests = serving.host, [f"/v2/hub/team/{name}/manifests/1" for name in ("cold", "zstd")]
            assert {ask(host, "GET", path, "127.0.0.9")[0] for path in (*PATHS, *manifests)} == {200}
            between.delay, between.stall_at = delay, STALL_AT
            waiting = [pool.submit(wait_for_upstream, number) for number in range(1, CLIENTS + 1)]
            answers, end = list[tuple[float, int, str, str]](), time.monotonic() + LONG
            while time.monotonic() < end:
                for method in ("HEAD", "GET"):
                    for path in PATHS:
                        status, seconds = ask(host, method, path, "127.0.0.9")
                        answers.append((seconds, status, method, path))
            stopped.set()
            between.flow.set()
            cold = [{*each.result()} for each in waiting]
    assert [each for each in answers if each[1] != 200] == []
    assert max(answers)[0] < 10, sorted(answers)[-5:]
    for kind in range(3):
        statuses = set[int]().union(*cold[kind::3])
        assert statuses <= {0, 200, 404, 429, 503}
        assert statuses & {429, 503}
