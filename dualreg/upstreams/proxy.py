"""Proxy: the content of one registry of the V2 API, stored here when it is first asked for."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from typing import TypeVar

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, ManifestRow, Origin
from dualreg.errors import (
    DigestInvalid,
    DigestMismatch,
    ManifestInvalid,
    ManifestUnknown,
    RepositoryOwned,
    ServerBusy,
    TagInvalid,
    TagUnknown,
    UpstreamFailed,
)
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.registry import Registry
from dualreg.registry.provenance import Provenance
from dualreg.registry.upstream import Freshness
from dualreg.upstreams.downloads import Downloads
from dualreg.upstreams.memory import Memory
from dualreg.upstreams.remote import Fetched, Remote, RemoteBlob
from dualreg.upstreams.routes import Route
from dualreg.waiting import WorkSlots

Name = TypeVar("Name", Tag, Digest)
_log = logging.getLogger(__name__)
#: Seconds that a request waits for another one that asks about the same.
_PATIENCE = 15.0
#: When a tag is compared again that could not be compared, and when a client may ask again for what another
#: request is loading.
_RETRY = timedelta(seconds=10)
#: Referrers that one request loads, and tags that are listed.
_REFERRERS, _TAGS = 100, 20_000


@dataclass(frozen=True)
class Proxy:
    """The content of the repositories of a route.

    Attributes:
        registry: Where it is stored: the registry itself, without upstreams.
        check_interval: How often it is looked whether a tag has changed.
        waiting: The threads that may wait for upstreams, whichever.
        require: Raises OSError if nothing may be stored now.
    """

    registry: Registry
    route: Route
    remote: Remote
    downloads: Downloads
    check_interval: timedelta
    waiting: WorkSlots
    require: Callable[[], None] = lambda: None
    memory: Memory = field(default_factory=Memory)
    _locks: KeyedLocks = field(default_factory=KeyedLocks)

    def origin_of(self, repository: RepositoryName) -> Origin:
        del repository
        return Origin.V2

    def is_due(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        if row is None:
            return True
        if isinstance(reference, Digest):
            return False
        if row.checked_at is None:  # a rebuild does not know it; or clients pushed the tag
            return self.registry.repositories.upstream(repository) == self.route.url
        known = self.memory.freshness((repository, reference))
        until = row.checked_at + self.check_interval  # by whichever process
        if known and known.stale:
            until = max(until, known.until)
        elif known is None or known.until != until:
            self.memory.keep((repository, reference), Freshness(until))
        return until <= self.registry.now()

    def freshness(self, repository: RepositoryName, reference: Tag | Digest) -> Freshness | None:
        return None if isinstance(reference, Digest) else self.memory.freshness((repository, reference))

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        try:
            with self.waiting.slot(), self._alone((repository, str(reference))):
                return self._load(repository, reference)
        except (UpstreamFailed, ServerBusy, OSError) as error:
            if self.registry.manifests.peek(repository, reference) is None:
                raise
            self._serve_stale(repository, reference, error)
            return True

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
            found = not absence and self._ask(repository, reference, row)
        except UpstreamFailed as error:
            if row is None:
                self.memory.note_absence(key, error)
            raise
        if not found:
            self.memory.note_absence(key)
        return found

    def load_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        with self.waiting.slot():
            source = self.blob(repository, digest)
            if source:
                self.downloads.fetch(repository, BlobRow(digest, source.size), source)
        return source is not None

    def blob(self, repository: RepositoryName, digest: Digest) -> RemoteBlob | None:
        """Return a blob of the other registry; None: the repository there does not have it.

        Raises:
            UpstreamFailed, ServerBusy.
        """
        key = (repository, digest, "blob")
        absence = self.memory.absence(key)
        if absence and absence.failure:
            raise absence.failure
        if absence or not self.route.allows(repository):
            return None
        source = self.remote.blob(self.route.there(repository), digest)
        if source is None:
            self.memory.note_absence(key)
        return source

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        del repository, image  # V1 images are views of manifests, which were loaded before
        return False

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        name = self.route.there(repository)

        def read() -> Sequence[str]:
            return [*islice(self.remote.referrers(name, subject), _REFERRERS)]

        if not self.route.allows(repository):
            return
        for digest in _parsed(Digest.parse, self.memory.listed((repository, subject, "referrers"), read)):
            if self.registry.manifests.peek(repository, digest) is None:
                self.load(repository, digest)

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        def read() -> Sequence[str]:
            names = self.remote.tags(self.route.there(repository))
            return sorted(_parsed(Tag.parse, islice(names, _TAGS)))

        if not self.route.allows(repository):
            return ()
        try:
            tags = self.memory.listed((repository, "tags"), read)
        except (UpstreamFailed, ServerBusy) as error:
            if not self.registry.tags.list_all(repository):
                raise
            _log.warning("%s: cannot list the tags of upstream: %s", repository, error)
            return ()
        return [*islice((Tag(tag) for tag in tags if tag > last), limit)]

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        del repository  # as load_image
        return {}

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        del repository, reference  # what is deleted here is loaded again when it is asked for
        return False

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        del tx, repository, references  # as ``has``

    def _ask(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        """Load a manifest unless it is *row*, to which a tag points; return False if upstream has none."""
        if row is None or isinstance(reference, Digest):
            return self._get(repository, reference)
        digest = self.remote.digest(self.route.there(repository), reference)
        if digest is None:
            with suppress(TagUnknown):  # another process was faster
                self.registry.tags.delete(repository, reference)
            return False
        if digest != row.digest:
            return self._get(repository, reference)
        self.registry.loaded.confirm(repository, reference)
        self._is_fresh(repository, reference)
        return True

    def _get(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Load a manifest and point the tag at it; return False if there is none."""
        self._require_served(repository, reference)
        fetched = self.remote.manifest(self.route.there(repository), reference)
        if fetched is None:
            return False
        self.require()
        try:
            self._store(repository, reference, fetched)
        except (ManifestInvalid, DigestMismatch) as error:
            raise self._failed(error) from error
        except RepositoryOwned:  # clients have begun to push to it
            return False
        return True

    def _store(self, repository: RepositoryName, reference: Tag | Digest, fetched: Fetched) -> None:
        self.registry.manifests.put(
            repository,
            reference,
            fetched.media_type,
            fetched.body,
            provenance=Provenance(upstream=self.route.url),
        )
        self._is_fresh(repository, reference)

    def _is_fresh(self, repository: RepositoryName, reference: Tag | Digest) -> None:
        """Remember when a tag, which was just compared with upstream, is compared again."""
        if isinstance(reference, Tag):
            until = self.registry.now() + self.check_interval
            self.memory.keep((repository, reference), Freshness(until))

    def _require_served(self, repository: RepositoryName, reference: Tag | Digest) -> None:
        """Check that the operator lets the repository, and the platform of a child, be served.

        Raises:
            ManifestUnknown.
        """
        if not self.route.allows(repository):
            reason = (
                f"the setting upstreams does not serve {self.route.there(repository)} of {self.route.url}"
            )
            raise ManifestUnknown(reference=str(reference), reason=reason)
        if self.route.platforms and isinstance(reference, Digest):
            platforms = self.registry.loaded.platforms(repository, reference)
            if platforms and not any(map(self.route.allows_platform, platforms)):
                served = ", ".join(self.route.platforms)
                reason = f"the setting upstreams serves only {served} of {self.route.url}"
                raise ManifestUnknown(reference=str(reference), reason=reason)

    def _serve_stale(self, repository: RepositoryName, reference: Tag | Digest, error: Exception) -> None:
        """Let what is here be served, and say why it may be old."""
        known = self.memory.freshness((repository, reference))
        if not (known and known.stale):
            _log.warning("%s:%s is served as it was: %s", repository, reference, error)
        self.memory.keep((repository, reference), Freshness(self.registry.now() + _RETRY, str(error)))

    def _failed(self, error: Exception) -> UpstreamFailed:
        """Return the error of content that cannot be used."""
        return UpstreamFailed(upstream=self.route.url, status=HTTPStatus.BAD_GATEWAY, reason=str(error))

    @contextmanager
    def _alone(self, key: tuple[str, str]) -> Iterator[None]:
        """Let one request at a time ask about the same.

        Raises:
            ServerBusy: another one takes too long.
        """
        lock = self._locks.lock(key)
        if not lock.acquire(timeout=_PATIENCE):
            raise ServerBusy(retry_after=_RETRY.seconds)
        try:
            yield
        finally:
            lock.release()


def _parsed(parse: Callable[[str], Name], texts: Iterable[str]) -> Iterator[Name]:
    """Yield what is valid of what another registry lists."""
    for text in texts:
        try:
            yield parse(text)
        except (TagInvalid, DigestInvalid):
            continue
