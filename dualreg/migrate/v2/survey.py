"""Survey of manifests: which there are, what they name, and what is broken."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dualreg.errors import RegistryError
from dualreg.image.digest import Digest, Hasher
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.migrate.findings import Broken, Finding, Kind
from dualreg.migrate.sources.base import ManifestSource, SourceTag
from dualreg.migrate.survey import repositories, sort_out
from dualreg.migrate.transfer import reading, show
from dualreg.migrate.v2.documents import read_manifest


class Known(NamedTuple):
    """What a manifest of the source names.

    Attributes:
        manifests: Of an index.
        broken: Why it cannot be taken in, if so.
    """

    blobs: tuple[Digest, ...] = ()
    manifests: tuple[Digest, ...] = ()
    subject: Digest | None = None
    broken: Finding | None = None


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
            raise Broken(Kind.DANGLING, f"{repository}@{image}", "no such manifest")
        for digest in self.below(repository, top):
            broken = self.known[repository, digest].broken
            excused = self.sparse and digest != top and broken and broken.kind is Kind.MISSING_MANIFEST
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

    def numbers(self) -> Mapping[str, int]:
        """See Survey."""
        users: dict[Digest, set[str]] = defaultdict(set)
        for (repository, _), known in self.known.items():
            for digest in known.blobs:
                users[digest].add(repository)
        return {
            "repositories": repositories(self.tags, self.findings),
            "tags": sum(bool(tag.tag) for tag in self.tags),
            "manifests": len(self.known),
            "blobs": self.things,
            "bytes": self.size,
            "shared_bytes": sum(size for digest, (size, _) in self.blobs.items() if len(users[digest]) > 1),
            "untagged": sum(not tag.tag for tag in self.tags),
        }

    @property
    def size(self) -> int:
        """See Survey."""
        return sum(size for size, _ in self.blobs.values())

    @property
    def things(self) -> int:
        """See Survey: blobs."""
        return len(self.blobs)

    def read_through(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        """See Survey."""

        def read(digest: Digest) -> Finding | None:
            hasher = Hasher(digest.algorithm)
            try:
                with reading(str(digest)):
                    show(self.source.blob(self.blobs[digest][1], digest), hasher.update)
            except Broken as error:
                return error.finding
            if hasher.digest() == digest:
                return None
            return Finding(Kind.CORRUPT, str(digest), f"its bytes are {hasher.digest()}")

        with ThreadPoolExecutor(jobs) as pool:
            digests = [*self.blobs]
            for digest, finding in zip(digests, pool.map(read, digests), strict=True):
                advance(1, self.blobs[digest][0])
                if finding:
                    yield finding


def survey_manifests(source: ManifestSource) -> V2Survey:
    """Look through the whole source, without reading a blob."""
    found = V2Survey(source)
    told, found.findings = sort_out(source.tags())
    by_repository: dict[str, list[SourceTag]] = defaultdict(list)
    for tag in told:
        try:
            _digest(tag.image)
        except Broken:
            found.findings.append(Finding(Kind.DANGLING, tag.name, "it points at nothing"))
        else:
            by_repository[tag.repository].append(tag)
    for repository, tags in by_repository.items():
        for tag in tags:
            _learn(found, repository, tag)
        found.tags += _without_parts(found, repository, tags)
    found.findings += [
        known.broken
        for known in found.known.values()
        if known.broken and known.broken.kind is not Kind.DANGLING  # which is said of the tag
    ]
    found.findings += [
        Finding(Kind.UNTAGGED, tag.name, "no tag leads to it")
        for tag in found.tags
        if not (tag.tag or tag.along)
    ]
    return found


def _learn(found: V2Survey, repository: str, tag: SourceTag) -> None:
    """Read a manifest and those that it names, each once."""
    waiting = [(_digest(tag.image), Kind.DANGLING if tag.tag else Kind.MISSING_MANIFEST)]
    while waiting:
        digest, absent = waiting.pop()
        if (repository, digest) in found.known:
            continue
        try:
            manifest = read_manifest(found.source, repository, digest)
            known = _look_into(found, repository, manifest)
        except Broken as error:
            finding = error.finding
            if finding.kind is Kind.MISSING_MANIFEST:
                finding = replace(finding, kind=absent)
            known = Known(broken=finding)
        found.known[repository, digest] = known
        waiting += [(child, Kind.MISSING_MANIFEST) for child in known.manifests]


def _look_into(found: V2Survey, repository: str, manifest: Manifest) -> Known:
    parts = [child.descriptor for child in manifest.required if child.role is not Role.MANIFEST]
    broken = None
    for part in parts:
        if part.digest == empty_layer().digest:
            continue
        if part.digest not in found.blobs:
            try:
                found.blobs[part.digest] = (found.source.blob(repository, part.digest).size, repository)
            except Broken as error:
                broken = broken or error.finding
                continue
        size, _ = found.blobs[part.digest]
        if part.size and size and part.size != size:
            text = f"it has {size} bytes, not {part.size}"
            broken = broken or Finding(Kind.CORRUPT, f"{repository}@{part.digest}", text)
    return Known(
        tuple(part.digest for part in parts),
        tuple(each.digest for each in manifest.described(Role.MANIFEST)),
        manifest.subject.digest if manifest.subject else None,
        broken,
    )


def _without_parts(found: V2Survey, repository: str, tags: list[SourceTag]) -> Iterator[SourceTag]:
    """Yield tags, and untagged manifests that are no part of anything, with what they are about."""
    tops: dict[Digest, set[str]] = defaultdict(set)
    parts: set[Digest] = set()
    for tag in tags:
        below = found.below(repository, _digest(tag.image))
        parts |= {*below} - {_digest(tag.image)}
        for digest in below if tag.tag else ():
            tops[digest].add(tag.image)
    for tag in tags:
        if tag.tag:
            yield tag
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
        raise Broken(Kind.DANGLING, text[:100], "no digest") from error
