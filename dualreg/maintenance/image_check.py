"""Image check: which tags of this registry a client cannot read, by the documents that are stored."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from dualreg.catalog.rows import PlacedTag
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.facts import DAMAGED, Facts, facts_of
from dualreg.image.platform import Platform
from dualreg.maintenance.tagged import Selects, tag_pages
from dualreg.registry import Registry


@dataclass(frozen=True, slots=True)
class CheckedTag:
    """A tag, and what decides who can read its image."""

    placed: PlacedTag
    facts: Facts


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """Reads the documents of tagged images; nothing is changed.

    Attributes:
        platform: Of an index, the image for this platform counts.
    """

    registry: Registry
    platform: Platform

    def run(self, selects: Selects, advance: Callable[[int, int], None]) -> Iterator[Sequence[CheckedTag]]:
        """Yield the selected tags; for the parameters, see ``tag_pages``."""
        yield from map(self._checked, tag_pages(self.registry, selects, advance))

    def _checked(self, tags: Iterable[PlacedTag]) -> Sequence[CheckedTag]:
        known = dict[tuple[Digest, frozenset[Digest]], Facts]()
        for each in tags:
            key = each.row.digest, each.lacking
            if key not in known:
                known[key] = self._facts(each)
        absent = self._absent({digest for facts in known.values() for digest in facts.foreign})
        return [CheckedTag(each, _with_absent(known[each.row.digest, each.lacking], absent)) for each in tags]

    def _absent(self, foreign: AbstractSet[Digest]) -> frozenset[Digest]:
        """Return the non-distributable layers that clients get neither from this registry nor a vendor."""
        on_windows = self.platform.os == "windows"  # where Docker's daemon fetches them itself
        return self.registry.blobs.absent(foreign) if foreign and not on_windows else frozenset()

    def _facts(self, tag: PlacedTag) -> Facts:
        try:
            payload = self.registry.documents.read(tag.row.digest)
            return facts_of(tag.row.media_type, payload, _Stored(self.registry, tag), self.platform)
        except (BlobMissing, BlobDamaged, RegistryError, ValueError):
            return DAMAGED


@dataclass(frozen=True, slots=True)
class _Stored:
    """The Documents of a tagged image in this registry."""

    registry: Registry
    tag: PlacedTag

    def manifest(self, entry: Descriptor) -> tuple[str, bytes] | None:
        if entry.digest in self.tag.lacking:
            return None
        return entry.media_type, self.registry.documents.read(entry.digest)

    def config(self, digest: Digest) -> bytes:
        """Return a config; an empty one, of which nothing is known, if only an upstream has it yet."""
        try:
            with self.registry.blobs.open(digest) as reader:
                return reader.read()
        except BlobMissing:
            if self.registry.blobs.find(self.tag.repository, digest):
                raise  # it is lost
            return b"{}"


def _with_absent(facts: Facts, absent: frozenset[Digest]) -> Facts:
    return replace(facts, lacks_foreign=True) if facts.foreign & absent else facts
