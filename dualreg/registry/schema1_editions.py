"""Schema 1 editions: images of today for clients that read nothing newer, one for each tag that they pull.

The payload has the names of the repository and the tag. It is signed when a client first pulls the tag, and
stored with its signatures as a manifest of the repository, recorded as a view of the image. So every client
gets the same bytes, and gets them by digest after the tag was moved, as long as there is the image.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from cachetools import LRUCache, cachedmethod

from dualreg.catalog.database import DatabaseFailure, is_outage
from dualreg.catalog.rows import ManifestRow
from dualreg.errors import BlobDamaged, BlobMissing, ManifestUnverified
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.editions import Edition
from dualreg.image.formats import Role
from dualreg.image.jws import sign, verified_payload
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.schema1 import KIND, kind_for, schema1_from_chain, schema1_from_image
from dualreg.registry.bridge import Bridge
from dualreg.registry.editions import Editions
from dualreg.registry.keys import Keys
from dualreg.registry.loaded import load_children
from dualreg.registry.manifests import Manifests

_log = logging.getLogger(__name__)

#: Bytes of signed manifests that each process keeps, for HEAD and GET to return the same one while none can
#: be stored; and what remembering that there is none counts as.
_CAPACITY, _NONE_SIZE = 16 << 20, 1 << 10
#: Tags of one image for which what is made is stored. Each takes up to twice what follows, counts for no
#: quota, and stays when the tag is gone, as long as there is the image.
_STORED = 100
#: The largest schema 1 payload, in bytes, that is generated; clients of that age refuse larger ones.
_LIMIT = 4 << 20


class Generated(NamedTuple):
    """A signed schema 1 manifest, with the digest of its payload."""

    digest: Digest
    body: bytes


@dataclass(frozen=True)  # without slots, which cachedmethod cannot work with
class Schema1Editions:
    """Makes schema 1 of newer images, and finds what was made.

    Attributes:
        require_room: Called before anything is stored; raises OSError if nothing may be.
    """

    manifests: Manifests
    bridge: Bridge
    editions: Editions
    keys: Keys
    require_room: Callable[[], None] = lambda: None
    _generated: LRUCache[tuple[RepositoryName, Tag, Digest, Digest], Generated | None] = field(
        default_factory=lambda: LRUCache(
            _CAPACITY, getsizeof=lambda made: len(made.body) if made else _NONE_SIZE
        )
    )
    _lock: Lock = field(default_factory=Lock)

    def make(
        self, repository: RepositoryName, tag: Tag, image: ManifestRow
    ) -> ManifestRow | Generated | None:
        """Return an image as schema 1 for a tag, made and stored on first use; None: that cannot express it.

        What cannot be stored, since the registry is read-only, its disk is full, or that of many other tags
        is stored, is returned all the same. It cannot be pulled by its digest unless another pull of the tag
        has stored it.

        Raises:
            BlobMissing: a layer is lost.
            ImageUnreadable: a layer cannot be uncompressed.
            LayersPending: layers are being transcoded.
            ManifestUnknown: the image was deleted meanwhile.
        """
        kind = kind_for(tag)
        with self.manifests.state.catalog.read() as tx:
            known = tx.views.manifest(image.repository_id, image.digest, kind=kind)
            others = {} if known else tx.views.made(image.repository_id, image.digest, KIND)
        if known:
            return known
        generated = self._generate(repository, tag, image, self._without_zstd(repository, image))
        if generated is None or len(others.keys() - {kind}) >= _STORED:
            return generated
        return self._store(repository, image, kind, generated) or generated

    def sign(self, payload: bytes) -> bytes:
        """Return the schema 1 *payload* signed with this registry's key."""
        return sign(payload, self.keys.schema1, self.manifests.state.catalog.now())

    def remake(self, repository: RepositoryName, image: ManifestRow) -> Iterator[tuple[str, bytes]]:
        """Yield the payloads of what was made of an image, with the kinds that it is recorded as.

        The payload is in the signed form, if that is there; if not, it is made again for a tag that exists.
        """
        with self.manifests.state.catalog.read() as tx:
            made = tx.views.made(image.repository_id, image.digest, KIND)
        rows = {row.digest: row for row in self.manifests.peek_all(repository, [*made.values()])}
        signed = {kind: rows[digest] for kind, digest in made.items() if digest in rows}
        lost = made.keys() - (found := dict(self._unsigned(signed))).keys()
        yield from found.items()
        if lost:
            with self.manifests.state.catalog.read() as tx:
                tags = tx.tags.list(repository, last="", limit=None) or ()
            for tag in (each for each in tags if kind_for(each) in lost):
                readable = self._without_zstd(repository, image)
                if payload := self._payload(repository, tag, image, readable):
                    yield kind_for(tag), payload

    def _unsigned(self, made: Mapping[str, ManifestRow]) -> Iterator[tuple[str, bytes]]:
        """Yield the payloads of stored manifests whose signed form is intact, with their kinds."""
        for kind, row in made.items():
            with suppress(BlobMissing, BlobDamaged, ManifestUnverified):
                if signed := self.manifests.signed(row):
                    yield kind, verified_payload(self.manifests.documents.read(signed.digest))

    def _without_zstd(self, repository: RepositoryName, image: ManifestRow) -> ManifestRow:
        """Return an image with gzip layers instead of zstd ones, which the repository has as long as it."""
        if image.media_type in media_types.IMAGES:
            return self.editions.make(repository, image, Edition.GZIP)
        return image

    # The lock is not held while the method runs, and a manifest over the capacity is returned but not kept.
    @cachedmethod(
        lambda self: self._generated,
        key=lambda _, repository, tag, image, readable: (repository, tag, image.digest, readable.digest),
        lock=lambda self: self._lock,
    )
    def _generate(
        self, repository: RepositoryName, tag: Tag, image: ManifestRow, readable: ManifestRow
    ) -> Generated | None:
        """Return the image as signed schema 1, or None if that cannot express it.

        It is kept, since signatures differ each time.

        Args:
            readable: The image without zstd layers.
        """
        payload = self._payload(repository, tag, image, readable)
        if payload is None or len(payload) > _LIMIT:
            return None
        return Generated(Digest.of(payload), self.sign(payload))

    def _payload(
        self, repository: RepositoryName, tag: Tag, image: ManifestRow, readable: ManifestRow
    ) -> bytes | None:
        """Return the image as unsigned schema 1, from pushed V1 JSONs if it has them, else its config.

        None: schema 1 cannot express it.
        """
        load_children(self.manifests.state, repository, image.digest, Role.CONFIG)
        with suppress(BlobMissing, BlobDamaged):  # the config is enough if the JSONs are lost
            if chain := self.bridge.pushed_chain(repository, image):
                return schema1_from_chain(chain, repository, tag)
        read = self.bridge.chains.read_image(readable)
        return read and schema1_from_image(*read, repository, tag)

    def _store(
        self, repository: RepositoryName, image: ManifestRow, kind: str, made: Generated
    ) -> ManifestRow | None:
        """Store and record what was made of an image, and return it; None: nothing can be stored now."""
        try:
            self.require_room()
            body = self._signed(repository, made.digest) or made.body
            return self.editions.store(
                repository, image, kind, media_types.SCHEMA1_SIGNED, body, digest=made.digest
            )
        except (OSError, DatabaseFailure) as error:
            if isinstance(error, DatabaseFailure) and not is_outage(error):
                raise
            _log.info("%s: schema 1 for an old client cannot be stored now: %s", repository, error)
            return None

    def _signed(self, repository: RepositoryName, digest: Digest) -> bytes | None:
        """Return a manifest as it was signed before, by a client or another process; None: it was not."""
        row = self.manifests.peek(repository, digest)
        if row and (signed := self.manifests.signed(row)):
            with suppress(BlobMissing, BlobDamaged):
                return self.manifests.documents.read(signed.digest)
        return None
