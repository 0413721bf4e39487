"""Clients: which V1 clients still come, so that an operator knows when the last one is gone."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import Lock

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ClientRow
from dualreg.registry.later import Later

#: Clients remembered between two writings; more at once are a flood, of which the rest is not recorded.
_LIMIT = 10_000
#: How clients name themselves.
_DOCKER = re.compile(r"docker/[!-~]{1,60}", re.ASCII)
_VERSION_LIMIT = 100


class Clients:
    """V1 clients by address, version and repository. A crash loses those of the last seconds."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten visit; None: when ``flush`` is called."""
        self._catalog = catalog
        self._pending: dict[tuple[str, str, str], ClientRow] = {}
        self._lock = Lock()
        self._later = Later(self.flush, delay)

    def note(self, address: str, agent: str, repository: str, *, refused: bool) -> None:
        """Remember a request.

        Args:
            agent: The ``User-Agent``; Docker's version is taken out of it.
            repository: Empty if the request is about none.
            refused: V1 is switched off for what it wanted.
        """
        key = (address, _version(agent), repository)
        now = self._catalog.now()
        with self._lock:
            known = self._pending.get(key)
            if known is None and len(self._pending) >= _LIMIT:
                return
            first, requests, refusals = (
                (known.first_seen, known.requests, known.refused) if known else (now, 0, 0)
            )
            self._pending[key] = ClientRow(*key, first, now, requests + 1, refusals + refused)
        self._later.request()

    def flush(self) -> None:
        """Write what is remembered, in one transaction."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if pending:
            with self._catalog.begin() as tx:
                tx.clients.record(pending.values())

    def list(self, since: datetime) -> Sequence[ClientRow]:
        """Return the clients that were seen after *since*, the latest first."""
        with self._catalog.read() as tx:
            return tx.clients.list(since)


def _version(agent: str) -> str:
    """Return what names the client: Docker's version, else what it says of itself, as far as it is text."""
    docker = _DOCKER.match(agent)
    text = docker[0] if docker else "".join(filter(str.isprintable, agent))[:_VERSION_LIMIT]
    return text or "unknown"
