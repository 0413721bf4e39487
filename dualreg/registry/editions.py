"""Editions: which form of a tagged image a client gets, and the manifests that are made for it.

``suitable`` is the table. What is made is stored as a manifest of the repository and recorded as a view of
the one that it was made of, so that it is made once, can be pulled by its digest, and is kept as long.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Any, NamedTuple

from cachetools import LRUCache

from dualreg.catalog.rows import BlobRow, ManifestRow, RepositoryRow
from dualreg.errors import BlobDamaged, BlobMissing, ImageInvalid, ImageUnreadable, ReferencesMissing
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.editions import (
    Edition,
    Family,
    check_convertible,
    check_for_v1,
    has_zstd,
    image_edition,
    index_edition,
    is_image,
    outline,
    zstd_layers,
)
from dualreg.image.manifest import Manifest, stored_contents
from dualreg.image.names import RepositoryName
from dualreg.image.platform import Platform, choose
from dualreg.registry.accept import Accept
from dualreg.registry.index_entries import Images, IndexEntries
from dualreg.registry.manifests import Manifests
from dualreg.registry.provenance import MadeOf, Provenance
from dualreg.registry.transcoding import Transcoding

#: Manifests of which each process remembers what they ask of a client.
_NATURES = 10_000
#: About how many bytes it remembers of what indexes list for which platform.
_CAPACITY = 8 << 20
_Platforms = tuple[tuple[Mapping[str, Any], Digest], ...]
#: Why an edition of an index leaves an image out.
_Reason = ImageUnreadable | BlobMissing | BlobDamaged


class Form(StrEnum):
    """The forms in which a client gets a tagged image; the last three are the editions."""

    AS_STORED = "as stored"
    SCHEMA1 = "schema 1"
    PLATFORM = "the image for one platform"
    GZIP = Edition.GZIP
    SCHEMA2 = Edition.SCHEMA2
    OCI = Edition.OCI


class Nature(NamedTuple):
    """What a manifest asks of a client; an index asks for what all its images do.

    Attributes:
        families: The families of the image manifests.
        zstd: Whether layers are compressed with zstd.
        artifact: Whether it is no image, or lists none.
    """

    media_type: str
    families: frozenset[Family] = frozenset()
    zstd: bool = False
    artifact: bool = False


def suitable(accept: Accept, nature: Nature) -> Form:
    """Return the form of an image that a client gets by tag.

    Source: docs/editions.md, which has the table for readers.
    """
    media_type = nature.media_type
    schema1, index = media_type in media_types.SCHEMA1_TYPES, media_type in media_types.INDEXES
    if accept.as_stored or not (schema1 or index or media_type in media_types.IMAGES):
        return Form.AS_STORED
    if accept.only_schema1:
        return Form.AS_STORED if schema1 else Form.SCHEMA1
    if index and not accept.indexes:
        return Form.PLATFORM
    if not accept.names(media_types.IMAGES) and accept.names(media_types.SCHEMA1_TYPES) and not index:
        return Form.AS_STORED if schema1 else Form.SCHEMA1
    if schema1:
        return _newer(accept)
    return _edition(accept, nature, accept.indexes if index else accept.images)


def _newer(accept: Accept) -> Form:
    """Return the form of a schema 1 image that a client gets who may read newer ones."""
    if not accept.names(media_types.IMAGES):
        return Form.AS_STORED
    return Form.SCHEMA2 if media_types.DOCKER_MANIFEST in accept.types else Form.OCI


def _edition(accept: Accept, nature: Nature, readable: frozenset[Family]) -> Form:
    """Return the form of an image, or of an index for a client that reads those of *readable*."""
    own, images = Family.of(nature.media_type), accept.images
    of_own = own in readable and nature.families <= images
    if of_own and (accept.agent.zstd or not nature.zstd):
        return Form.AS_STORED
    if nature.artifact and Family.OCI in images:
        return Form.AS_STORED  # such clients know that there is more than images
    if of_own:
        return Form.GZIP
    family = next((each for each in (own, *Family) if each in readable & images), own)
    return Form(Edition.in_family(family))


@dataclass(frozen=True)
class Editions:
    """Makes editions of images, counts them by kind in ``made``, and finds those that were made."""

    manifests: Manifests
    entries: IndexEntries
    transcoding: Transcoding
    _natures: LRUCache[ManifestRow, Nature] = field(default_factory=lambda: LRUCache(_NATURES))
    _indexes: LRUCache[ManifestRow, _Platforms] = field(
        default_factory=lambda: LRUCache(_CAPACITY, getsizeof=lambda there: 1000 + len(repr(there)))
    )
    made: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def form(self, repository: RepositoryName, row: ManifestRow, accept: Accept) -> Form:
        """Return the form of a tagged manifest that a client gets; it is read only if that depends on it."""
        decided = accept.newest or accept.only_schema1 or accept.as_stored
        if decided or row.media_type not in media_types.IMAGES | media_types.INDEXES:
            return suitable(accept, Nature(row.media_type))
        return suitable(accept, self.nature(repository, row))

    def nature(self, repository: RepositoryName, row: ManifestRow) -> Nature:
        """Return what a manifest asks of a client; of an index with too many entries, only its type."""
        with self._lock:
            if known := self._natures.get(row):
                return known
        nature, complete = self._look(repository, row)
        if complete:
            with self._lock:
                self._natures[row] = nature
        return nature

    def _look(self, repository: RepositoryName, row: ManifestRow) -> tuple[Nature, bool]:
        """Return the nature of a manifest, and whether all that it depends on is in the repository."""
        if row.media_type not in media_types.INDEXES:
            return _nature_of(row.media_type, [self._read(row)]), True
        try:
            images = self.entries.images(repository, row)
        except ImageUnreadable:
            return Nature(row.media_type), True
        found, lost = list[Manifest](), list[_Reason]()
        for each in images.listed:
            if each.row.media_type in media_types.IMAGES:
                with _noting(lost):
                    found.append(self._read(each.row))
        return _nature_of(row.media_type, found), images.complete and not lost

    def image_for(self, repository: RepositoryName, row: ManifestRow, platform: Platform) -> ManifestRow:
        """Return the manifest itself or, of an index, the image that it lists for a platform.

        Raises:
            ImageUnreadable: it lists none, or too many.
        """
        if row.media_type not in media_types.INDEXES:
            return row
        there = self._platforms(repository, row)
        chosen = choose(platform, there)
        if chosen is None:
            known = filter(None, sorted({str(Platform.named_by(each)) for each, _ in there}))
            others = f", only for {', '.join(known)[:500]}" if there else ""
            raise ImageUnreadable(reason=f"there is no image for {platform}{others}")
        return self.manifests.find(repository, chosen)

    def _platforms(self, repository: RepositoryName, index: ManifestRow) -> _Platforms:
        """Return the images that an index lists, with their ``platform`` objects; remembered if it has all.

        Raises:
            ImageUnreadable: there are too many.
        """
        with self._lock:
            if known := self._indexes.get(index):
                return known
        images = self.entries.images(repository, index)
        there = tuple((self.entries.platform(each), each.row.digest) for each in images.listed)
        if images.complete:
            with self._lock, suppress(ValueError):  # more than are remembered in all
                self._indexes[index] = there
        return there

    def make(
        self,
        repository: RepositoryName,
        row: ManifestRow,
        edition: Edition,
        *,
        whole: bool = False,
        first: Platform | None = None,
    ) -> ManifestRow:
        """Return an edition of a manifest, made and stored on first use; the manifest, if it is one itself.

        Args:
            whole: Whether that of an index must have all its images, not only those that have the edition.
            first: The platform of whose images the layers are made first.

        Raises:
            ImageUnreadable: there cannot be one.
        """
        if row.media_type not in media_types.INDEXES:
            manifest = self._read(row)
            check_convertible(manifest, edition)
            return self._make(repository, {row: manifest}, edition)[row.digest]
        images = self.entries.images(repository, row)
        known = self._known(repository, {row.digest: edition.kind})
        if known and images.complete:
            return known[row.digest]
        made, left_out = self.index(repository, row, edition, self.entries.with_first(images, first))
        if whole and (left_out or not images.complete):
            reasons = [each.reason for each in left_out if isinstance(each, ImageUnreadable)]
            raise ImageUnreadable(reason=reasons[0] if reasons else "images of its index are not available")
        is_final = images.complete and all(isinstance(each, ImageUnreadable) for each in left_out)
        return self.store(repository, row, edition.kind if is_final else edition.partial_kind, *made)

    def outline(self, row: ManifestRow, edition: Edition) -> tuple[str, bytes]:
        """Return the media type and the first bytes of what ``make`` returns when the layers are ready."""
        return outline(row.media_type, self.manifests.payload(row), edition)

    def check_for_v1(self, repository: RepositoryName, row: ManifestRow, platform: Platform) -> None:
        """Raise ImageUnreadable, with the reason, if a manifest is none that V1 and schema 1 can express."""
        image = self.image_for(repository, row, platform)
        if image.media_type in media_types.IMAGES:
            check_for_v1(self._read(image))

    def payload(self, repository: RepositoryName, row: ManifestRow, edition: Edition) -> bytes:
        """Return the payload of an edition of a manifest, as it is made now; raises as ``make``."""
        if row.media_type in media_types.INDEXES:
            (_, payload), _ = self.index(repository, row, edition, self.entries.images(repository, row))
            return payload
        manifest = self._read(row)
        gzipped = self._gzipped(repository, zstd_layers(manifest))
        return image_edition(manifest, edition.of(row.media_type), gzipped)[1]

    def index(
        self, repository: RepositoryName, row: ManifestRow, edition: Edition, images: Images
    ) -> tuple[tuple[str, bytes], Sequence[_Reason]]:
        """Return the media type and payload of an edition of an index, and why it leaves images out.

        It lists those of its *images* that have the edition, which are stored.
        """
        readable, reasons = dict[ManifestRow, Manifest](), list[_Reason]()
        for each in images.in_turn:
            if each.row.media_type in media_types.IMAGES:
                with _noting(reasons):
                    manifest = self._read(each.row)
                    check_convertible(manifest, edition)
                    readable[each.row] = manifest
        made = self._make_some(repository, readable, edition, reasons)
        if not made:
            raise reasons[0] if reasons else ImageUnreadable(reason="its index lists no image")
        entries = [
            self.entries.entry(each, made[each.row.digest])
            for each in images.listed
            if each.row.digest in made
        ]
        return index_edition(row.media_type, self.manifests.payload(row), edition, entries), reasons

    def _make_some(
        self,
        repository: RepositoryName,
        images: Mapping[ManifestRow, Manifest],
        edition: Edition,
        reasons: list[_Reason],
    ) -> dict[Digest, ManifestRow]:
        """Return editions of images, as ``_make``, without those whose layers are unreadable or lost.

        A damaged layer is another matter: to find that out takes as long as to transcode it.

        Args:
            reasons: Takes why they are left out.
        """
        with suppress(ImageUnreadable, BlobMissing):
            return self._make(repository, images, edition)
        made = dict[Digest, ManifestRow]()
        for row, manifest in images.items():
            with _noting(reasons):
                made |= self._make(repository, {row: manifest}, edition)
        return made

    def _make(
        self, repository: RepositoryName, images: Mapping[ManifestRow, Manifest], edition: Edition
    ) -> dict[Digest, ManifestRow]:
        """Return editions of images, by the digests of these; those that are missing are made and stored."""
        names = {row: edition.of(row.media_type) for row in images}
        same = {row for row, name in names.items() if name is Edition.GZIP and not has_zstd(images[row])}
        kinds = {row.digest: name.kind for row, name in names.items() if row not in same}
        made = {row.digest: row for row in same} | (self._known(repository, kinds) if kinds else {})
        missing = {row: manifest for row, manifest in images.items() if row.digest not in made}
        gzipped = self._gzipped(repository, [each for one in missing.values() for each in zstd_layers(one)])
        for row, manifest in missing.items():
            document = image_edition(manifest, edition.of(row.media_type), gzipped)
            made[row.digest] = self.store(repository, row, kinds[row.digest], *document)
        return made

    def _gzipped(
        self, repository: RepositoryName, layers: Sequence[Descriptor]
    ) -> Mapping[Digest, Descriptor]:
        """Return the gzip editions of zstd layers, by the digests of these; lost ones are made again."""
        holds = self.manifests.integrity.holds
        try:
            made = self.transcoding.gzipped(repository, layers) if layers else {}
            if all(holds(BlobRow(each.digest, each.size or 0)) for each in made.values()):
                return made
            return self.transcoding.gzipped(repository, layers)  # other ones, if by another zlib
        except ImageInvalid as error:  # that is not a mistake of the client that pulls
            raise ImageUnreadable(reason=error.reason) from error

    def _known(self, repository: RepositoryName, kinds: Mapping[Digest, str]) -> dict[Digest, ManifestRow]:
        """Return the recorded editions of manifests, given with the kinds, by the digests of these."""
        with self.manifests.state.catalog.read() as tx:
            views = tx.views.among(repository, kinds)
            found = tx.manifests.find_all(repository, {*views.values()})
        return {digest: found[view] for digest, view in views.items() if view in found}

    def store(
        self,
        repository: RepositoryName,
        row: ManifestRow,
        kind: str,
        media_type: str,
        payload: bytes,
        *,
        digest: Digest | None = None,
    ) -> ManifestRow:
        """Store and record a manifest that was made of another, unless it is; return it.

        Args:
            digest: Its digest, if that is not of all of *payload*: signatures do not count.

        Raises:
            BlobMissing: what it names is lost.
            ManifestUnknown: what it was made of was deleted meanwhile.
        """
        digest = digest or Digest.of(payload)
        if not self._is_made(repository, row, kind, digest):
            upstream = self.manifests.state.upstream.owner(repository)
            origin = Provenance(upstream=upstream, made_of=MadeOf(row.digest, kind))
            try:
                self.manifests.put(repository, digest, media_type, payload, provenance=origin)
            except ReferencesMissing as error:  # that is not a mistake of the client that pulls
                raise BlobMissing(error.digests[0]) from error
            self.made[Edition.common_kind(kind)] += 1
        return self.manifests.find(repository, digest)

    def _is_made(self, repository: RepositoryName, row: ManifestRow, kind: str, made: Digest) -> bool:
        """Return whether the repository has what is made of a manifest, recorded as such.

        If the manifest was itself made of that, this suffices: each would keep the other for ever.
        """
        with self.manifests.state.catalog.read() as tx:
            view = tx.views.find(row.repository_id, row.digest, kind=kind)
            is_known = view == str(made) or tx.views.is_made_of(row.repository_id, row.digest, made)
            return is_known and tx.manifests.find(repository, made) is not None

    def _read(self, row: ManifestRow) -> Manifest:
        payload = self.manifests.payload(row)
        return Manifest(row.media_type, payload, row.digest, stored_contents(row.media_type, payload))

    def exclude(self, name: RepositoryName, row: ManifestRow, kind: str) -> None:
        """Record that something cannot be made of a manifest, unless that is gone."""
        state, repository = self.manifests.state, RepositoryRow(row.repository_id, name)
        with state.begin() as tx:
            if tx.manifests.lock_existing(row.repository_id, [row.digest]):
                state.record_view(tx, repository, row.digest, None, kind)


@contextmanager
def _noting(reasons: list[_Reason]) -> Iterator[None]:
    """Let the block fail if an image is unreadable or lost, and add why to *reasons*."""
    try:
        yield
    except (ImageUnreadable, BlobMissing, BlobDamaged) as error:
        reasons.append(error)


def _nature_of(media_type: str, manifests: Sequence[Manifest]) -> Nature:
    """Return the nature of an image, or of an index, given the manifests."""
    images = [manifest for manifest in manifests if is_image(manifest)]
    return Nature(
        media_type,
        frozenset(Family.of(manifest.media_type) for manifest in images),
        any(map(has_zstd, images)),
        not images,
    )
