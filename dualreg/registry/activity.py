"""Clients: which V1 clients still come, so that an operator knows when the last one is gone."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from threading import Lock, Timer
from typing import Generic, TypeVar

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ClientRow
from dualreg.image.names import RepositoryName, Tag

Key = TypeVar("Key")
Note = TypeVar("Note")

#: Notes remembered between two writings; more at once are a flood, of which the rest is not recorded.
_LIMIT = 10_000
_log = logging.getLogger(__name__)


class WriteBehind(Generic[Key, Note]):
    """One note for each key, written some time after the first. A crash loses those of the last seconds."""

    def __init__(self, write: Callable[[Mapping[Key, Note]], None], delay: timedelta | None) -> None:
        """Hand all notes to *write*, *delay* after the first; None: when ``flush`` is called."""
        self._write = write
        self._delay = delay
        self._pending: dict[Key, Note] = {}
        self._timer: Timer | None = None
        self._lock = Lock()

    def note(self, key: Key, make: Callable[[Note | None], Note]) -> None:
        """Remember what *make* returns, given what is remembered of *key* so far."""
        with self._lock:
            if key not in self._pending and len(self._pending) >= _LIMIT:
                return
            self._pending[key] = make(self._pending.get(key))
            if self._delay and self._timer is None:
                self._timer = Timer(self._delay.total_seconds(), self._run)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what is remembered now."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if pending:
            self._write(pending)

    def _run(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        except Exception:  # noqa: BLE001 -- a busy or broken database must not end the thread unlogged
            _log.exception("what was put off could not be written")


class Pulls:
    """What was pulled since the last writing. A crash loses that much, and nobody is promised more."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten pull; None: when ``flush`` is called."""
        self._catalog = catalog
        self._later = WriteBehind(self._write, delay)

    def note(self, repository: RepositoryName, tag: Tag) -> None:
        """Remember that the tag was pulled now."""
        now = self._catalog.now()
        self._later.note((repository, tag), lambda _: now)

    def flush(self) -> None:
        """Write what is remembered, in one transaction."""
        self._later.flush()

    def _write(self, pulls: Mapping[tuple[RepositoryName, Tag], datetime]) -> None:
        with self._catalog.begin() as tx:
            tx.tags.record_pulls(pulls)


#: How clients name themselves.
_DOCKER = re.compile(r"docker/[!-~]{1,60}", re.ASCII)
_VERSION_LIMIT = 100


class Clients:
    """V1 clients by address, version and repository. A crash loses those of the last seconds."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten visit; None: when ``flush`` is called."""
        self._catalog = catalog
        self._later = WriteBehind(self._write, delay)

    def note(self, address: str, agent: str, repository: str, *, refused: bool) -> None:
        """Remember a request.

        Args:
            agent: The ``User-Agent``; Docker's version is taken out of it.
            repository: Empty if the request is about none.
            refused: V1 is switched off for what it wanted.
        """
        key = (address, _version(agent), repository)
        now = self._catalog.now()

        def add(known: ClientRow | None) -> ClientRow:
            first, requests, refusals = (
                (known.first_seen, known.requests, known.refused) if known else (now, 0, 0)
            )
            return ClientRow(*key, first, now, requests + 1, refusals + refused)

        self._later.note(key, add)

    def flush(self) -> None:
        """Write what is remembered, in one transaction."""
        self._later.flush()

    def list(self, since: datetime) -> Sequence[ClientRow]:
        """Return the clients that were seen after *since*, the latest first."""
        with self._catalog.read() as tx:
            return tx.clients.list(since)

    def _write(self, clients: Mapping[tuple[str, str, str], ClientRow]) -> None:
        with self._catalog.begin() as tx:
            tx.clients.record(clients.values())


def _version(agent: str) -> str:
    """Return what names the client: Docker's version, else what it says of itself, as far as it is text."""
    docker = _DOCKER.match(agent)
    text = docker[0] if docker else "".join(filter(str.isprintable, agent))[:_VERSION_LIMIT]
    return text or "unknown"
