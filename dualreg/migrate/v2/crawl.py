"""Crawl of a source: reads its manifests, and finds out which of the blobs that they name exist."""

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

#: A manifest or a blob in a repository.
Place = tuple[str, Digest]


class Known(NamedTuple):
    """What a manifest of the source names.

    Attributes:
        blobs: Those that it cannot do without.
        manifests: Those of an index.
        subject: The manifest that it is about.
        broken: Why it cannot be imported; None if it can.
    """

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[Digest, ...] = ()
    subject: Digest | None = None
    broken: Finding | None = None


@dataclass
class Crawl:
    """Reads manifests, each once, and queries the blobs that they name.

    Several queries may run at a time; the result does not depend on how many.

    Attributes:
        known: What each manifest names.
        blobs: The bytes of each blob that exists, and a repository that has it.
    """

    source: ManifestSource
    scan: ScanOptions
    known: dict[Place, Known] = field(default_factory=dict)
    blobs: dict[Digest, tuple[int, str]] = field(default_factory=dict)
    _sizes: dict[Place, tuple[int | None, ...]] = field(default_factory=dict)

    def read(self, tops: Mapping[Place, FindingKind]) -> None:
        """Read manifests, and the manifests that they name.

        Args:
            tops: Of which kind the finding is if a manifest is missing.
        """
        wave = dict(tops)
        while wave:
            children: dict[Place, FindingKind] = {}
            for place, known in zip(wave, self.scan.each(self._read, wave), strict=True):
                self.known[place] = known._replace(broken=_missing_as(known.broken, wave[place]))
                children |= {(place[0], child): FindingKind.MISSING_MANIFEST for child in known.manifests}
            wave = {place: kind for place, kind in children.items() if place not in self.known}
        self._query_blobs()

    def _read(self, place: Place) -> Known:
        try:
            manifest = read_manifest(self.source, *place)
        except Broken as error:
            return Known(broken=error.finding)
        blobs = [child.descriptor for child in manifest.required if child.role is not Role.MANIFEST]
        self._sizes[place] = tuple(blob.size for blob in blobs)
        return Known(
            tuple(blob.digest for blob in blobs),
            tuple(each.digest for each in manifest.described(Role.MANIFEST)),
            manifest.subject.digest if manifest.subject else None,
        )

    def _query_blobs(self) -> None:
        """Find out which of the named blobs exist, and which manifests lack one."""
        first: dict[Digest, str] = {}
        for (repository, _), digest, stated in self._named():
            if self.scan.trusting and stated is not None:
                self.blobs.setdefault(digest, (stated, repository))
            else:
                first.setdefault(digest, repository)
        wanted = [(repository, digest) for digest, repository in first.items() if digest not in self.blobs]
        answers = dict(zip(wanted, self.scan.each(self._query, wanted), strict=True))
        for place, digest, stated in self._named():
            broken = self._check((place[0], digest), stated, answers)
            if broken and not self.known[place].broken:
                self.known[place] = self.known[place]._replace(broken=broken)
        self._sizes.clear()

    def _named(self) -> Iterator[tuple[Place, Digest, int | None]]:
        """Yield each blob that a manifest names, with the size that the manifest states."""
        for place, known in self.known.items():
            for digest, stated in zip(known.blobs, self._sizes.get(place, ()), strict=False):
                if digest != empty_layer().digest:
                    yield place, digest, stated

    def _query(self, blob: Place) -> int | Finding:
        try:
            return self.source.blob(*blob).size
        except Broken as error:
            return error.finding

    def _check(
        self, blob: Place, stated: int | None, answers: Mapping[Place, int | Finding]
    ) -> Finding | None:
        repository, digest = blob
        if digest not in self.blobs:
            answer = answers[blob] if blob in answers else self._query(blob)  # perhaps of another repository
            if isinstance(answer, Finding):
                return answer
            self.blobs[digest] = (answer, repository)
        size, _ = self.blobs[digest]
        if stated and size and stated != size:
            text = f"it has {size} bytes, but the manifest states {stated}"
            return Finding(FindingKind.CORRUPT, f"{repository}@{digest}", text)
        return None


def _missing_as(broken: Finding | None, kind: FindingKind) -> Finding | None:
    """Return *broken*; with *kind* if it is a missing manifest."""
    return replace(broken, kind=kind) if broken and broken.kind is FindingKind.MISSING_MANIFEST else broken
