"""Editions: a tagged image as the generation of client that asks can read it.

By digest everybody gets the bytes that were pushed. By tag, clients that read nothing newer get signed schema
1, and those that read nothing older get a schema 1 image as schema 2 or OCI.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from cachetools import LRUCache

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import ManifestUnknown
from dualreg.image import media_types
from dualreg.image.convert import manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.jws import sign
from dualreg.image.manifest import parse
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.schema1 import schema1_from_chain, schema1_from_image
from dualreg.registry.bridge import Bridge, is_readable_config
from dualreg.registry.keys import Keys
from dualreg.registry.manifests import Manifests

#: Bytes of generated manifests that each process keeps, so that HEAD and GET tell the same.
_CAPACITY = 4 << 20


@dataclass(frozen=True, slots=True)
class Reader:
    """What a client can read.

    Attributes:
        accept: The media types that it names; empty: it names none.
        anything: It also says that it takes anything, which no client means of schema 1.
        legacy: It is Docker 1.6 to 1.9, which names nothing and reads nothing but schema 1.
    """

    accept: frozenset[str] = frozenset()
    anything: bool = False
    legacy: bool = False

    @property
    def only_schema1(self) -> bool:
        """Tell whether nothing newer than schema 1 is of use."""
        if self.anything or not self.accept:
            return self.legacy
        named = self.accept - {"application/json"}  # which says nothing
        return bool(named) and named <= media_types.SCHEMA1_TYPES

    def takes(self, media_type: str) -> bool:
        """Tell whether the client reads manifests of that type as they are."""
        if media_type in self.accept or not self.accept:
            return True
        return self.anything and media_type not in media_types.SCHEMA1_TYPES


@dataclass(frozen=True, slots=True)
class Representation:
    """A manifest as one client gets it.

    Attributes:
        digest: What ``Docker-Content-Digest`` says; of schema 1, that of the payload without signatures.
        size: Bytes of what ``read`` returns.
    """

    media_type: str
    digest: Digest
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Negotiation:
    """The rules by which a manifest is chosen or made for a client."""

    manifests: Manifests
    bridge: Bridge
    keys: Keys
    _made: LRUCache[tuple[RepositoryName, Tag, Digest], Representation] = field(
        default_factory=lambda: LRUCache(_CAPACITY, getsizeof=lambda representation: representation.size)
    )
    _lock: Lock = field(default_factory=Lock)

    def find(self, repository: RepositoryName, reference: Tag | Digest, reader: Reader) -> Representation:
        """Return what *reader* gets for *reference*.

        Never an empty hand because of what a client names, unless it is schema 1 that cannot be made: a
        client that can use nothing is told by what it gets.

        Raises:
            RepositoryUnknown, ManifestUnknown.

        Source: OCI distribution-spec v1.1, "Pulling manifests"; distribution 2.3 to 2.8 for old clients.
        """
        row = self.manifests.find(repository, reference)
        schema1 = row.media_type in media_types.SCHEMA1_TYPES
        if isinstance(reference, Digest) or (schema1 and reader.only_schema1):
            return self._stored(row)
        if reader.only_schema1:
            return self._as_schema1(repository, reference, row)
        if not reader.takes(row.media_type) and not media_types.IMAGES.isdisjoint(reader.accept):
            if schema1:
                row = self._derived(repository, reference, row, reader) or row
            elif row.media_type in media_types.INDEXES:
                row = self.manifests.image_of(repository, row) or row
        if not reader.takes(row.media_type) and not media_types.SCHEMA1_TYPES.isdisjoint(reader.accept):
            with suppress(ManifestUnknown):  # Docker 1.10 reads schema 1 and 2, and no OCI
                return self._as_schema1(repository, reference, row)
        return self._stored(row)

    def sign(self, payload: bytes) -> bytes:
        """Return the schema 1 *payload* signed with this registry's key."""
        return sign(payload, self.keys.schema1, self.manifests.state.catalog.now())

    def _stored(self, row: ManifestRow) -> Representation:
        """Return the bytes as they were pushed."""
        if row.media_type in media_types.SCHEMA1_TYPES and (signed := self.manifests.signed(row)):
            read = lambda: self.manifests.documents.read(signed.digest)  # noqa: E731 -- bound to this one digest
            return Representation(row.media_type, row.digest, signed.size, read)
        return Representation(row.media_type, row.digest, row.size, lambda: self.manifests.payload(row))

    def _as_schema1(self, repository: RepositoryName, tag: Tag, row: ManifestRow) -> Representation:
        image = self.manifests.image_of(repository, row)
        if image is None:
            raise _inexpressible(tag)
        key = (repository, tag, image.digest)
        with self._lock:
            representation = self._made.get(key)
        if representation is None:
            payload = self._payload(repository, tag, image)
            body = self.sign(payload)
            representation = Representation(
                media_types.SCHEMA1_SIGNED, Digest.of(payload), len(body), lambda: body
            )
            if representation.size <= _CAPACITY:
                with self._lock:
                    self._made[key] = representation
        return representation

    def _payload(self, repository: RepositoryName, tag: Tag, image: ManifestRow) -> bytes:
        """Return the image as schema 1: with the V1 JSONs that its client pushed, or made from its config."""
        chain = self.bridge.pushed_chain(repository, image)
        if chain:
            return schema1_from_chain(chain, repository, tag)
        payload = None
        if image.media_type in media_types.IMAGES:
            manifest = parse(image.media_type, self.manifests.payload(image))
            (config,) = manifest.described(Role.CONFIG)
            if is_readable_config(config):
                read = self.manifests.documents.read(config.digest)
                payload = schema1_from_image(manifest, read, repository, tag)
        if payload is None:
            raise _inexpressible(tag)
        return payload

    def _derived(
        self, repository: RepositoryName, tag: Tag, row: ManifestRow, reader: Reader
    ) -> ManifestRow | None:
        """Return the schema 2 or OCI manifest of a schema 1 image, made and stored on first need."""
        docker = media_types.DOCKER_MANIFEST in reader.accept
        kind, media_type = (
            ("schema2", media_types.DOCKER_MANIFEST) if docker else ("oci", media_types.OCI_MANIFEST)
        )
        catalog = self.manifests.state.catalog
        with catalog.read() as tx:
            known = tx.views.find(row.repository_id, row.digest, kind=kind)
            found = tx.manifests.find(repository, Digest.parse(known)) if known else None
        if found:
            return found
        chain = self.bridge.seen_chain(repository, tag, row)
        if chain is None:
            return None
        converted = manifest_from_chain(chain, media_type=media_type)
        self.bridge.uploads.ingest(repository, [converted.config])
        digest = Digest.of(converted.payload)
        self.manifests.put(repository, digest, media_type, converted.payload)
        with catalog.begin() as tx:
            if tx.manifests.held(row.repository_id, [row.digest]):
                tx.views.record(row.repository_id, row.digest, str(digest), kind=kind)
        return self.manifests.find(repository, digest)


def _inexpressible(tag: Tag) -> ManifestUnknown:
    return ManifestUnknown(reference=tag, reason="this image cannot be expressed as schema 1")
