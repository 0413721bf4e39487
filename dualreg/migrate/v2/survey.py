"""Survey of manifests: which there are, what they name, and what is broken."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import ManifestSource, SourceTag
from dualreg.migrate.survey import count_repositories, split_findings
from dualreg.migrate.tag_schema import head, subject_head
from dualreg.migrate.transfer import DigestVerifier, show
from dualreg.migrate.v2.crawl import Crawl, Known, Place
from dualreg.migrate.v2.dates import made_at

#: A manifest that is not there; the second, if a tag names it.
_ABSENT = (FindingKind.MISSING_MANIFEST, FindingKind.DANGLING)


@dataclass
class V2Survey:
    """What a source of manifests holds; a Survey.

    Attributes:
        known: Every manifest that was read, by repository and digest.
        blobs: Bytes of every blob that is there, with a repository that names it.
        sparse: Whether indexes may be taken in whose manifests are not all there.
    """

    source: ManifestSource
    tags: list[SourceTag] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    known: dict[tuple[str, Digest], Known] = field(default_factory=dict)
    blobs: dict[Digest, tuple[int, str]] = field(default_factory=dict)
    sparse: bool = False

    def check(self, repository: str, image: str) -> None:
        """See Survey."""
        top = _digest(image)
        if (repository, top) not in self.known:
            raise Broken(FindingKind.DANGLING, f"{repository}@{image}", "no such manifest")
        for digest in self.below(repository, top):
            broken = self.known[repository, digest].broken
            excused = self.sparse and digest != top and broken and broken.kind in _ABSENT
            if broken and not excused:
                raise Broken(broken.kind, broken.where, broken.text)

    def below(self, repository: str, *tops: Digest) -> list[Digest]:
        """Return the manifests and all that they name, themselves first."""
        reached = dict.fromkeys(tops)
        waiting = [*tops]
        while waiting:
            known = self.known.get((repository, waiting.pop())) or Known()
            fresh = [digest for digest in known.manifests if digest not in reached]
            reached |= dict.fromkeys(fresh)
            waiting += fresh
        return [digest for digest in reached if (repository, digest) in self.known]

    def counts(self) -> Mapping[str, int]:
        """See Survey."""
        users: dict[Digest, set[str]] = defaultdict(set)
        for (repository, _), known in self.known.items():
            for digest in known.blobs:
                users[digest].add(repository)
        return {
            "repositories": count_repositories(self.tags, self.findings),
            "tags": sum(bool(tag.tag) for tag in self.tags),
            "manifests": len(self.known),
            "blobs": self.blob_count,
            "bytes": self.blob_bytes,
            "shared_bytes": sum(size for digest, (size, _) in self.blobs.items() if len(users[digest]) > 1),
            "untagged": sum(not tag.tag for tag in self.tags),
        }

    @property
    def blob_bytes(self) -> int:
        """See Survey."""
        return sum(size for size, _ in self.blobs.values())

    @property
    def blob_count(self) -> int:
        """See Survey: blobs."""
        return len(self.blobs)

    def check_blobs(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        """See Survey."""

        def read(digest: Digest) -> Finding | None:
            passed = DigestVerifier(digest)
            try:
                show(self.source.blob(self.blobs[digest][1], digest), passed.update, str(digest))
                passed.check()
            except Broken as error:
                return error.finding
            return None

        with ThreadPoolExecutor(jobs) as pool:
            digests = [*self.blobs]
            for digest, finding in zip(digests, pool.map(read, digests), strict=True):
                advance(1, self.blobs[digest][0])
                if finding:
                    yield finding


def survey_manifests(source: ManifestSource, asking: ScanOptions | None = None) -> V2Survey:
    """Look through the whole source, without reading a blob."""
    found, asking = V2Survey(source), asking or ScanOptions()
    told, found.findings = split_findings(source.tags())
    by_repository: dict[str, list[SourceTag]] = defaultdict(list)
    for tag in told:
        try:
            _digest(tag.image)
        except Broken:
            found.findings.append(Finding(FindingKind.DANGLING, tag.name, "it points at nothing"))
        else:
            by_repository[tag.repository].append(tag)
    Crawl(source, asking, found.known, found.blobs).learn(_tops(by_repository))
    for repository, tags in by_repository.items():
        found.tags += _without_parts(found, repository, tags)
    if asking.dated:
        found.tags = _dated(source, asking, found.tags)
    found.findings += [
        known.broken
        for known in found.known.values()
        if known.broken and known.broken.kind is not FindingKind.DANGLING  # which is said of the tag
    ]
    found.findings += [
        Finding(FindingKind.UNTAGGED, tag.name, "no tag leads to it")
        for tag in found.tags
        if not (tag.tag or tag.along)
    ]
    return found


def _tops(by_repository: Mapping[str, Iterable[SourceTag]]) -> Mapping[Place, FindingKind]:
    """Return what tags point at, and what it is called where it is not there."""
    tops: dict[Place, FindingKind] = {}
    for repository, tags in by_repository.items():
        for tag in tags:
            absent = FindingKind.DANGLING if tag.tag else FindingKind.MISSING_MANIFEST
            tops.setdefault((repository, _digest(tag.image)), absent)
    return tops


def _dated(source: ManifestSource, asking: ScanOptions, tags: Iterable[SourceTag]) -> list[SourceTag]:
    """Return *tags*; those of which nothing tells when they were pushed say when their image was made."""

    def date(tag: SourceTag) -> SourceTag:
        if tag.updated or not tag.tag:
            return tag
        return replace(tag, updated=made_at(source, tag.repository, _digest(tag.image)))

    return [*asking.each(date, tags)]


def _without_parts(found: V2Survey, repository: str, tags: list[SourceTag]) -> Iterator[SourceTag]:
    """Yield tags, and untagged manifests that are no part of anything, both with what they are about."""
    tops: dict[Digest, set[str]] = defaultdict(set)
    parts: set[Digest] = set()
    for tag in tags:
        below = found.below(repository, _digest(tag.image))
        parts |= {*below} - {_digest(tag.image)}
        for digest in below if tag.tag else ():
            tops[digest].add(tag.image)
    heads = {head(digest): images for digest, images in tops.items()}
    for tag in tags:
        if tag.tag:
            yield replace(tag, along=frozenset(heads.get(subject_head(tag.tag) or "", ())))
        elif _digest(tag.image) not in parts:
            yield replace(tag, along=_along(found, tag, tops))


def _along(found: V2Survey, tag: SourceTag, tops: Mapping[Digest, set[str]]) -> frozenset[str]:
    """Return the tagged images that a manifest is about, perhaps by way of others."""
    seen: set[Digest] = set()
    wanted: Digest | None = _digest(tag.image)
    while wanted is not None and wanted not in seen:
        seen.add(wanted)
        known = found.known.get((tag.repository, wanted))
        wanted = known.subject if known else None
        if wanted is not None and wanted in tops:
            return frozenset(tops[wanted])
    return frozenset()


def _digest(text: str) -> Digest:
    """Return the digest that a tag names.

    Raises:
        Broken: it names none.
    """
    try:
        return Digest.parse(text)
    except RegistryError as error:
        raise Broken(FindingKind.DANGLING, text[:100], "no digest") from error
