"""Learning: which manifests a source has, what they name, and which of that is there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import ManifestSource
from dualreg.migrate.v2.documents import read_manifest

#: A manifest, or a blob, as a member of a repository.
Place = tuple[str, Digest]


class Known(NamedTuple):
    """What a manifest of the source names.

    Attributes:
        blobs: Those that have to be there.
        manifests: Of an index.
        broken: Why it cannot be taken in, if so.
    """

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[Digest, ...] = ()
    subject: Digest | None = None
    broken: Finding | None = None


@dataclass
class Crawl:
    """Reads manifests, each once, and asks for the blobs that they name.

    The source may be asked many things at a time; what comes of it does not depend on how many.

    Attributes:
        known: Every manifest that was read.
        blobs: Bytes of every blob that is there, with a repository that names it.
    """

    source: ManifestSource
    asking: ScanOptions
    known: dict[Place, Known] = field(default_factory=dict)
    blobs: dict[Digest, tuple[int, str]] = field(default_factory=dict)
    _sizes: dict[Place, tuple[int | None, ...]] = field(default_factory=dict)

    def learn(self, tops: Mapping[Place, FindingKind]) -> None:
        """Read manifests and those that they name.

        Args:
            tops: What it is called if one is not there.
        """
        wave = dict(tops)
        while wave:
            further: dict[Place, FindingKind] = {}
            for place, known in zip(wave, self.asking.each(self._read, wave), strict=True):
                self.known[place] = known._replace(broken=_called(known.broken, wave[place]))
                further |= {(place[0], child): FindingKind.MISSING_MANIFEST for child in known.manifests}
            wave = {place: kind for place, kind in further.items() if place not in self.known}
        self._ask_for_blobs()

    def _read(self, place: Place) -> Known:
        try:
            manifest = read_manifest(self.source, *place)
        except Broken as error:
            return Known(broken=error.finding)
        parts = [child.descriptor for child in manifest.required if child.role is not Role.MANIFEST]
        self._sizes[place] = tuple(part.size for part in parts)
        return Known(
            tuple(part.digest for part in parts),
            tuple(each.digest for each in manifest.described(Role.MANIFEST)),
            manifest.subject.digest if manifest.subject else None,
        )

    def _ask_for_blobs(self) -> None:
        """Find out which of the blobs that are named are there, and what is broken for want of one."""
        first: dict[Digest, str] = {}
        for (repository, _), part, stated in self._named():
            if self.asking.trusting and stated is not None:
                self.blobs.setdefault(part, (stated, repository))
            else:
                first.setdefault(part, repository)
        wanted = [(repository, part) for part, repository in first.items() if part not in self.blobs]
        asked = dict(zip(wanted, self.asking.each(self._ask, wanted), strict=True))
        for place, part, stated in self._named():
            broken = self._judge((place[0], part), stated, asked)
            if broken and not self.known[place].broken:
                self.known[place] = self.known[place]._replace(broken=broken)
        self._sizes.clear()

    def _named(self) -> Iterator[tuple[Place, Digest, int | None]]:
        """Yield every blob that a manifest names, with the size that is stated there."""
        for place, known in self.known.items():
            for part, stated in zip(known.blobs, self._sizes.get(place, ()), strict=False):
                if part != empty_layer().digest:
                    yield place, part, stated

    def _ask(self, blob: Place) -> int | Finding:
        try:
            return self.source.blob(*blob).size
        except Broken as error:
            return error.finding

    def _judge(self, blob: Place, stated: int | None, asked: Mapping[Place, int | Finding]) -> Finding | None:
        repository, digest = blob
        if digest not in self.blobs:
            told = asked[blob] if blob in asked else self._ask(blob)  # another repository may have it
            if isinstance(told, Finding):
                return told
            self.blobs[digest] = (told, repository)
        size, _ = self.blobs[digest]
        if stated and size and stated != size:
            return Finding(
                FindingKind.CORRUPT, f"{repository}@{digest}", f"it has {size} bytes, not {stated}"
            )
        return None


def _called(broken: Finding | None, absent: FindingKind) -> Finding | None:
    """Return what is broken; a manifest that is not there is called *absent*."""
    return replace(broken, kind=absent) if broken and broken.kind is FindingKind.MISSING_MANIFEST else broken
