"""Derived blobs: what this registry made itself, and makes again if its files are lost or damaged.

These are the JSONs of V1 views, manifests and configs that were made of V1 images or schema 1, editions of
newer manifests, of which some are schema 1, and layers that were compressed anew for them. The garbage
collection of another registry over the same files knows none of them. A result is stored only under its own
digest, so that what is made again is what was lost.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock, local

from cachetools import TTLCache

from dualreg.catalog.rows import BlobRow, ManifestRow, RepositoryRow
from dualreg.errors import BlobDamaged, BlobMissing, ImageUnreadable, RegistryError
from dualreg.image import media_types
from dualreg.image.convert import manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.editions import Edition
from dualreg.image.names import RepositoryName
from dualreg.image.schema1 import KIND
from dualreg.registry.bridge import Bridge
from dualreg.registry.editions import Editions
from dualreg.registry.platform_editions import PlatformEditions
from dualreg.registry.schema1_editions import Schema1Editions
from dualreg.registry.state import State

_log = logging.getLogger(__name__)
#: From how many manifests a blob is tried to be made again.
_TRIES = 10
#: How long it is remembered that a blob cannot be made again, in seconds, and of how many blobs.
_PAUSE, _REMEMBERED = 60.0, 10_000


@dataclass(frozen=True, slots=True)
class Derived:
    """Finds derived blobs, and makes them again."""

    state: State
    bridge: Bridge
    editions: Editions
    platforms: PlatformEditions
    schema1: Schema1Editions
    _hopeless: TTLCache[Digest, None] = field(default_factory=lambda: TTLCache(_REMEMBERED, _PAUSE))
    _lock: Lock = field(default_factory=Lock)
    _active: local = field(default_factory=local)

    def blobs(self, repository: RepositoryName, manifest: Digest) -> tuple[BlobRow, ...]:
        """Return what was derived from a manifest: the JSONs of its V1 view, and conversions."""
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            if row is None:
                return ()
            queries = (tx.derivations.jsons, tx.derivations.conversions, tx.derivations.configs)
            return tuple(dict.fromkeys(blob for query in queries for blob in query(row.id, manifest)))

    def restore(self, digest: Digest) -> bool:
        """Make a derived blob again and store it; return whether that was possible.

        That it was not is remembered for a minute.
        """
        with self._lock:
            if digest in self._hopeless:
                return False
        with self._once(digest) as first:  # nothing can be made of itself
            restored = first and any(digest in stored for stored in self._attempts(digest))
        if restored:
            _log.warning("%s was lost or damaged; it was derived again", digest)
        elif first:
            with self._lock:
                self._hopeless[digest] = None
        return restored

    def forget_view(self, repository: RepositoryName, manifest: Digest, kind: str) -> bool:
        """Forget what a manifest is seen as, which is derived again; return False without the repository."""
        with self.state.begin() as tx:
            row = tx.repositories.lock(repository)
            if row is None:
                return False
            tx.views.forget(row.id, manifest, kind)
            self.state.links.record_view(repository, manifest, kind, None)
        return True

    @contextmanager
    def _once(self, digest: Digest) -> Iterator[bool]:
        """Yield whether this thread is not making the blob already."""
        active: set[Digest] = self._active.__dict__.setdefault("digests", set())
        if digest in active:
            yield False
            return
        active.add(digest)
        try:
            yield True
        finally:
            active.remove(digest)

    def _attempts(self, digest: Digest) -> Iterator[AbstractSet[Digest]]:
        """Derive again what *digest* may be part of, in one way after the other; yield what was stored."""
        with self.state.catalog.read() as tx:
            sources = [(each, tx.uses.holders(each, 1)) for each in tx.transcoded.sources(digest)]
            ways = (
                (self._jsons, tx.derivations.seen_with_json(digest, _TRIES)),
                (self._manifest, tx.derivations.made_of_v1(digest, _TRIES)),
                (self._conversions, tx.derivations.converted(digest, _TRIES)),
            )
        attempts = [partial(self._layer, each, source, digest) for source, held in sources for each in held]
        for derive, places in ways:
            attempts += [partial(self._of_manifest, derive, *place) for place in places]
        for attempt in attempts:
            try:
                yield attempt()
            except (BlobMissing, BlobDamaged, RegistryError, ValueError, OSError) as error:
                _log.info("cannot derive %s from %s: %s", digest, attempt.args[1], error)

    def _of_manifest(
        self,
        derive: Callable[[RepositoryRow, ManifestRow], AbstractSet[Digest]],
        repository: RepositoryRow,
        manifest: Digest,
    ) -> AbstractSet[Digest]:
        row = self.bridge.manifests.peek(repository.name, manifest)
        return derive(repository, row) if row else frozenset()

    def _layer(self, repository: RepositoryRow, source: Digest, edition: Digest) -> AbstractSet[Digest]:
        """Store the gzip edition of a layer, which *edition* was."""
        with self.state.begin() as tx:
            tx.transcoded.forget(source, edition)
        made = self.editions.transcoding.editions(repository.name, {source})
        return frozenset(blob.digest for blob in made.values())

    def _jsons(self, repository: RepositoryRow, row: ManifestRow) -> AbstractSet[Digest]:
        """Store the JSONs of the V1 view of a manifest."""
        image = self.bridge.manifests.image_of(repository.name, row)
        chain = (image and self.bridge.chains.of(image)) or ()
        return self.state.store_documents(repository, [link.image.json for link in chain], again=True)

    def _manifest(self, repository: RepositoryRow, row: ManifestRow) -> AbstractSet[Digest]:
        """Store a manifest that was made of V1 images, with its config and the layers compressed for it."""
        image = self.bridge.view_of(row)
        if image is None:
            return frozenset()
        ancestry = self.bridge.v1_images.ancestry(repository.name, image)
        links = self.bridge.named_links(repository.name, ancestry)
        compressed = {link.layer.digest for link in links} - {image.layer for image in ancestry}
        for named in (False, True):
            made = manifest_from_chain(links, named=named)
            if Digest.of(made.payload) == row.digest:
                return compressed | self.state.store_documents(
                    repository, [made.config, made.payload], again=True
                )
        return compressed

    def _conversions(self, repository: RepositoryRow, row: ManifestRow) -> AbstractSet[Digest]:
        """Store what a manifest was converted to, with the configs that were made for schema 1."""
        with self.state.catalog.read() as tx:
            wanted = {blob.digest for blob in tx.derivations.conversions(repository.id, row.digest)}
        if row.media_type not in media_types.SCHEMA1_TYPES:
            return self._editions(repository, row, wanted)
        stored = set[Digest]()
        # Images of the view may have been replaced since by pushed ones that mean the same.
        for read in (partial(self.bridge.view_chain, repository.name), self.bridge.chains.of_schema1):
            chain = read(row) if wanted - stored else None
            for media_type in (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST):
                made = chain and manifest_from_chain(chain, media_type=media_type)
                if made and Digest.of(made.payload) in wanted:
                    stored |= self.state.store_documents(repository, [made.config, made.payload], again=True)
        return stored

    def _editions(
        self, repository: RepositoryRow, row: ManifestRow, wanted: AbstractSet[Digest]
    ) -> AbstractSet[Digest]:
        """Store the editions of a manifest, with the layers that are transcoded for them."""
        remade = dict(self._remade(repository, row))
        made = {Digest.of(each): each for each in remade.values()}
        kinds = {*remade, *(edition.kind for edition in Edition)}
        self._forget_others(repository, row, made.keys(), kinds)
        schema1 = dict(self.schema1.remake(repository.name, row))
        self._forget_schema1(repository, row, schema1)
        made |= {Digest.of(each): each for each in schema1.values()}
        layers = [child.descriptor.digest for child in self.bridge.manifests.load(row).children]
        with self.state.catalog.read() as tx:
            transcoded = {blob.digest for blob in tx.transcoded.find(layers).values()}
        found = [made[digest] for digest in wanted & made.keys()]
        return transcoded | self.state.store_documents(repository, found, again=True)

    def _remade(self, repository: RepositoryRow, row: ManifestRow) -> Iterator[tuple[str, bytes]]:
        """Yield the payloads of those editions of a manifest that are recorded, with their kinds."""
        with self.state.catalog.read() as tx:
            kinds = tx.views.kinds(repository.id, row.digest)
        for edition in Edition:
            own = edition if row.media_type in media_types.INDEXES else edition.of(row.media_type)
            if not kinds.isdisjoint((own.kind, own.partial_kind)):
                with suppress(ImageUnreadable):
                    yield own.kind, self.editions.payload(repository.name, row, own)
        yield from self.platforms.remake(repository.name, row, kinds)

    def _forget_others(
        self, repository: RepositoryRow, row: ManifestRow, made: AbstractSet[Digest], kinds: Iterable[str]
    ) -> None:
        """Forget editions of a manifest that cannot be made again, since its layers were by another zlib.

        Clients get the present ones by tag, and what the others name may be lost. So those of indexes that
        list one of them are forgotten, too.
        """
        for kind in kinds:
            with self.state.catalog.read() as tx:
                view = tx.views.find(repository.id, row.digest, kind=kind)
                listing = tx.views.listing(repository.id, Digest.parse(view)) if view else ()
            if view and Digest.parse(view) not in made:
                for manifest, each in ((row.digest, kind), *listing):
                    self.forget_view(repository.name, manifest, each)

    def _forget_schema1(self, repository: RepositoryRow, row: ManifestRow, made: Mapping[str, bytes]) -> None:
        """Forget schema 1 of a manifest, by kinds, whose layers are lost and that is made otherwise now."""
        holds = self.bridge.manifests.integrity.holds
        with self.state.catalog.read() as tx:
            known = tx.views.made(repository.id, row.digest, KIND)
            others = {kind: known[kind] for kind, each in made.items() if Digest.of(each) != known.get(kind)}
            named = {kind: tx.manifests.graph(repository.name, digest) for kind, digest in others.items()}
        for kind, blobs in named.items():
            if not all(map(holds, blobs)):
                self.forget_view(repository.name, row.digest, kind)
