"""Index entries: the images that an index lists, directly or in nested indexes."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from dualreg.catalog.rows import ManifestRow
from dualreg.errors import (
    BlobDamaged,
    BlobMissing,
    ImageUnreadable,
    ManifestUnknown,
    ServerBusy,
    UpstreamFailed,
)
from dualreg.image import media_types
from dualreg.image.convert import CONFIG_LIMIT
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.editions import Entry, images_only
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName
from dualreg.image.platform import Platform
from dualreg.registry.manifests import Manifests

#: How many entries of an index, and of those nested in it, are looked at for a client.
ENTRIES_LIMIT = 1000


class Listed(NamedTuple):
    """An image that an index lists: its manifest, and the entry as JSON."""

    entry: Mapping[str, Any]
    row: ManifestRow


class Images(NamedTuple):
    """The images that an index lists, in its order.

    Attributes:
        complete: Whether the repository lacks none.
        first: The manifests of those that are needed first.
    """

    listed: tuple[Listed, ...]
    complete: bool
    first: frozenset[Digest] = frozenset()

    @property
    def in_turn(self) -> list[Listed]:
        """The images, those that are needed first before the others."""
        return sorted(self.listed, key=lambda each: each.row.digest not in self.first)


@dataclass(frozen=True, slots=True)
class IndexEntries:
    """Finds the images that indexes list."""

    manifests: Manifests

    def images(self, repository: RepositoryName, index: ManifestRow) -> Images:
        """Return the images that an index lists; those of nested indexes follow, each index once.

        An image may come twice, for two platforms.

        Raises:
            ImageUnreadable: there are more than ENTRIES_LIMIT entries.
        """
        level, seen, complete = [index], {index.digest}, True
        found = dict[tuple[Digest, str], Listed]()
        looked_at = 0
        while level:
            entries = [entry for row in level for entry in self._entries(row)]
            looked_at += len(entries)
            if looked_at > ENTRIES_LIMIT:
                raise ImageUnreadable(reason=f"its index has more than {ENTRIES_LIMIT} entries")
            rows = self._rows(repository, {Digest.parse(entry["digest"]) for entry in entries})
            level = []
            for entry in entries:
                row = rows.get(Digest.parse(entry["digest"]))
                if row is None:
                    complete = False
                elif row.media_type not in media_types.INDEXES:
                    found.setdefault((row.digest, repr(entry.get("platform"))), Listed(entry, row))
                elif row.digest not in seen:
                    seen.add(row.digest)
                    level.append(row)
        return Images(tuple(found.values()), complete)

    def platform(self, listed: Listed) -> Mapping[str, Any]:
        """Return the ``platform`` object of an entry; if it has none, what the config of the image says."""
        if (named := listed.entry.get("platform")) or listed.row.media_type not in media_types.IMAGES:
            return named or {}
        with suppress(BlobMissing, BlobDamaged, ValueError):
            contents = stored_contents(listed.row.media_type, self.manifests.payload(listed.row))
            config = next(child.descriptor for child in contents.children if child.role is Role.CONFIG)
            if (config.size or 0) <= CONFIG_LIMIT:
                said = Platform.named_by(parse_object(self.manifests.documents.read(config.digest)))
                return {name: text for name, text in said._asdict().items() if text}
        return {}

    def with_first(self, images: Images, platform: Platform | None) -> Images:
        """Return the images, of which those for a platform, if there is one, are needed first."""
        if platform is None:
            return images
        ours = self.of_platform(images, platform).listed
        return images._replace(first=frozenset(each.row.digest for each in ours))

    def entry(self, listed: Listed, made: ManifestRow) -> Entry:
        """Return the entry of an edition of the index, which lists what was *made* of the image."""
        platform = self.platform(listed)
        document = {**listed.entry, "platform": platform} if platform else listed.entry
        return Entry(document, made.media_type, made.digest, made.size)

    def of_platform(self, images: Images, platform: Platform) -> Images:
        """Return those of the images that are for a platform."""
        listed = (each for each in images.listed if platform.fits(self.platform(each)))
        return images._replace(listed=tuple(listed))

    def _entries(self, index: ManifestRow) -> Iterator[Mapping[str, Any]]:
        document = parse_object(self.manifests.payload(index))
        yield from images_only(document.get("manifests") or ())

    def _rows(self, repository: RepositoryName, digests: Collection[Digest]) -> dict[Digest, ManifestRow]:
        """Return those of the manifests that the repository has, or that its upstream has.

        If some cannot be loaded now, the others are enough.

        Raises:
            UpstreamFailed, ServerBusy: none can.
        """
        rows = {row.digest: row for row in self.manifests.peek_all(repository, digests)}
        upstream, failures = self.manifests.state.upstream, list[UpstreamFailed | ServerBusy]()
        for digest in digests:
            if digest in rows or not upstream.has(repository, digest):
                continue
            try:
                rows[digest] = self.manifests.find(repository, digest)
            except ManifestUnknown:
                continue
            except (UpstreamFailed, ServerBusy) as error:
                failures.append(error)
        if failures and not rows:
            raise failures[0]
        return rows
