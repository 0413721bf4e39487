"""Proxy: the content of one registry of the V2 API, stored here when it is first asked for."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

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
from dualreg.registry.provenance import Provenance
from dualreg.upstreams.checked import Checked, list_key
from dualreg.upstreams.downloads import AwaitedBlob, Downloads
from dualreg.upstreams.peers import Peers
from dualreg.upstreams.remote import Fetched, RemoteBlob

Name = TypeVar("Name", Tag, Digest)
_log = logging.getLogger(__name__)
#: Bytes of the largest manifest: no larger one can be pushed.
_MANIFEST_LIMIT = 4 << 20
#: Referrers that one request loads, and tags that are listed.
_REFERRERS, _TAGS = 100, 20_000


@dataclass(frozen=True, kw_only=True)
class Proxy(Checked):
    """The content of the repositories of a route to a registry of the V2 API."""

    downloads: Downloads
    peers: Peers = field(default_factory=Peers)

    def origin_of(self, repository: RepositoryName) -> Origin:
        del repository
        return Origin.V2

    def coming_blob(self, repository: RepositoryName, digest: Digest) -> AwaitedBlob | None:
        if coming := self.downloads.coming(repository, digest):
            return coming
        try:
            with self.waiting.slot(), self.alone((repository, str(digest))):
                source = self.blob(repository, digest)
        except UpstreamFailed:
            self.count(errors=1)
            raise
        if source is None:
            return None
        return AwaitedBlob(self.downloads, repository, BlobRow(digest, source.size), source)

    def blob(self, repository: RepositoryName, digest: Digest) -> RemoteBlob | None:
        """Return a blob of the other registry; None: the repository there does not have it.

        Raises:
            UpstreamFailed, ServerBusy.
        """
        key = (repository, digest, "blob")
        absence = self.memory.absence(key)
        if absence and absence.failure:
            raise absence.failure
        if absence or not self._may_serve(repository):
            return None
        name, known = self.route.there(repository), self.memory.source(key)
        own = partial(self.remote.blob, name, digest)
        # Which repositories here may have what is here already, only upstream knows.
        if not (source := known) and not self.registry.blobs.find_anywhere(digest):
            source = self.peers.blob(name, digest, own)
        source = source or own()
        if source is None:
            self.memory.note_absence(key)
        elif source is not known:
            self.memory.keep_source(key, source)
        return source

    def _may_serve(self, repository: RepositoryName) -> bool:
        return self.route.allows(repository) and self.registry.repositories.may_be_upstream(repository)

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        del repository, image  # V1 images are views of manifests, which were loaded before
        return False

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        if not self.route.allows(repository):
            return
        key, ask = list_key(repository, subject), partial(self._load_referrers, repository, subject)
        if (known := self.memory.list_of(key)) is not None and not [*self._missing(repository, known)]:
            return
        is_here = bool(self.registry.referrers.list(repository, subject).rows)
        try:
            self.asked(key, ask, is_here=is_here)
        except (UpstreamFailed, ServerBusy, OSError) as error:
            self.memory.note_stale(key, str(error))
            if not is_here:
                raise
            _log.warning("%s: cannot list all that refers to %s: %s", repository, subject, error)

    def _load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        name = self.route.there(repository)

        def read() -> Sequence[str]:
            return [*islice(self.remote.referrers(name, subject), _REFERRERS)]

        listed = self.memory.listed(list_key(repository, subject), read)
        for digest in self._missing(repository, listed):
            self.load_in_slot(repository, digest)

    def _missing(self, repository: RepositoryName, listed: Sequence[str]) -> Iterator[Digest]:
        """Yield what is not here of the manifests that are listed there."""
        for digest in _parsed(Digest.parse, listed):
            if self.registry.manifests.peek(repository, digest) is None:
                yield digest

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        def read() -> Sequence[str]:
            names = self.remote.tags(self.route.there(repository))
            return sorted(_parsed(Tag.parse, islice(names, _TAGS)))

        return [*islice((Tag(tag) for tag in self.listed(repository, read) if tag > last), limit)]

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        del repository  # as load_image
        return {}

    def ask(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        if row is None or isinstance(reference, Digest):
            return self._get(repository, reference)
        digest = self.remote.digest(self.route.there(repository), reference)
        if digest is None:
            self.require()
            with suppress(TagUnknown):  # another process was faster
                self.registry.tags.delete(repository, reference)
            return False
        if digest != row.digest:
            return self._get(repository, reference)
        self.confirm(repository, reference)
        return True

    def _get(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Load a manifest and point the tag at it; return False if there is none."""
        self.require_served(repository, reference)
        self._require_platform(repository, reference)
        name = self.route.there(repository)
        shared = self.peers.manifest(name, reference) if isinstance(reference, Digest) else None
        fetched = shared or self.remote.manifest(name, reference)
        if fetched is None:
            return False
        if len(fetched.body) > _MANIFEST_LIMIT:
            raise self.failed(f"the manifest {reference} has more than {_MANIFEST_LIMIT} bytes")
        self.require()
        try:
            self._store(repository, reference, fetched)
        except (ManifestInvalid, DigestMismatch) as error:
            raise self.failed(error) from error
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
        self.note_fresh(repository, reference)
        self.note_fetched(repository, reference)

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Return whether an index here lists *reference*, for a platform that is served.

        Of all else that is not here, only the registry there knows: what is deleted here is loaded again.
        """
        if not isinstance(reference, Digest) or not self.route.allows(repository):
            return False
        return any(map(self.route.allows_platform, self.registry.loaded.platforms(repository, reference)))

    def _require_platform(self, repository: RepositoryName, reference: Tag | Digest) -> None:
        """Check that the operator lets the platform of a child be served.

        Raises:
            ManifestUnknown.
        """
        if self.route.platforms and isinstance(reference, Digest):
            platforms = self.registry.loaded.platforms(repository, reference)
            if platforms and not any(map(self.route.allows_platform, platforms)):
                served = ", ".join(self.route.platforms)
                reason = f"the setting upstreams serves only {served} of {self.route.url}"
                raise ManifestUnknown(reference=str(reference), reason=reason)


def _parsed(parse: Callable[[str], Name], texts: Iterable[str]) -> Iterator[Name]:
    """Yield what is valid of what another registry lists."""
    for text in texts:
        try:
            yield parse(text)
        except (TagInvalid, DigestInvalid):
            continue
