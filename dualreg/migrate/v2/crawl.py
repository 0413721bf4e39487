"""Crawl of a source: reads its manifests, and finds out which of the blobs that they name exist."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import ManifestSource
from dualreg.migrate.transfer import read_blob
from dualreg.migrate.v2.documents import NoManifest, has_blob, is_blob, read_manifest
from dualreg.registry.children import ManifestRules

#: A digest, packed: there may be millions.
Packed = bytes
#: A manifest or a blob in a repository.
Place = tuple[str, Packed]


class Known(NamedTuple):
    """What a manifest of the source names.

    Attributes:
        blobs: Those that it cannot do without.
        manifests: Those of an index.
        subject: The manifest that it is about.
        broken: Why it cannot be imported; None if it can.
        size: Its own, in bytes; 0 if it could not be read.
    """

    blobs: tuple[Packed, ...] = ()
    manifests: tuple[Packed, ...] = ()
    subject: Packed | None = None
    broken: Finding | None = None
    size: int = 0


@dataclass
class StatedSizes:
    """The sizes that manifests state of what they name; nearly always, all state the same."""

    _sizes: dict[Packed, tuple[Packed, int | None]] = field(default_factory=dict)
    _others: dict[tuple[Place, Packed], int | None] = field(default_factory=dict)

    def add(self, place: Place, digest: Packed, size: int | None) -> Packed:
        """Add the size that a manifest states; return the digest as one object for all that name it."""
        first, usual = self._sizes.setdefault(digest, (digest, size))
        if size != usual:
            self._others[place, digest] = size
        return first

    def of(self, place: Place, digest: Packed) -> int | None:
        """Return the size that a manifest states; None if it states none."""
        return self._others.get((place, digest), self._sizes[digest][1])

    def clear(self) -> None:
        """Forget all of them."""
        self._sizes.clear()
        self._others.clear()


@dataclass
class Crawl:
    """Reads manifests, each once, and queries the blobs that they name.

    Several queries may run at a time; the result does not depend on how many.

    Attributes:
        rules: Which manifests this registry takes.
        known: What each manifest names.
        blobs: The bytes of each blob that exists.
        homes: A repository that has a blob, unless it is the first that names it.
        mismatches: Sizes that manifests state wrongly, of content that is whole.
    """

    source: ManifestSource
    scan: ScanOptions
    rules: ManifestRules
    known: dict[Place, Known] = field(default_factory=dict)
    blobs: dict[Packed, int] = field(default_factory=dict)
    homes: dict[Packed, str] = field(default_factory=dict)
    mismatches: list[Finding] = field(default_factory=list)
    _stated: StatedSizes = field(default_factory=StatedSizes)
    _unsized: dict[Place, Sequence[Packed]] = field(default_factory=dict)
    _damages: dict[Packed, Finding | None] = field(default_factory=dict)

    def read(self, tops: Mapping[Place, FindingKind]) -> None:
        """Read manifests, and the manifests that they name.

        Args:
            tops: Of which kind the finding is if a manifest is missing.
        """
        wave = tops
        while wave:
            children: dict[Place, FindingKind] = {}
            for place, known in zip(wave, self.scan.each(self._read, wave), strict=True):
                self.known[place] = known._replace(broken=_missing_as(known.broken, wave[place]))
                children |= {(place[0], child): FindingKind.MISSING_MANIFEST for child in known.manifests}
            wave = {place: kind for place, kind in children.items() if place not in self.known}
        taken = {blob for place in [*self.known] for blob in self._take_blobs(place)}
        for place in taken - tops.keys():
            del self.known[place]  # it is no manifest
        self._query_blobs()
        self._compare_manifests()
        self._stated.clear()
        self._unsized.clear()

    def _read(self, place: Place) -> Known:
        repository, digest = unpacked(place)
        try:
            manifest = read_manifest(self.source, repository, digest)
        except NoManifest as error:
            return Known(broken=error.finding, size=error.size)
        except Broken as error:
            return Known(broken=error.finding)
        if unsized := manifest.unsized:
            self._unsized[place] = [each.packed for each in unsized]
        stated = {each.descriptor.digest: each.descriptor.size for each in manifest.children}
        one = {each: self._stated.add(place, each.packed, size) for each, size in stated.items()}
        if self.rules.lacks_platform(manifest):
            text = f"no image for {' or '.join(self.rules.platforms)}"
            return Known(broken=Finding(FindingKind.NO_PLATFORM, f"{repository}@{digest}", text))
        entries = [child.descriptor for child in self.rules.chosen(manifest.entries)]
        blobs = {each.digest: None for each in entries if is_blob(self.source, repository, each)}
        others = (child.descriptor.digest for child in manifest.required if child.role is not Role.MANIFEST)
        return Known(
            tuple(one[each] for each in (*others, *blobs)),
            tuple(one[each.digest] for each in entries if each.digest not in blobs),
            manifest.subject.digest.packed if manifest.subject else None,
            size=len(manifest.payload),
        )

    def _take_blobs(self, index: Place) -> Iterable[Place]:
        """Count entries of an index that are not there as manifests among its blobs, if they are there so."""
        repository, known = index[0], self.known[index]
        missing = [(repository, each) for each in known.manifests if self._is_missing((repository, each))]
        blobs = [place[1] for place in missing if has_blob(self.source, *unpacked(place))]
        if blobs:
            manifests = tuple(each for each in known.manifests if each not in blobs)
            self.known[index] = known._replace(blobs=(*known.blobs, *blobs), manifests=manifests)
        return [(repository, each) for each in blobs]

    def _is_missing(self, place: Place) -> bool:
        """Return whether there is no manifest, or something whole that is none."""
        known = self.known.get(place)
        broken = known and known.broken
        return bool(known and broken and (known.size or broken.kind is FindingKind.MISSING_MANIFEST))

    def _query_blobs(self) -> None:
        """Find out which of the named blobs exist, and which manifests lack one."""
        first: dict[Packed, str] = {}
        for (repository, _), digest, stated in self._named():
            if self.scan.trusting and stated is not None:
                self._note(digest, stated, repository, is_first=digest not in first)
            else:
                first.setdefault(digest, repository)
        wanted = ((repository, digest) for digest, repository in first.items() if digest not in self.blobs)
        failures = dict[Place, Finding]()
        for blob, answer in self.scan.each(lambda blob: (blob, self._query(blob)), wanted):
            if isinstance(answer, Finding):
                failures[blob] = answer
            else:
                self.blobs[blob[1]] = answer
        first.clear()
        for place, digest, stated in self._named():
            self._break(place, self._check(place, digest, stated, failures))

    def _named(self) -> Iterator[tuple[Place, Packed, int | None]]:
        """Yield each blob that a manifest names, with the size that the manifest states."""
        empty = empty_layer().digest.packed
        for place, known in self.known.items():
            for digest in known.blobs:
                if digest != empty:
                    yield place, digest, self._stated.of(place, digest)

    def _query(self, blob: Place) -> int | Finding:
        repository, digest = unpacked(blob)
        try:
            found = self.source.blob(repository, digest)
        except Broken as error:
            return error.finding
        if found.known_size == 0 and digest != Digest.of(b"", digest.algorithm):
            return Finding(FindingKind.CORRUPT, f"{repository}@{digest}", "the file is empty")
        return found.size

    def _check(
        self, place: Place, digest: Packed, stated: int | None, failures: Mapping[Place, Finding]
    ) -> Finding | None:
        blob = place[0], digest
        if digest not in self.blobs:
            answer = failures.get(blob) or self._query(blob)  # the failure was perhaps of another repository
            if isinstance(answer, Finding):
                return answer
            self._note(digest, answer, place[0], is_first=False)
        size = self.blobs[digest]
        if not size or stated in (None, size):
            return None
        return self._damage(blob) or self._refuse(place, digest, _mismatch(stated, size))

    def _compare_manifests(self) -> None:
        """Find out which manifests lack sizes, and which indexes state wrong ones of their manifests."""
        for place, known in self.known.items():
            for digest in self._unsized.get(place, ()):
                self._break(place, self._refuse(place, digest, "the manifest states no size of it"))
            for digest in known.manifests:
                child, stated = self.known.get((place[0], digest)), self._stated.of(place, digest)
                if child and child.size and stated not in (None, child.size):
                    self._break(place, self._refuse(place, digest, _mismatch(stated, child.size)))

    def _note(self, digest: Packed, size: int, repository: str, *, is_first: bool) -> None:
        """Note a blob, unless it was noted; *is_first*: *repository* is the first that names it."""
        if digest not in self.blobs:
            self.blobs[digest] = size
            if not is_first:
                self.homes[digest] = repository

    def _damage(self, blob: Place) -> Finding | None:
        """Read a blob, once, to find out whether it is cut, or its manifests wrong about its size."""
        if blob[1] not in self._damages:
            self._damages[blob[1]] = self._read_blob(*unpacked(blob))
        return self._damages[blob[1]]

    def _read_blob(self, repository: str, digest: Digest) -> Finding | None:
        try:
            read_blob(self.source.blob(repository, digest), digest, f"{repository}@{digest}")
        except Broken as error:
            return error.finding
        return None

    def _refuse(self, place: Place, child: Packed, text: str) -> Finding | None:
        """Return that a manifest is refused for a size; None, but a note for the operator, if it is not."""
        repository, digest = unpacked(place)
        where, text = f"{repository}@{digest}", f"{Digest.unpack(child)}: {text}"
        if self.rules.strict:
            return Finding(FindingKind.CORRUPT, where, f"{text}, which strict_manifests refuses")
        self.mismatches.append(Finding(FindingKind.WRONG_SIZE, where, text))
        return None

    def _break(self, place: Place, broken: Finding | None) -> None:
        """Record why a manifest cannot be imported; the first reason counts."""
        if broken and not self.known[place].broken:
            self.known[place] = self.known[place]._replace(broken=broken)


def unpacked(place: Place) -> tuple[str, Digest]:
    """Return the repository and the digest of a manifest or a blob."""
    repository, digest = place
    return repository, Digest.unpack(digest)


def _mismatch(stated: int | None, size: int) -> str:
    return f"it has {size} bytes, but the manifest states {stated}"


def _missing_as(broken: Finding | None, kind: FindingKind) -> Finding | None:
    """Return *broken*; with *kind* if it is a missing manifest."""
    return replace(broken, kind=kind) if broken and broken.kind is FindingKind.MISSING_MANIFEST else broken
