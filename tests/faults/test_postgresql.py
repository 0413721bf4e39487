"""PostgreSQL ends and is started again in the middle of pushes: nothing is lost, and service returns."""

import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from tests import builders
from tests.contracts.postgresql import postgresql_cluster
from tests.programs import Process, children, dualreg_process, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Refused, Wire
from tests.soak import short_or_long

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

#: How often it ends.
ENDS = short_or_long(2, 30)
CLIENTS = 8
#: As it crashes, and as ``pg_ctl restart`` has it end with ``-m immediate``, ``-m fast``.
WAYS = [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT]


@dataclass
class Client:
    """Pushes one image after the other into a repository of its own, over V1 if its number is odd.

    Attributes:
        layers: Those of the images that were acknowledged.
        refused: How often a push had to be repeated.
    """

    host: str
    number: int
    layers: list[bytes] = field(default_factory=list)
    refused: int = 0

    @property
    def _name(self) -> str:
        return f"team/c{self.number}"

    def push_on(self, stop: Event) -> None:
        """Push until *stop* is set; what is refused is pushed again."""
        while not stop.is_set():
            try:
                self._push(builders.layer({"v": b"%d %d" % (self.number, len(self.layers))}))
            except Refused as error:
                if error.status != 503 or not error.retry_after:
                    raise
                self.refused += 1
                time.sleep(0.05)

    def _push(self, layer: bytes) -> None:
        tag = f"t{len(self.layers)}"
        if self.number % 2:
            V1Client(self.host).push(self._name, tag, builders.v1_chain(layer, seed=f"{self._name} {tag}"))
        else:
            V2Client(self.host).push(self._name, tag, builders.image(layer))
        self.layers.append(layer)

    def pull_all(self) -> Sequence[bytes]:
        """Return the layers of all images, over the other API."""
        tags = [f"t{number}" for number in range(len(self.layers))]
        if self.number % 2:
            return [V2Client(self.host).pull(self._name, tag).layers[0] for tag in tags]
        return [V1Client(self.host).pull(self._name, tag)[0].layer for tag in tags]


def answers_503(host: str) -> bool:
    """Tell whether both dialects ask to come back later."""
    for path in ("/v2/team/c0/tags/list", "/v1/repositories/team/c1/tags"):
        answer = Wire(host).send("GET", path)
        if answer.status != 503:
            return False
        assert int(answer.headers["retry-after"]) > 0
        assert (b'"errors"' in answer.body) == path.startswith("/v2")
    return True


def end(server: Process, way: signal.Signals) -> None:
    """End PostgreSQL, and wait until it has ended."""
    backends = children(server.pid)
    server.send_signal(way)
    server.wait(20)
    assert until(lambda: not any(Path(f"/proc/{each}").exists() for each in backends))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_postgresql_restarts(tmp_path: Path, way: signal.Signals) -> None:
    """Clients get 503 and try again; all that was acknowledged can be pulled, and no restart is needed."""
    stop = Event()
    with postgresql_cluster() as cluster, ExitStack() as stack:
        with cluster.running() as process:
            data, url = tmp_path / "data", cluster.url()
            with closing(Catalog(url)) as catalog:
                upgrade(catalog)
            options = {"database": url, "audit": "off", "gc_interval": "0s"}
            serving = stack.enter_context(dualreg_process(data, workers=2, **options))
            assert until(lambda: len(children(serving.process.pid)) == 2)
            workers, pool = children(serving.process.pid), stack.enter_context(ThreadPoolExecutor(CLIENTS))
            stack.callback(stop.set)
            clients = [Client(serving.host, number) for number in range(CLIENTS)]
            pushing: list[Future[None]] = [pool.submit(each.push_on, stop) for each in clients]
            assert until(lambda: all(each.layers for each in clients), 60)
            end(process, way)
        for turn in range(ENDS):
            assert until(lambda: answers_503(serving.host))
            with cluster.running() as process:
                wanted = {each.number: len(each.layers) + 1 for each in clients}
                assert until(lambda: all(len(each.layers) >= wanted[each.number] for each in clients), 60)  # noqa: B023 -- called at once
                if turn < ENDS - 1:
                    end(process, way)
                    continue
                stop.set()
                for each in pushing:
                    each.result()
                assert until(lambda: Wire(serving.host).send("GET", "/_status").status == 200)
                for client in clients:
                    assert client.pull_all() == client.layers
        assert min(each.refused for each in clients) > 0
        assert children(serving.process.pid) == workers
        assert "Traceback" not in serving.log.read_text()
