"""Image check: which tags of this registry a client cannot read, by the documents that are stored."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import NamedTuple

from dualreg.catalog.rows import PlacedTag
from dualreg.errors import BlobDamaged, BlobMissing, RegistryError
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.facts import DAMAGED, Facts, facts_of
from dualreg.image.platform import Platform
from dualreg.maintenance.tagged import Selects
from dualreg.registry import Registry

#: Tags that are read at a time, and at most for a page.
_ROWS, _LOOKED_AT = 500, 5000
#: A repository, and a tag in it.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CheckedTag:
    """A tag, and what decides who can read its image."""

    placed: PlacedTag
    facts: Facts


class CheckedPage(NamedTuple):
    """Some of the tags that were selected.

    Attributes:
        looked: How many tags were looked at, selected or not.
        end: The last one of these; None: there is nothing after them.
    """

    tags: Sequence[CheckedTag]
    looked: int
    end: Place | None


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """Reads the documents of tagged images; nothing is changed.

    Attributes:
        platform: Of an index, the image for this platform counts.
    """

    registry: Registry
    platform: Platform

    def page(self, selects: Selects, start: Place, limit: int, within: str = "") -> CheckedPage:
        """Return up to *limit* of the selected tags, of which no more than some thousands are looked for.

        Args:
            start: The last tag before the page.
            within: Only repositories whose names begin with it.
        """
        found, looked, place = list[PlacedTag](), 0, max(start, (within, ""))
        while looked < _LOOKED_AT:
            page = self.registry.tags.every(after=place, limit=_ROWS)
            for each in page.rows:
                if not each.repository.startswith(within):
                    return CheckedPage(self._checked(found), looked, None)
                looked, place = looked + 1, (each.repository, each.row.name)
                if selects(each.repository, each.row.name):
                    found.append(each)
                if len(found) == limit:
                    return CheckedPage(self._checked(found), looked, place)
            if not page.more:
                return CheckedPage(self._checked(found), looked, None)
        return CheckedPage(self._checked(found), looked, place)

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
