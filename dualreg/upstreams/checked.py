"""Checked: content of a registry whose tags are compared with it once in a while."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from dualreg.acting import Api, acting
from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import ManifestRow
from dualreg.errors import ManifestUnknown, ServerBusy, TagImmutable, UpstreamBusy, UpstreamFailed
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.registry import Registry
from dualreg.registry.upstream import Freshness
from dualreg.upstreams.checks import Checks, Unanswered
from dualreg.upstreams.flights import Counting, count_nothing
from dualreg.upstreams.memory import Memory
from dualreg.upstreams.remote import Remote
from dualreg.upstreams.routes import Route
from dualreg.waiting import Turns

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)
#: Seconds for which a request waits for an upstream, if what is here can be served instead.
BRIEFLY = 2.0
#: Seconds that a request waits for another one that asks about the same.
_PATIENCE = 15.0
#: When a tag is compared again that could not be compared, and when a client may ask again for what another
#: request is loading.
_RETRY = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Checked(ABC):
    """The content of the repositories of a route, whatever the API of the registry there.

    Attributes:
        registry: Where it is stored: the registry itself, without upstreams.
        check_interval: How often it is looked whether a tag has changed.
        waiting: The threads that may wait for upstreams, whichever.
        require: Raises OSError if nothing may be stored now.
        count: Adds to the counters of the upstream.
    """

    registry: Registry
    route: Route
    remote: Remote
    check_interval: timedelta
    waiting: Turns
    require: Callable[[], None] = lambda: None
    count: Counting = count_nothing
    memory: Memory = field(default_factory=Memory)
    checks: Checks = field(default_factory=Checks)
    _locks: KeyedLocks = field(default_factory=KeyedLocks)

    @abstractmethod
    def ask(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        """Load a manifest, unless it is *row*, to which the tag points here; return False if there is none.

        Raises:
            UpstreamFailed, ServerBusy, ManifestUnknown, OSError.
        """

    def is_due(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        if row is None:
            return True
        if isinstance(reference, Digest):
            return False
        if row.checked_at is None:  # a rebuild does not know it; or clients pushed the tag
            return self.registry.repositories.upstream(repository) == self.route.url
        known = self.memory.freshness((repository, reference))
        until = row.checked_at + self.check_interval  # by whichever process
        if known is None or known.until < until:
            known = self.memory.keep((repository, reference), Freshness(until))
        return known.until <= self.registry.now()

    def freshness(self, repository: RepositoryName, reference: Tag | Digest) -> Freshness | None:
        return None if isinstance(reference, Digest) else self.memory.freshness((repository, reference))

    def stale_list(self, repository: RepositoryName, subject: Digest | None = None) -> str:
        return self.memory.stale(list_key(repository, subject))

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        is_here = self.registry.manifests.peek(repository, reference) is not None
        ask = partial(self._compare if is_here else self._load_alone, repository, reference)
        try:
            return self.asked((repository, str(reference)), ask, is_here=is_here)
        except (UpstreamFailed, ServerBusy, OSError) as error:
            self._serve_stale(repository, reference, error)
            return True

    def load_in_slot(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Load a manifest as ``load``, for a request that holds a slot of those that wait."""
        try:
            return self._load_alone(repository, reference)
        except (UpstreamFailed, ServerBusy, OSError) as error:
            self._serve_stale(repository, reference, error)
            return True

    def asked(self, key: Hashable, ask: Callable[[], Answer], *, is_here: bool) -> Answer:
        """Return what *ask* returns, which asks upstream, as one of the threads that may wait for it.

        Args:
            key: Of what is asked.
            is_here: Whether there is something to serve without it. Then the request waits for a moment only,
                and *ask* goes on in its thread.

        Raises:
            UpstreamFailed: that moment is over.
            ServerBusy: too many threads wait.
            Exception: what *ask* raises.
        """
        if not is_here:
            with self.waiting.slot():
                return ask()
        until = self.checks.clock() + BRIEFLY
        with ExitStack() as waiting:
            try:
                waiting.enter_context(self.waiting.slot())
            except ServerBusy:
                until = 0.0  # the check goes on without this request
            try:
                return self.checks.wait(key, ask, BRIEFLY, until)
            except Unanswered as error:
                raise self._failed(HTTPStatus.GATEWAY_TIMEOUT, "it has not answered yet") from error

    def _compare(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Compare a tag; remember a failure, also if no request waits any longer."""
        try:
            return self._load_alone(repository, reference)
        except (UpstreamFailed, ServerBusy, OSError) as error:
            self._note_stale(repository, reference, error)
            raise

    def _load_alone(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        with self.alone((repository, str(reference))):
            return self._load(repository, reference)

    def _load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Load a manifest, or compare a tag, unless another request has just done so."""
        key = (repository, str(reference))
        row = self.registry.manifests.peek(repository, reference)
        if not self.is_due(repository, reference, row):
            return True
        absence = None if row else self.memory.absence(key)
        if absence and absence.failure:
            raise absence.failure
        try:
            with acting(self.route.url, Api.UPSTREAM):
                found = not absence and self.ask(repository, reference, row)
        except TagImmutable:  # what is here is served, whatever the tag points at there
            self.note_fresh(repository, reference)
            return True
        except UpstreamFailed as error:
            if row is None:
                self.memory.note_absence(key, error)
            raise
        if not found:
            self.memory.note_absence(key)
        return found

    def count_pull(self, repository: RepositoryName, tag: Tag) -> None:
        if not self.memory.was_fetched((repository, tag)):
            self.count(hits=1)

    def note_fetched(self, repository: RepositoryName, reference: Tag | Digest) -> None:
        """Count that an image was fetched; the pull of the tag that waits for it is no hit."""
        self.count(misses=1)
        self.memory.note_fetched((repository, reference))

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        del repository, reference  # what is deleted here is loaded again when it is asked for
        return False

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        del tx, repository, references  # as ``has``

    def require_served(self, repository: RepositoryName, reference: Tag | Digest) -> None:
        """Check that the operator lets the repository be served.

        Raises:
            ManifestUnknown.
        """
        if not self.route.allows(repository):
            name = self.route.there(repository)
            reason = f"the setting upstreams does not serve {name} of {self.route.url}"
            raise ManifestUnknown(reference=str(reference), reason=reason)

    def listed(self, repository: RepositoryName, read: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Return the tags that the registry there lists, which *read* requests; none if that fails.

        Raises:
            UpstreamFailed, ServerBusy: it fails, and no tag is here.
        """
        if not self.route.allows(repository):
            return ()
        key = list_key(repository)
        if (known := self.memory.list_of(key)) is not None:
            return known
        is_here, ask = bool(self.registry.tags.list_all(repository)), partial(self.memory.listed, key, read)
        try:
            return self.asked(key, ask, is_here=is_here)
        except (UpstreamFailed, ServerBusy) as error:
            if not is_here:
                raise
            _log.warning("%s: cannot list the tags of upstream: %s", repository, error)
            if self.memory.list_of(key) is None:  # it may have been read meanwhile
                self.memory.note_stale(key, str(error))
            return ()

    def confirm(self, repository: RepositoryName, tag: Tag) -> None:
        """Note that a tag points at the same as upstream; for all processes, unless nothing may be stored."""
        with suppress(OSError):
            self.require()
            self.registry.loaded.confirm(repository, tag)
        self.note_fresh(repository, tag)

    def note_fresh(self, repository: RepositoryName, reference: Tag | Digest) -> None:
        """Remember when a tag, which was just compared with upstream, is compared again."""
        if isinstance(reference, Tag):
            until = self.registry.now() + self.check_interval
            self.memory.keep((repository, reference), Freshness(until))

    def _serve_stale(self, repository: RepositoryName, reference: Tag | Digest, error: Exception) -> None:
        """Let what is here be served, and say why it may be old.

        Raises:
            Exception: *error*, if nothing is here.
        """
        if self.registry.manifests.peek(repository, reference) is None:
            self.count(errors=1)
            raise error
        self._note_stale(repository, reference, error)
        self.count(stale=1)

    def _note_stale(self, repository: RepositoryName, reference: Tag | Digest, error: Exception) -> None:
        known, now = self.memory.freshness((repository, reference)), self.registry.now()
        if known and not known.stale and known.until > now:  # it was compared meanwhile
            return
        if not (known and known.stale):
            _log.warning("%s:%s is served as it was: %s", repository, reference, error)
        self.memory.keep((repository, reference), Freshness(now + _RETRY, str(error)))

    def failed(self, reason: object) -> UpstreamFailed:
        """Return the error of content that cannot be used."""
        return self._failed(HTTPStatus.BAD_GATEWAY, str(reason))

    def _failed(self, status: HTTPStatus, reason: str) -> UpstreamFailed:
        return UpstreamFailed(upstream=self.route.url, status=status, reason=reason)

    @contextmanager
    def alone(self, key: tuple[str, str]) -> Iterator[None]:
        """Let one request at a time ask about the same.

        Raises:
            UpstreamBusy: another one takes too long.
        """
        lock = self._locks.lock(key)
        if not lock.acquire(timeout=_PATIENCE):
            raise UpstreamBusy(retry_after=_RETRY.seconds)
        try:
            yield
        finally:
            lock.release()


def list_key(repository: RepositoryName, subject: Digest | None = None) -> Hashable:
    """Return what a list is remembered by: that of tags, or that of what refers to a manifest."""
    return repository, "tags" if subject is None else subject, "list"
