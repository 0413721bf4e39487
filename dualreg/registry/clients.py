"""Clients: which V1 clients still come, so that an operator knows when the last one is gone."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ClientRow
from dualreg.registry.later import Later

#: How clients name themselves.
_DOCKER = re.compile(r"docker/[!-~]{1,60}", re.ASCII)
_VERSION_LIMIT = 100


class Clients:
    """V1 clients by address, version and repository. A crash loses those of the last seconds."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten visit; None: when ``flush`` is called."""
        self._catalog = catalog
        self._later = Later(self._write, delay)

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
