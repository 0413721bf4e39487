"""Negotiation: which representation of a tagged image a client gets.

By digest, every client gets the bytes that were pushed. By tag, clients that read only schema 1 get signed
schema 1, and clients that read anything newer get a schema 1 image as schema 2 or OCI. An index goes to
whoever reads indexes of either family; others get its linux/amd64 image.
"""

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from cachetools import LRUCache, cachedmethod

from dualreg.catalog.rows import BlobRow, ManifestRow, RepositoryRow
from dualreg.errors import BlobDamaged, BlobMissing, ManifestUnknown
from dualreg.image import media_types
from dualreg.image.convert import manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.jws import sign
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.schema1 import schema1_from_chain, schema1_from_image
from dualreg.registry.bridge import Bridge
from dualreg.registry.keys import Keys
from dualreg.registry.manifests import Manifests

_log = logging.getLogger(__name__)

#: Bytes of generated manifests that each process keeps, so that HEAD and GET return the same one; and what
#: remembering that there is none counts as.
_CAPACITY, _NONE_SIZE = 16 << 20, 1 << 10
#: Why a manifest whose bytes the store does not have is unknown.
LOST = "its stored bytes are lost or damaged; push it again"
#: The largest schema 1 payload, in bytes, that is generated; clients of that age refuse larger ones.
_SCHEMA1_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class Accept:
    """What manifests a client accepts.

    Attributes:
        types: The media types in its ``Accept`` headers; empty: it sends none.
        wildcard: Whether it also accepts any type; no client means schema 1 by that.
        schema1_by_default: Whether it reads only schema 1 without saying so, as Docker 1.6 to 1.9 do.
        as_stored: Whether it wants no conversion, whatever the type.
    """

    types: frozenset[str] = frozenset()
    wildcard: bool = False
    schema1_by_default: bool = False
    as_stored: bool = False

    @property
    def only_schema1(self) -> bool:
        """Whether the client reads nothing newer than schema 1."""
        if self.wildcard or not self.types:
            return self.schema1_by_default
        named = self.types - {"application/json"}  # which says nothing about manifests
        return bool(named) and named <= media_types.SCHEMA1_TYPES

    def allows(self, media_type: str) -> bool:
        """Return whether the client reads manifests of that type."""
        if media_type in self.types or not self.types:
            return True
        return self.wildcard and media_type not in media_types.SCHEMA1_TYPES

    def allows_any(self, choices: AbstractSet[str]) -> bool:
        """Return whether one of the media types *choices* is named."""
        return not self.types.isdisjoint(choices)


@dataclass(frozen=True, slots=True)
class Representation:
    """A manifest in the form that one client gets.

    Attributes:
        digest: The value of ``Docker-Content-Digest``; for schema 1, of the payload without signatures.
        size: Bytes of what ``read`` returns.
        row: The manifest that it is, byte for byte; None: it was generated, or signed anew.
    """

    media_type: str
    digest: Digest
    size: int
    read: Callable[[], bytes]
    row: ManifestRow | None = None


@dataclass(frozen=True)  # without slots, which cachedmethod cannot work with
class Negotiation:
    """Chooses or generates the manifest that a client gets."""

    manifests: Manifests
    bridge: Bridge
    keys: Keys
    _generated: LRUCache[tuple[RepositoryName, Tag, Digest], Representation | None] = field(
        default_factory=lambda: LRUCache(_CAPACITY, getsizeof=lambda made: made.size if made else _NONE_SIZE)
    )
    _lock: Lock = field(default_factory=Lock)

    def find(self, repository: RepositoryName, reference: Tag | Digest, accept: Accept) -> Representation:
        """Return the representation of *reference* that suits *accept* best.

        A client that accepts no available one gets the manifest as it was pushed: it will report the media
        type. Only a client that reads nothing but schema 1 may get none. A client that reads indexes never
        gets an image that was chosen for it.

        Raises:
            ManifestUnknown.

        Source: OCI distribution-spec v1.1, "Pulling manifests"; distribution 2.3 to 2.8 for old clients.
        """
        row = self.manifests.find(repository, reference)
        schema1, index = row.media_type in media_types.SCHEMA1_TYPES, row.media_type in media_types.INDEXES
        if isinstance(reference, Digest) or accept.as_stored or (schema1 and accept.only_schema1):
            return self._stored(repository, row)
        if index and accept.allows_any(media_types.INDEXES):
            return self._stored(repository, row)  # of whatever family: only the client knows its platform
        if accept.only_schema1:
            return self._as_schema1(repository, reference, row)
        if accept.allows_any(media_types.IMAGES):
            if schema1:  # go-containerregistry names it too, and cannot read it
                row = self._convert_schema1(repository, reference, row, accept) or row
            elif index and not accept.allows(row.media_type):
                row = self.manifests.image_of(repository, row) or row
        if not accept.allows(row.media_type) and accept.allows_any(media_types.SCHEMA1_TYPES):
            with suppress(ManifestUnknown):  # Docker 1.10 reads schema 1 and 2, but not OCI
                return self._as_schema1(repository, reference, row)
        return self._stored(repository, row)

    def sign(self, payload: bytes) -> bytes:
        """Return the schema 1 *payload* signed with this registry's key."""
        return sign(payload, self.keys.schema1, self.manifests.state.catalog.now())

    def signed(self, repository: RepositoryName, row: ManifestRow) -> bytes | None:
        """Return a schema 1 manifest with its signatures, as pushed; None of other manifests.

        If they are lost, it is signed with this registry's key, and stored so: its digest does not depend on
        signatures.
        """
        found = self.manifests.signed(row)
        if found is None:
            return None
        try:
            return self.manifests.documents.read(found.digest)
        except (BlobMissing, BlobDamaged):
            body = self.sign(self.manifests.payload(row))
            self.manifests.put(repository, row.digest, row.media_type, body)
            _log.warning(
                "%s: the signatures of %s were lost or damaged; it was signed again", repository, row.digest
            )
            return body

    def _stored(self, repository: RepositoryName, row: ManifestRow) -> Representation:
        """Return the manifest as it was pushed."""
        if row.media_type in media_types.SCHEMA1_TYPES and (body := self.signed(repository, row)):
            return Representation(row.media_type, row.digest, len(body), lambda: body)
        self.require(row)
        return Representation(row.media_type, row.digest, row.size, lambda: self.manifests.payload(row), row)

    def require(self, row: ManifestRow) -> None:
        """Raise ManifestUnknown unless the store has all bytes of a manifest."""
        if not self.manifests.integrity.holds(BlobRow(row.digest, row.size)):
            raise ManifestUnknown(reference=str(row.digest), reason=LOST)

    def _as_schema1(self, repository: RepositoryName, tag: Tag, row: ManifestRow) -> Representation:
        image = self.manifests.image_of(repository, row)
        generated = self._generate(repository, tag, image) if image else None
        if generated is None:
            reason = "this image cannot be expressed as schema 1"
            raise ManifestUnknown(reference=tag, reason=reason)
        return generated

    # The lock is not held while the method runs, and a manifest over the capacity is returned but not kept.
    @cachedmethod(
        lambda self: self._generated,
        key=lambda _, repository, tag, image: (repository, tag, image.digest),
        lock=lambda self: self._lock,
    )
    def _generate(self, repository: RepositoryName, tag: Tag, image: ManifestRow) -> Representation | None:
        """Return the image as signed schema 1, or None if that cannot express it.

        It is kept, since signatures differ each time.
        """
        payload = self._payload(repository, tag, image)
        if payload is None or len(payload) > _SCHEMA1_LIMIT:
            return None
        body = self.sign(payload)
        return Representation(media_types.SCHEMA1_SIGNED, Digest.of(payload), len(body), lambda: body)

    def _payload(self, repository: RepositoryName, tag: Tag, image: ManifestRow) -> bytes | None:
        """Return the image as unsigned schema 1, from pushed V1 JSONs if it has them, else its config.

        None: schema 1 cannot express it.
        """
        with suppress(BlobMissing, BlobDamaged):  # the config is enough if the JSONs are lost
            if chain := self.bridge.pushed_chain(repository, image):
                return schema1_from_chain(chain, repository, tag)
        read = self.bridge.chains.read_image(image)
        return read and schema1_from_image(*read, repository, tag)

    def _convert_schema1(
        self, repository: RepositoryName, tag: Tag, row: ManifestRow, accept: Accept
    ) -> ManifestRow | None:
        """Return a schema 1 image as schema 2 or OCI, converted and stored on first use; None: impossible."""
        docker = media_types.DOCKER_MANIFEST in accept.types
        kind, media_type = (
            ("schema2", media_types.DOCKER_MANIFEST) if docker else ("oci", media_types.OCI_MANIFEST)
        )
        catalog = self.manifests.state.catalog
        with catalog.read() as tx:
            known = tx.views.find(row.repository_id, row.digest, kind=kind)
            found = tx.manifests.find(repository, Digest.parse(known)) if known else None
            excluded = tx.views.excluded(row.repository_id, row.digest, kind=kind)
        if found or excluded:
            return found
        chain = self.bridge.schema1_chain(repository, tag, row)
        if chain is None:
            self._record(repository, row, None, kind)
            return None
        converted = manifest_from_chain(chain, media_type=media_type)
        self.bridge.uploads.ingest(repository, [converted.config])
        digest = Digest.of(converted.payload)
        self.manifests.put(repository, digest, media_type, converted.payload)
        self._record(repository, row, digest, kind)
        return self.manifests.find(repository, digest)

    def _record(self, name: RepositoryName, row: ManifestRow, view: Digest | None, kind: str) -> None:
        """Record what the manifest was converted to, or that it cannot be, unless it is gone."""
        state, repository = self.manifests.state, RepositoryRow(row.repository_id, name)
        with state.begin() as tx:
            if tx.manifests.lock_existing(row.repository_id, [row.digest]):
                state.record_view(tx, repository, row.digest, None if view is None else str(view), kind)
