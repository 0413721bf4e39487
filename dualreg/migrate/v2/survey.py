"""Survey of manifests: which there are, what they name, and what is wrong with them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.facts import Facts
from dualreg.image.platform import Platform
from dualreg.image.tag_schema import subject_prefix, tag_prefix
from dualreg.migrate.base import ImportOptions, count_repositories, split_findings
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.journal import EarlierRuns, Journal
from dualreg.migrate.names import Library
from dualreg.migrate.parallel import in_parallel
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import ManifestSource, SourceTag, lost_tag
from dualreg.migrate.space import Content
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import DigestVerifier, feed
from dualreg.migrate.v2.crawl import Crawl, Known, Packed, Place, unpacked
from dualreg.migrate.v2.dates import image_created
from dualreg.migrate.v2.importer import V2Importer
from dualreg.migrate.v2.padding import Ends, padding_of
from dualreg.migrate.v2.readability import source_facts
from dualreg.migrate.v2.verify import V2Comparison
from dualreg.migrate.verify import BlobComparison
from dualreg.registry import Registry
from dualreg.registry.children import ManifestRules
from dualreg.storage.base import Keeps

#: How a missing manifest is called: named by another one, or by a tag.
_MISSING = (FindingKind.MISSING_MANIFEST, FindingKind.DANGLING)
#: Blobs that the registry is asked for at a time.
_ASKED = 1000


@dataclass
class V2Survey:
    """The survey of a source of manifests.

    Attributes:
        known: What each manifest names, by repository and packed digest.
        blobs: The bytes of each blob that exists, by packed digest.
        homes: A repository that has a blob, unless it is the first that names it.
        rules: Which manifests this registry takes.
    """

    default_library: ClassVar[Library] = Library.KEEP
    shortens_library: ClassVar[bool] = False

    source: ManifestSource
    tags: list[SourceTag] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    known: dict[Place, Known] = field(default_factory=dict)
    blobs: dict[Packed, int] = field(default_factory=dict)
    homes: dict[Packed, str] = field(default_factory=dict)
    rules: ManifestRules = field(default_factory=ManifestRules)

    def check(self, repository: str, image: str) -> None:
        top = _packed(image)
        if (repository, top) not in self.known:
            raise Broken(FindingKind.DANGLING, f"{repository}@{image}", "no such manifest")
        for digest in self.reachable(repository, top):
            broken = self.known[repository, digest].broken
            excused = self.rules.sparse_indexes and digest != top and broken and broken.kind in _MISSING
            if broken and not excused:
                raise Broken(broken.kind, broken.where, broken.text)

    def reachable(self, repository: str, top: Packed) -> list[Packed]:
        """Return a manifest and the manifests that it names, directly or not, itself first."""
        reached = {top: None}
        waiting = [top]
        while waiting:
            known = self.known.get((repository, waiting.pop())) or Known()
            fresh = [digest for digest in known.manifests if digest not in reached]
            reached |= dict.fromkeys(fresh)
            waiting += fresh
        return [digest for digest in reached if (repository, digest) in self.known]

    def facts(self, repository: str, image: str, platform: Platform) -> Facts:
        return source_facts(self.source, repository, _digest(image), platform)

    def counts(self) -> Mapping[str, int]:
        first, shared = dict[Packed, str](), set[Packed]()
        for (repository, _), known in self.known.items():
            shared.update(
                digest for digest in known.blobs if first.setdefault(digest, repository) != repository
            )
        return {
            "repositories": count_repositories(self.tags, self.findings),
            "tags": sum(bool(tag.tag) for tag in self.tags),
            "manifests": len(self.known),
            "blobs": self.blob_count,
            "bytes": self.blob_bytes,
            "shared_bytes": sum(size for digest, size in self.blobs.items() if digest in shared),
            "untagged": sum(not (tag.tag or tag.lost) for tag in self.tags),
        }

    @property
    def blob_bytes(self) -> int:
        return sum(self.blobs.values())

    @property
    def blob_count(self) -> int:
        return len(self.blobs)

    def check_blobs(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        for digest, finding in in_parallel(self._check_blob, self._places(), jobs):
            advance(1, self.blobs[digest])
            if finding:
                yield finding

    def content(self, entries: Iterable[Entry]) -> Content:
        wanted = defaultdict[str, list[Entry]](list)
        for entry in entries:
            if entry.action is PlanAction.IMPORT and _is_digest(entry.image):
                wanted[entry.to_repository].append(entry)
        sizes, seen, links, tags = list[int](), set[Packed](), 0, 0
        for members in wanted.values():
            manifests, blobs = self._named(members)
            sizes += (size for digest, size in (manifests | blobs).items() if digest not in seen)
            seen.update(manifests, blobs)
            links += 2 * len(manifests) + len(blobs)
            tags += sum(bool(entry.to_tag) for entry in members)
        return Content(sizes, len(wanted), links, tags)

    def bytes_to_read(self, entries: Iterable[Entry], registry: Registry, earlier: EarlierRuns) -> int:
        del earlier  # what they read is stored
        wanted, size = iter({*self._blobs_of(entries)}), 0
        while some := [Digest.unpack(each) for each in islice(wanted, _ASKED)]:
            size += sum(self.blobs[digest.packed] for digest in registry.blobs.absent(some))
        return size

    def is_store(self, keeps: Keeps) -> bool:
        return self.source.is_store(keeps)

    def importer(
        self,
        registry: Registry,
        journal: Journal,
        options: ImportOptions,
        stop: Stop,
        earlier: EarlierRuns | None = None,
    ) -> V2Importer:
        known = (earlier or EarlierRuns.before(journal)).refresh().layers
        return V2Importer(registry, self.source, journal, options.link, stop, known=known)

    def comparison(self, registry: Registry, *, quick: bool) -> V2Comparison:
        return V2Comparison(registry, self.source, BlobComparison(registry.blobs, quick=quick))

    def forget(self) -> None:
        for found in (self.tags, self.findings, self.known, self.blobs, self.homes):
            found.clear()

    def _places(self) -> Iterator[Place]:
        """Yield each blob that exists, in a repository that has it."""
        seen = set[Packed]()
        for (repository, _), known in self.known.items():
            for digest in known.blobs:
                if digest in self.blobs and digest not in seen:
                    seen.add(digest)
                    yield self.homes.get(digest, repository), digest

    def _check_blob(self, place: Place) -> tuple[Packed, Finding | None]:
        """Read a blob; return it, and what is wrong with it."""
        return place[1], self._damage(*unpacked(place))

    def _damage(self, repository: str, digest: Digest) -> Finding | None:
        verifier, ends = DigestVerifier(digest), Ends()

        def update(data: bytes) -> None:
            verifier.update(data)
            ends.update(data)

        try:
            blob = self.source.blob(repository, digest)
            feed(blob, update, str(digest))
            verifier.check()
            if ends.may_be_padded:
                return padding_of(blob, str(digest))
        except Broken as error:
            return error.finding
        return None

    def _named(self, entries: Iterable[Entry]) -> tuple[dict[Packed, int], dict[Packed, int]]:
        """Return the manifests that *entries* need, and the blobs that exist, each with its size."""
        manifests, blobs = dict[Packed, int](), dict[Packed, int]()
        for entry in entries:
            for digest in self.reachable(entry.repository, _packed(entry.image)):
                known = self.known[entry.repository, digest]
                manifests[digest] = known.size
                blobs |= {blob: self.blobs[blob] for blob in known.blobs if blob in self.blobs}
        return manifests, blobs

    def _blobs_of(self, entries: Iterable[Entry]) -> Iterator[Packed]:
        """Yield the blobs that the manifests of *entries* name and that exist, perhaps several times."""
        for entry in entries:
            try:
                top = _packed(entry.image)
            except Broken:  # an edited plan may hold nonsense; the run reports it
                continue
            for manifest in self.reachable(entry.repository, top):
                yield from (
                    each for each in self.known[entry.repository, manifest].blobs if each in self.blobs
                )


def survey_manifests(
    source: ManifestSource, scan: ScanOptions | None = None, *, rules: ManifestRules | None = None
) -> V2Survey:
    """Return what *source* contains; no blob is read, unless its size is not what a manifest states.

    Args:
        rules: Which manifests this registry takes; None: the defaults.
    """
    rules, scan = rules or ManifestRules(), scan or ScanOptions()
    survey = V2Survey(source, rules=rules)
    listed, survey.findings = split_findings(source.tags())
    by_repository: dict[str, list[SourceTag]] = defaultdict(list)
    for tag in listed:
        known = tag.lost or _is_digest(tag.image)
        by_repository[tag.repository].append(
            tag if known else lost_tag(FindingKind.DANGLING, tag.repository, tag.tag, "no such manifest")
        )
    crawl = Crawl(source, scan, rules, survey.known, survey.blobs, survey.homes)
    crawl.read(_tops(by_repository))
    for repository, tags in by_repository.items():
        survey.tags += _without_children(survey, repository, tags)
    if scan.dated:
        survey.tags = _dated(source, scan, survey.tags)
    survey.findings += crawl.mismatches
    survey.findings += _lost_chains(source, survey.known)
    survey.findings += [
        known.broken
        for known in survey.known.values()
        if known.broken and known.broken.kind is not FindingKind.DANGLING  # reported with the tag
    ]
    survey.findings += [
        Finding(FindingKind.UNTAGGED, tag.name, "no tag uses it")
        for tag in survey.tags
        if not (tag.tag or tag.subjects or tag.lost)
    ]
    return survey


def _lost_chains(source: ManifestSource, places: Iterable[Place]) -> Iterator[Finding]:
    """Yield why V1 clients will not see manifests as the images that they were made of."""
    for repository, digest in map(unpacked, places):
        try:
            source.v1_chain(repository, digest)
        except Broken as error:
            yield replace(error.finding, text=f"{error.finding.text}; needed by {digest}")


def _tops(by_repository: Mapping[str, Iterable[SourceTag]]) -> Mapping[Place, FindingKind]:
    """Return the manifests that tags name, and of which kind the finding is if one is missing."""
    tops: dict[Place, FindingKind] = {}
    for repository, tags in by_repository.items():
        for tag in _found(tags):
            missing = FindingKind.DANGLING if tag.tag else FindingKind.MISSING_MANIFEST
            tops.setdefault((repository, _packed(tag.image)), missing)
    return tops


def _dated(source: ManifestSource, scan: ScanOptions, tags: Iterable[SourceTag]) -> list[SourceTag]:
    """Return *tags*; those whose push date is not known get the date when their image was created."""

    def date(tag: SourceTag) -> SourceTag:
        if tag.updated or tag.lost or not tag.tag:
            return tag
        return replace(tag, updated=image_created(source, tag.repository, _digest(tag.image)))

    return [*scan.each(date, tags)]


def _without_children(survey: V2Survey, repository: str, tags: list[SourceTag]) -> Iterator[SourceTag]:
    """Yield tags, and untagged manifests that no other manifest names, each with its subjects.

    A lost tag has subjects, too, as they are in its name: it may have been a signature.
    """
    tops: dict[Packed, set[str]] = defaultdict(set)
    children: set[Packed] = set()
    for tag in _found(tags):
        top = _packed(tag.image)
        reachable = survey.reachable(repository, top)
        children.update(each for each in reachable if each != top)
        for digest in reachable if tag.tag else ():
            tops[digest].add(tag.image)
    subjects = {tag_prefix(Digest.unpack(digest)): images for digest, images in tops.items()}
    for tag in tags:
        if tag.tag:
            images = subjects.get(subject_prefix(tag.tag) or "")
            yield replace(tag, subjects=frozenset(images)) if images else tag
        elif tag.lost:
            yield replace(tag, subjects=frozenset(filter(None, {tag.image})))
        elif _packed(tag.image) not in children:
            yield replace(tag, subjects=_tagged_subjects(survey, tag, tops))


def _found(tags: Iterable[SourceTag]) -> Iterator[SourceTag]:
    """Yield the tags and manifests that are not lost."""
    return (tag for tag in tags if not tag.lost)


def _tagged_subjects(survey: V2Survey, tag: SourceTag, tops: Mapping[Packed, set[str]]) -> frozenset[str]:
    """Return the tagged images that a manifest is about, directly or by way of its subject's subject."""
    seen: set[Packed] = set()
    wanted: Packed | None = _packed(tag.image)
    while wanted is not None and wanted not in seen:
        seen.add(wanted)
        known = survey.known.get((tag.repository, wanted))
        wanted = known.subject if known else None
        if wanted is not None and wanted in tops:
            return frozenset(tops[wanted])
    return frozenset()


def _is_digest(text: str) -> bool:
    try:
        _digest(text)
    except Broken:
        return False
    return True


def _digest(text: str) -> Digest:
    """Return the digest that a tag names.

    Raises:
        Broken: it is not a digest.
    """
    try:
        return Digest.parse(text)
    except RegistryError as error:
        raise Broken(FindingKind.DANGLING, text[:100], "not a digest") from error


def _packed(text: str) -> Packed:
    """Return the digest that a tag names, packed; raise as ``_digest``."""
    return _digest(text).packed
