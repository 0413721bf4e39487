"""An instance is killed while clients of both generations push and pull."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests import builders
from tests.clients.tools import Failed, Tools
from tests.instances.conftest import STORAGES
from tests.instances.fleet import Fleet, fleet, shared_storage
from tests.programs import DUALREG, children, require, running, wait_until_up
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import ProtocolError
from tests.soak import SOAK, short_or_long

pytestmark = [pytest.mark.postgres, pytest.mark.client, pytest.mark.slow]

Result = TypeVar("Result")
#: Seconds for which clients work, and between two kills.
SECONDS, BETWEEN = short_or_long(6, 900), short_or_long(2, 10)
#: How often Docker tries to send or fetch a layer, and how often a person repeats what is given up: a push by
#: Docker 1.5, or by skopeo, which repeats much, but not what was answered 502 in the middle of a body.
TRIES, PUSHES = 5, 3
#: What a client may see of an instance that was killed in the middle of a request.
BROKEN = (OSError, HTTPException, ProtocolError, Failed)


def persist(act: Callable[[], Result], tries: int) -> Result:
    """Do something up to *tries* times, with growing pauses, as clients do."""
    for number in range(1, tries):
        with suppress(*BROKEN):
            return act()
        time.sleep(0.2 * number)
    return act()


class Docker(V2Client):
    """Docker of today: of all that it asks, it only tries layers again, from their beginning."""

    def push_blob(self, name: str, digest: str, data: bytes) -> bool:
        """Push a blob."""
        return persist(lambda: super(Docker, self).push_blob(name, digest, data), TRIES)

    def pull_blob(self, name: str, descriptor: dict[str, Any]) -> bytes:
        """Pull a blob."""
        return persist(lambda: super(Docker, self).pull_blob(name, descriptor), TRIES)


class Work:
    """What one client pushes, and what was acknowledged: layers by repository and tag."""

    def __init__(self, fleet: Fleet, number: int, folder: Path) -> None:
        """Have a repository of its own."""
        self.host, self.number, self.name = fleet.host, number, f"team/c{number}"
        self.tools = Tools(folder / f"home{number}", fleet.host)
        self.folder = folder
        self.pushed = dict[str, Sequence[bytes]]()
        self.over_old_docker = number > 1 and number % 2 == 1

    def over_v2(self, tag: str, layers: Sequence[bytes], mode: str) -> None:
        """Push and pull as Docker."""
        client = Docker(self.host, mode=mode)
        client.push(self.name, tag, builders.image(*layers, author=f"{self.name} {tag}"))
        self.pushed[tag] = layers
        assert [*client.pull(self.name, tag).layers] == [*layers]

    def over_v1(self, tag: str, layers: Sequence[bytes]) -> None:
        """Push and pull as Docker 1.5, which gives up at the first failure; a person tries again."""
        chain = builders.v1_chain(*layers, seed=f"{self.name} {tag}")
        persist(lambda: V1Client(self.host).push(self.name, tag, chain), PUSHES)
        self.pushed[tag] = layers
        pulled = persist(lambda: V1Client(self.host).pull(self.name, tag), PUSHES)
        assert [each.layer for each in pulled] == [*layers]

    def by_skopeo(self, tag: str, layers: Sequence[bytes]) -> None:
        """Push and pull by skopeo, which tries again as it does if it is asked to."""
        name, folder = f"{self.name}:{tag}", self.folder / f"{self.number}-{tag}"
        builders.skopeo_folder(folder, builders.image(*layers, author=name))
        persist(lambda: self.tools.push("--retry-times=5", f"dir:{folder}", name=name), PUSHES)
        self.pushed[tag] = layers
        persist(lambda: self.tools.pull(name, f"dir:{folder}-pulled", "--retry-times=5"), PUSHES)

    def round(self, number: int) -> None:
        """Push and pull one image."""
        tag, sizes = f"t{number}", (100, 5_000, 150_000 * (1 + number % 4))
        layers = [builders.layer({"f": os.urandom(size)}) for size in sizes]
        if self.number < 2:
            self.by_skopeo(tag, layers)
        elif self.over_old_docker:
            self.over_v1(tag, layers)
        else:
            self.over_v2(tag, layers, ("stream", "chunks", "monolithic", "single")[number % 4])

    def until(self, end: float) -> None:
        """Work until a time."""
        number = 0
        while time.monotonic() < end:
            self.round(number)
            number += 1

    def require(self) -> None:
        """Assert that all that was acknowledged is there, byte for byte."""
        for tag, layers in self.pushed.items():
            assert [*V2Client(self.host).pull(self.name, tag).layers] == [*layers]
            if self.over_old_docker:
                assert [each.layer for each in V1Client(self.host).pull(self.name, tag)] == [*layers]


def kill(fleet: Fleet, number: int) -> None:
    """Kill all processes of an instance at once."""
    main = fleet.instances[number].process.pid
    for pid in (main, *children(main)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def killing(fleet: Fleet, revived: ExitStack) -> Iterator[None]:
    """Kill an instance after a moment; in the long form, start it again, and go on with the next one.

    Args:
        revived: Ends those that were started again.
    """
    done = threading.Event()

    def run() -> None:
        for number in cycle(range(3)):
            if done.wait(BETWEEN):
                return
            kill(fleet, number)
            if not SOAK:
                return
            time.sleep(2)
            killed = fleet.instances[number]
            env = fleet.environment(number) | {"DUALREG_BIND": killed.host}
            process = revived.enter_context(running([DUALREG, "serve"], killed.log, env))
            wait_until_up(f"http://{killed.host}/v2/", process, killed.log)
            fleet.instances[number] = killed._replace(process=process)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("kind", STORAGES)
def test_clients_go_on_while_an_instance_is_killed(kind: str, certificate: Path, tmp_path: Path) -> None:
    """Each ends well, with the retries that it always has, and what was acknowledged is there."""
    require("skopeo", package="skopeo")
    with (
        shared_storage(kind, tmp_path) as settings,
        fleet(tmp_path, certificate, settings | {"workers": 2}) as made,
        ExitStack() as revived,
    ):
        works = [Work(made, number, tmp_path) for number in range(10)]
        end = time.monotonic() + SECONDS
        with killing(made, revived), ThreadPoolExecutor(10) as pool:
            for ended in [pool.submit(each.until, end) for each in works]:
                ended.result()
        assert SOAK or [each.process.poll() is None for each in made.instances] == [False, True, True]
        assert all(each.pushed for each in works)
        for each in works:
            each.require()
        log, env = tmp_path / "fsck.log", made.environment(1)
        with running([DUALREG, "fsck", "--read"], log, env) as process:
            assert process.wait(60) == 0, log.read_text()
