"""A real server of two workers with two processes that collect garbage beside it, on either database."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import case, select, update

from dualreg.catalog.clock import utc_now
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Blobs, Repositories, RepositoryBlobs, V1Images
from dualreg.catalog.upgrade import upgrade
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from dualreg.storage import Store, open_store
from tests.programs import dualreg_server, environment
from tests.protocol.clients.wire import Answer, Wire

#: Longer than what the server keeps: that is the default grace, and an hour for manifests without a tag.
LONG = timedelta(days=3)
UNTAGGED = "1h"


@contextmanager
def again_and_again(act: Callable[[], object], pause: float) -> Iterator[None]:
    """Do something in another thread, for the block, with pauses of some seconds."""
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(pause):
            act()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(go_on)
        try:
            yield
        finally:
            done.set()
        running.result()


def at_once(acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do everything at the same moment; return the results in order."""
    barrier = threading.Barrier(len(acts))

    def wait(act: Callable[[], Any]) -> Any:
        barrier.wait(20)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [*pool.map(wait, acts)]


@dataclass
class Collector:
    """A process as ``collecting`` describes."""

    process: subprocess.Popen[str]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, command: str) -> Any:
        """Return the answer to a command."""
        with self._lock:
            assert self.process.stdin
            assert self.process.stdout
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())


@dataclass
class Site:
    """A server, what it stores, and its collectors.

    Attributes:
        catalog: The catalog of the server, opened once more.
        environment: The settings of the server.
        store: The store of the server, opened once more.
    """

    host: str
    data: Path
    catalog: Catalog
    environment: Mapping[str, str]
    collectors: Sequence[Collector]
    store: Store

    def has(self, digest: Digest) -> bool:
        """Return whether the store of the server has a blob."""
        return self.store.stat(digest) is not None

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request, and return its answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Wire(self.host).send(method, path, named, body)

    def let_pass(self, *names: str) -> None:
        """Date everything in repositories back, as if a long time had passed for them alone."""
        before = utc_now() - LONG
        ids = select(Repositories.id).where(Repositories.name.in_(names))
        link, owned = RepositoryBlobs, RepositoryBlobs.repository_id.in_(ids)
        with self.catalog.engine.begin() as connection:
            since = case((link.candidate_since.is_not(None), before), else_=None)
            connection.execute(update(link).where(owned).values(linked_at=before, candidate_since=since))
            images = update(V1Images).where(V1Images.repository_id.in_(ids), V1Images.touched_at.is_not(None))
            connection.execute(images.values(touched_at=before))

    def let_pass_since_condemned(self, *digests: Digest) -> None:
        """Date back when the last link to blobs went."""
        found = Blobs.digest.in_(digests) & Blobs.condemned_at.is_not(None)
        with self.catalog.engine.begin() as connection:
            connection.execute(update(Blobs).where(found).values(condemned_at=utc_now() - LONG))

    def hurrying(self, *digests: Digest) -> AbstractContextManager[None]:
        """Have blobs deleted as soon as the last link to them is gone, for the block."""
        return again_and_again(lambda: self.let_pass_since_condemned(*digests), 0.002)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Have both processes collect, again and again, for the block."""
        for each in self.collectors:
            each.ask("go")
        try:
            yield
        finally:
            for each in self.collectors:
                each.ask("stop")

    def collect(self) -> None:
        """Have every process collect once more, from beginning to end."""
        at_once([lambda each=each: each.ask("once") for each in self.collectors])  # type: ignore[misc]

    def purge(self, *names: str) -> None:
        """Collect until nothing in repositories can be garbage, however deep; at once, not over days."""
        for _ in range(6):
            self.let_pass(*names)
            with self.catalog.engine.begin() as connection:
                condemned = update(Blobs).where(Blobs.condemned_at.is_not(None))
                connection.execute(condemned.values(condemned_at=utc_now() - LONG))
            self.collect()

    def check(self) -> None:
        """Compare the files of the store with the rows: neither is without the other."""
        with self.catalog.engine.connect() as connection:
            rows = {(row[0], row[1]) for row in connection.execute(select(Blobs.digest, Blobs.size))}
        assert {(blob.digest, blob.size) for blob in self.store.walk()} == rows


@contextmanager
def open_site(data: Path, database: str = "", **more: str) -> Iterator[Site]:
    """Run a server with *more* settings over *data* for the block; *database*: of PostgreSQL, or none."""
    url = database or f"sqlite:///{data / 'catalog.sqlite3'}"
    catalog = Catalog(url)
    upgrade(catalog)
    settings = {"database": url, "gc_interval": "0s", "gc_untagged": UNTAGGED, "undelete_grace": "0s", **more}
    env = {f"DUALREG_{name.upper()}": value for name, value in {**settings, "data": str(data)}.items()}
    with ExitStack() as stack:
        stack.callback(catalog.close)
        store = open_store(Settings.from_env(env).store_url)
        host = stack.enter_context(dualreg_server(data, workers=2, **settings))
        started = [
            Collector(stack.enter_context(_collector(env, data.parent / f"collector-{number}")))
            for number in range(2)
        ]
        yield Site(host, data, catalog, env, started, store)


@contextmanager
def _collector(env: dict[str, str], log: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.races.collecting"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**environment(), **env},
            text=True,
            cwd=Path(__file__).parents[2],
        )
    try:
        with process:
            yield process
            assert process.stdin
            process.stdin.close()
            assert process.wait(30) == 0, log.read_text()[-4000:]
    finally:
        process.kill()
