"""Activity: what was pulled and pushed, which API keys are used, and which V1 clients still come.

All are recorded by requests that must not wait for the database, and none is worth a transaction each. So
they are kept in memory and written together a little later; a crash loses the notes of the last seconds.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from threading import Lock, Timer
from typing import Generic, NamedTuple, TypeVar

from dualreg.catalog.database import Catalog, DatabaseFailure, Transaction, failure_text
from dualreg.catalog.growth import GrowthQueries
from dualreg.catalog.rows import ClientRow
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.networks import network_of

Key = TypeVar("Key")
Note = TypeVar("Note")

#: Notes kept between two writes; in a flood, further ones are dropped.
_PENDING_LIMIT = 10_000
#: What Docker's User-Agent starts with.
_DOCKER = re.compile(r"docker/[!-~]{1,60}", re.ASCII)
_VERSION_LIMIT = 100
#: Rows of one address that name a repository, and that name none. Anybody can make up versions and names, so
#: further ones are counted together, as this version.
_NAMED_LIMIT = 500
_NAMELESS_LIMIT = 20
#: How many times that all addresses of one network may have. Anybody can make up those of a /64, so
#: what is beyond is counted together, as if the network were the address.
_NETWORK_FACTOR = 20
#: A key that was used is not noted again for so long: every commit ends what answers were remembered.
_USE_PRECISION = timedelta(minutes=5)
_OTHERS = "others"
#: Rows of all addresses, and how long one is kept after the last request.
_CLIENTS_LIMIT = 100_000
_CLIENTS_AGE = timedelta(days=400)
_log = logging.getLogger(__name__)


class WriteBehind(Generic[Key, Note]):
    """Notes by key, kept in memory and written together some time after the first of them."""

    def __init__(self, write: Callable[[Mapping[Key, Note]], None], delay: timedelta | None) -> None:
        """Pass all notes to *write*, *delay* after the first one; None: only on ``flush``."""
        self._write = write
        self._delay = delay
        self._pending: dict[Key, Note] = {}
        self._timer: Timer | None = None
        self._closed = False
        self._lock = Lock()
        self._writing = Lock()

    def update(self, key: Key, merge: Callable[[Note | None], Note]) -> None:
        """Replace the pending note of *key* by what *merge* makes of it; None: there is none."""
        with self._lock:
            if self._closed or (key not in self._pending and len(self._pending) >= _PENDING_LIMIT):
                return
            self._pending[key] = merge(self._pending.get(key))
            if self._delay and self._timer is None:
                self._timer = Timer(self._delay.total_seconds(), self._run)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write the pending notes now, after a write that another thread has begun."""
        with self._writing:
            with self._lock:
                pending, self._pending = self._pending, {}
            if pending:
                self._write(pending)

    def close(self) -> None:
        """Write the pending notes, for the last time; later ones are dropped. A failure is only logged."""
        with self._lock:
            self._closed = True
        self._run()

    def _run(self) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
        if timer:
            timer.cancel()
        try:
            self.flush()
        except DatabaseFailure as error:
            _log.warning("cannot write what was pulled and used, and by whom: %s", failure_text(error))
        except Exception:  # noqa: BLE001 -- a busy or broken database must not end the thread unlogged
            _log.exception("failed to flush deferred writes")


class _Pulled(NamedTuple):
    """What was pulled on a day: a tag; or a manifest or V1 image, by a client that says no tag."""

    day: date
    repository: RepositoryName
    tag: Tag | None
    image: ImageId | Digest | None = None


class _Times(NamedTuple):
    """How often something was pulled or pushed, and when last."""

    last: datetime
    number: int


class Pulls:
    """When tags were last pulled, and how many pulls and pushes there are by day."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten pull; None: only on ``flush``."""
        self._catalog = catalog
        self._pending = WriteBehind[_Pulled | date, _Times](self._write, delay)

    def record(self, repository: RepositoryName, tag: Tag) -> None:
        """Record that the tag was pulled now."""
        now = self._catalog.now()
        self._note(_Pulled(now.date(), repository, tag), now)

    def record_image(self, repository: RepositoryName, image: ImageId | Digest) -> None:
        """Record that a client has pulled an image now, by whichever of the tags that are seen as it.

        It counts as a pull if there is one, or if it is a manifest that no index names: those of platforms
        are pulled with their index.
        """
        now = self._catalog.now()
        self._note(_Pulled(now.date(), repository, None, image), now)

    def record_pushes(self, number: int) -> None:
        """Record that a client has pushed a number of tags now."""
        now = self._catalog.now()
        self._note(now.date(), now, number)

    def _note(self, what: _Pulled | date, now: datetime, number: int = 1) -> None:
        """Add to the pulls of something, or to the pushes of a day."""
        self._pending.update(what, lambda known: _Times(now, (known.number if known else 0) + number))

    def flush(self) -> None:
        """Write the pending pulls and pushes, in one transaction."""
        self._pending.flush()

    def close(self) -> None:
        """Write the pending pulls and pushes, and none from now on."""
        self._pending.close()

    def _write(self, notes: Mapping[_Pulled | date, _Times]) -> None:
        tags = dict[tuple[RepositoryName, Tag], datetime]()
        pulls, pushes = Counter[date](), Counter[date]()
        with self._catalog.read() as tx:
            for what, (last, number) in notes.items():
                if isinstance(what, date):
                    pushes[what] += number
                    continue
                pulled = _tags_of(tx, what)
                for tag in pulled:
                    place = (what.repository, tag)
                    tags[place] = max(last, tags.get(place, last))
                if pulled or _is_alone(tx, what):
                    pulls[what.day] += number
        if not (pulls or pushes):
            return
        with self._catalog.begin() as tx:
            if tags:
                tx.tags.record_pulls(tags)
            # Last, since all processes change the same row.
            GrowthQueries(tx.connection, tx.now).count(pulls, pushes)


def _tags_of(tx: Transaction, what: _Pulled) -> Collection[Tag]:
    """Return the tags of what was pulled."""
    if what.tag:
        return (what.tag,)
    return tx.tags.seen_as(what.repository, what.image) if what.image else ()


def _is_alone(tx: Transaction, what: _Pulled) -> bool:
    """Return whether what was pulled without a tag is a manifest that no index names."""
    return isinstance(what.image, Digest) and not tx.manifests.is_named(what.repository, what.image)


class KeyUses:
    """When API keys were last used, to about five minutes."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten use; None: only on ``flush``."""
        self._catalog = catalog
        self._pending = WriteBehind(self._write, delay)
        self._recent = dict[str, datetime]()

    def record(self, key: str) -> None:
        """Record that the key, by its id, was used now, unless that was recorded minutes ago."""
        now = self._catalog.now()
        known = self._recent.get(key)
        if known and now - known < _USE_PRECISION:
            return
        if len(self._recent) >= _PENDING_LIMIT:
            self._recent.clear()
        self._recent[key] = now
        self._pending.update(key, lambda _: now)

    def flush(self) -> None:
        """Write the pending uses, in one transaction."""
        self._pending.flush()

    def close(self) -> None:
        """Write the pending uses, and none from now on."""
        self._pending.close()

    def _write(self, uses: Mapping[str, datetime]) -> None:
        with self._catalog.begin() as tx:
            tx.secrets.record_uses(uses)


class Clients:
    """V1 clients by address, version and repository: an operator sees when the last one is gone."""

    def __init__(self, catalog: Catalog, delay: timedelta | None = None) -> None:
        """Write to *catalog*, *delay* after the first unwritten request; None: only on ``flush``."""
        self._catalog = catalog
        self._pending = WriteBehind(self._write, delay)

    def record(self, address: str, agent: str, repository: str, *, refused: bool) -> None:
        """Record a request.

        Args:
            agent: The ``User-Agent``, from which Docker's version is taken.
            repository: Empty if the request names none.
            refused: Whether it was refused because V1 is disabled.
        """
        key = (address, _version(agent), repository)
        now = self._catalog.now()

        def merge(known: ClientRow | None) -> ClientRow:
            first, requests, refusals = (
                (known.first_seen, known.requests, known.refused) if known else (now, 0, 0)
            )
            return ClientRow(*key, first, now, requests + 1, refusals + refused)

        self._pending.update(key, merge)

    def flush(self) -> None:
        """Write the pending requests, in one transaction."""
        self._pending.flush()

    def close(self) -> None:
        """Write the pending requests, and none from now on."""
        self._pending.close()

    def list(self, since: datetime) -> Sequence[ClientRow]:
        """Return the clients seen after *since*, most recent first."""
        with self._catalog.read() as tx:
            return tx.clients.list(since)

    def _write(self, clients: Mapping[tuple[str, str, str], ClientRow]) -> None:
        with self._catalog.begin() as tx:
            known = tx.clients.kinds({network_of(address) for address, _, _ in clients})
            tx.clients.record(_limit_kinds(clients.values(), known))
            tx.clients.forget(self._catalog.now() - _CLIENTS_AGE, keep=_CLIENTS_LIMIT)


def _limit_kinds(
    clients: Iterable[ClientRow], known: Iterable[tuple[str, str, str]]
) -> Collection[ClientRow]:
    """Return *clients*, in which the kinds beyond the limits of an address, or of a network, are one.

    Args:
        known: Address, version and repository of the rows there are.
    """
    kinds, counts = {*known}, Counter[tuple[str, bool]]()
    for address, _, repository in kinds:
        counts.update(_counted(address, repository))
    found: dict[tuple[str, str, str], ClientRow] = {}
    for client in clients:
        key = (client.address, client.version, client.repository)
        if key not in kinds:
            key = _allowed(key, counts)
            counts.update(() if key in kinds else _counted(key[0], key[2]))
            kinds.add(key)
        address, version, repository = key
        same = replace(client, address=address, version=version, repository=repository)
        found[key] = _add(found.get(key), same)
    return found.values()


def _counted(address: str, repository: str) -> Collection[tuple[str, bool]]:
    """Return what a row counts for: its address and network, and whether it names a repository."""
    return {(whose, bool(repository)) for whose in (address, network_of(address))}


def _allowed(key: tuple[str, str, str], counts: Mapping[tuple[str, bool], int]) -> tuple[str, str, str]:
    """Return address, version and repository under which a new client is recorded, given those there are."""
    address, _, repository = key
    limit = _NAMED_LIMIT if repository else _NAMELESS_LIMIT
    network = network_of(address)
    if network != address and counts[network, bool(repository)] >= limit * _NETWORK_FACTOR:
        return network, _OTHERS, ""
    return (address, _OTHERS, "") if counts[address, bool(repository)] >= limit else key


def _add(known: ClientRow | None, client: ClientRow) -> ClientRow:
    """Return both rows of one client as one."""
    if known is None:
        return client
    return replace(
        client,
        first_seen=min(known.first_seen, client.first_seen),
        last_seen=max(known.last_seen, client.last_seen),
        requests=known.requests + client.requests,
        refused=known.refused + client.refused,
    )


def _version(agent: str) -> str:
    """Return Docker's version, else the printable start of the User-Agent."""
    docker = _DOCKER.match(agent)
    text = docker[0] if docker else "".join(filter(str.isprintable, agent))[:_VERSION_LIMIT]
    return text or "unknown"
