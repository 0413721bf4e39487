"""Survey of V1 images: which there are, what stands on what, and what is broken."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from dualreg.catalog.v1_images import CHAIN_LIMIT
from dualreg.image.documents import parse_object
from dualreg.migrate.dates import made
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import RecordsAgents, SourceImage, SourceTag, V1Source
from dualreg.migrate.survey import count_repositories, split_findings
from dualreg.migrate.v1.duplicates import duplicate_image, find_duplicates
from dualreg.migrate.v1.layers import examine

#: Repository of orphans that none is known to have had.
_NOBODYS = "orphans"


@dataclass
class V1Survey:
    """What a source of V1 images holds; a Survey.

    Attributes:
        images: Those that can be read.
        broken: Why the others cannot, by id.
    """

    source: V1Source
    tags: list[SourceTag] = field(default_factory=list)
    images: dict[str, SourceImage] = field(default_factory=dict)
    broken: dict[str, Finding] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def chain(self, id_: str) -> list[SourceImage]:
        """Return the image and its ancestors, base first.

        The parents in the JSONs are the truth; the list of ancestors is only derived from them.

        Raises:
            Broken: one of them cannot be taken in.
        """
        found: list[SourceImage] = []
        seen: set[str] = set()
        wanted: str | None = id_
        while wanted is not None:
            if wanted in seen or len(seen) >= CHAIN_LIMIT:
                raise Broken(FindingKind.CYCLE, wanted, "its ancestors lead back to it")
            seen.add(wanted)
            if wanted in self.broken:
                raise self._standing_on(self.broken[wanted], found)
            image = self.images.get(wanted)
            if image is None:
                kind = FindingKind.MISSING_PARENT if found else FindingKind.DANGLING
                raise Broken(kind, wanted, "no such image")
            found.append(image)
            wanted = image.parent
        return found[::-1]

    def check(self, repository: str, image: str) -> None:
        """See Survey."""
        self.chain(image)
        if first := self._twins.get((repository, image)):
            raise duplicate_image(image, first)

    def agent(self, repository: str, tag: str) -> str:
        """Return what the client that pushed a tag called itself; empty if the source does not know."""
        return self.source.agent(repository, tag) if isinstance(self.source, RecordsAgents) else ""

    def counts(self) -> Mapping[str, int]:
        """See Survey."""
        return {
            "repositories": count_repositories(self.tags, self.findings),
            "tags": sum(bool(tag.tag) for tag in self.tags),
            "images": self.blob_count + len(self.broken),
            "bytes": self.blob_bytes,
            "shared_bytes": self._shared_bytes(),
            "orphans": len(self.orphans),
            "orphan_bytes": sum(image.size for image in self.orphans),
        }

    @property
    def blob_bytes(self) -> int:
        """See Survey."""
        return sum(image.size for image in self.images.values())

    @property
    def blob_count(self) -> int:
        """See Survey: images."""
        return len(self.images)

    @cached_property
    def orphans(self) -> tuple[SourceImage, ...]:
        """The images that no tag leads to."""
        reached = self._below(tag for tag in self.tags if tag.tag)
        return tuple(image for id_, image in self.images.items() if id_ not in reached)

    @cached_property
    def _twins(self) -> Mapping[tuple[str, str], str]:
        return find_duplicates((tag for tag in self.tags if tag.tag), self.chain)

    def untagged(self) -> Iterator[SourceTag]:
        """Yield the orphans on which no other stands, each in a repository that it was pushed to."""
        below = {image.parent for image in self.orphans}
        tops = [image for image in self.orphans if image.id not in below]
        homes = self.source.homes() if tops else {}
        for image in tops:
            changed = image.layer.changed
            updated = datetime.fromtimestamp(changed / 1e9, UTC) if changed else None
            yield SourceTag(homes.get(image.id, _NOBODYS), "", image.id, updated)

    def check_blobs(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        """See Survey."""
        with ThreadPoolExecutor(jobs) as pool:
            images = [*self.images.values()]
            for image, finding in zip(images, pool.map(_read_through, images), strict=True):
                advance(1, image.size)
                if finding:
                    yield finding

    def _shared_bytes(self) -> int:
        """Return the bytes of images that more than one repository uses."""
        by_repository: dict[str, list[SourceTag]] = {}
        for tag in (tag for tag in self.tags if tag.tag):
            by_repository.setdefault(tag.repository, []).append(tag)
        users = Counter(id_ for tags in by_repository.values() for id_ in self._below(tags))
        return sum(self.images[id_].size for id_, count in users.items() if count > 1)

    def _below(self, tags: Iterable[SourceTag]) -> set[str]:
        """Return the images that *tags* lead to, as far as they are here."""
        reached: set[str] = set()
        for tag in tags:
            wanted: str | None = tag.image
            while wanted is not None and wanted not in reached and wanted in self.images:
                reached.add(wanted)
                wanted = self.images[wanted].parent
        return reached

    @staticmethod
    def _standing_on(finding: Finding, above: list[SourceImage]) -> Broken:
        kind = FindingKind.MISSING_PARENT if above and finding.kind is FindingKind.NO_JSON else finding.kind
        return Broken(kind, finding.where, finding.text)

    def learn(self, id_: str) -> None:
        """Look at an image and its ancestors, as far as they are not known."""
        wanted: str | None = id_
        while wanted is not None and wanted not in self.images and wanted not in self.broken:
            try:
                self.images[wanted] = self.source.image(wanted)
            except Broken as error:
                self.broken[wanted] = error.finding
                return
            wanted = self.images[wanted].parent


def survey_images(source: V1Source, asking: ScanOptions | None = None) -> V1Survey:
    """Look through the whole source, without reading a layer."""
    found = V1Survey(source)

    def read(id_: str) -> SourceImage | Broken:
        try:
            return source.image(id_)
        except Broken as error:
            return error

    ids = [*source.image_ids()]
    for id_, image in zip(ids, (asking or ScanOptions()).each(read, ids), strict=True):
        if isinstance(image, Broken):
            found.broken[id_] = image.finding
            found.findings.append(image.finding)
        else:
            found.images[image.id] = image
    told, findings = split_findings(source.tags())
    found.tags = [tag if tag.updated else replace(tag, updated=_made(found, tag.image)) for tag in told]
    found.findings += findings
    found.findings += _of_images(found)
    found.tags += found.untagged()
    return found


def _made(found: V1Survey, id_: str) -> datetime | None:
    """Return when an image was made; None if its JSON does not tell."""
    try:
        return made(parse_object(found.images[id_].json()).get("created"))
    except (Broken, LookupError, ValueError):
        return None


def _of_images(found: V1Survey) -> Iterator[Finding]:
    """Yield what is to be said of images that can be read, and of those that no tag leads to."""
    for id_, image in found.images.items():
        if image.marked:
            yield Finding(FindingKind.STALE_MARK, id_, "marked as being pushed; its checksum decides")
        elif not image.is_stated:
            yield Finding(FindingKind.UNVERIFIED, id_, "no checksum was kept", image.size)
        listed = found.source.ancestry(id_)
        if listed is not None:
            try:
                parents = [member.id for member in found.chain(id_)[::-1]]
            except Broken:
                continue
            if [*listed] != parents:
                yield Finding(
                    FindingKind.WRONG_ANCESTRY, id_, "its list of ancestors is not what the JSONs say"
                )
    for image in found.orphans:
        yield Finding(FindingKind.ORPHAN, image.id, "no tag leads to it", image.size)


def _read_through(image: SourceImage) -> Finding | None:
    try:
        facts = examine(image)
    except Broken as error:
        return error.finding
    if image.is_stated and not facts.verified:
        return Finding(FindingKind.UNSURE, image.id, "it decompresses; what was stated of it proves nothing")
    return None
