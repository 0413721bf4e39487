"""PostgreSQL is killed and started again in the middle of pushes: nothing is lost, and service returns."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import Any

from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from tests import builders
from tests.contracts.postgresql import postgresql_cluster
from tests.programs import dualreg_process, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Refused, Wire
from tests.soak import short_or_long

#: How often it is killed.
KILLS = short_or_long(2, 30)


def push_v2(host: str, number: int) -> builders.Image:
    """Push an image of its own."""
    image = builders.image(builders.layer({"v2": b"%d" % number}))
    V2Client(host).push("team/v2", f"t{number}", image)
    return image


def push_v1(host: str, number: int) -> list[Any]:
    """Push a V1 image of its own."""
    chain = builders.v1_chain(builders.layer({"v1": b"%d" % number}), seed=f"{number}")
    V1Client(host).push("team/v1", f"t{number}", chain)
    return chain


def push_on(host: str, push: Callable[[str, int], Any], done: list[Any], stop: Event) -> int:
    """Push one image after the other until *stop* is set; return how often a push had to be repeated.

    Args:
        done: Gets what was stored.
    """
    refused = 0
    while not stop.is_set():
        try:
            done.append(push(host, len(done)))
        except Refused as error:
            if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            refused += 1
            time.sleep(0.05)
    return refused


def answers_503(host: str) -> bool:
    """Tell whether both dialects ask to come back later."""
    for path in ("/v2/team/v2/tags/list", "/v1/repositories/team/v1/tags"):
        answer = Wire(host).send("GET", path)
        if answer.status != 503:
            return False
        assert int(answer.headers["retry-after"]) > 0
        assert (b'"errors"' in answer.body) == path.startswith("/v2")
    return True


def test_postgresql_is_killed(tmp_path: Path) -> None:
    """Clients get 503 and try again; all that was acknowledged can be pulled, and no restart is needed."""
    stop, v2, v1 = Event(), list[builders.Image](), list[list[Any]]()
    with postgresql_cluster() as cluster, ExitStack() as stack:
        with cluster.running() as process:
            data, url = tmp_path / "data", cluster.url()
            with closing(Catalog(url)) as catalog:
                upgrade(catalog)
            serving = stack.enter_context(dualreg_process(data, database=url, audit="off", workers=2))
            host, pool = serving.host, stack.enter_context(ThreadPoolExecutor(2))
            stack.callback(stop.set)
            pushing = [pool.submit(push_on, host, *each, stop) for each in ((push_v2, v2), (push_v1, v1))]
            assert until(lambda: v2 and v1)
            process.kill()
        for _ in range(KILLS - 1):
            assert until(lambda: answers_503(host))
            with cluster.running() as process:
                before = len(v2), len(v1)
                assert until(lambda: len(v2) > before[0] and len(v1) > before[1])  # noqa: B023 -- called at once
                process.kill()
        assert until(lambda: answers_503(host))
        with cluster.running():
            assert until(lambda: Wire(host).send("GET", "/_status").status == 200)
            stop.set()
            assert min(each.result() for each in pushing) > 0
            for number, image in enumerate(v2):
                pulled = V2Client(host).pull("team/v2", f"t{number}")
                assert [*pulled.layers] == [*image.layers]
            for number, chain in enumerate(v1):
                assert [image.layer for image in V1Client(host).pull("team/v1", f"t{number}")] == [
                    image.layer for image in chain
                ]
        assert "Traceback" not in serving.log.read_text()
