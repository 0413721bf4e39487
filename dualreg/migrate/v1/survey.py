"""Survey of V1 images: which there are, their ancestors, and what is wrong with them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from typing import ClassVar

from dualreg.image.documents import parse_object
from dualreg.image.facts import DAMAGED, V1_IMAGE, Facts
from dualreg.image.platform import Platform
from dualreg.image.v1_image import CHAIN_LIMIT
from dualreg.migrate.base import ImportOptions, count_repositories, split_findings
from dualreg.migrate.dates import parse_created
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.journal import EarlierRuns, Journal
from dualreg.migrate.names import Library
from dualreg.migrate.parallel import in_parallel
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import SourceImage, SourceTag, V1Source
from dualreg.migrate.space import Content
from dualreg.migrate.stopping import Stop
from dualreg.migrate.v1.duplicates import duplicate_image, find_duplicates
from dualreg.migrate.v1.importer import V1Importer
from dualreg.migrate.v1.layers import read_layer
from dualreg.migrate.v1.verify import V1Comparison
from dualreg.migrate.verify import BlobComparison
from dualreg.registry import Registry
from dualreg.storage.base import Keeps

#: Documents that are made of an image for clients of V2: a config and a manifest.
_DOCUMENTS = 2
#: Repository of orphans whose repository is not known.
_ORPHANS = "orphans"


@dataclass
class V1Survey:
    """The survey of a source of V1 images.

    Attributes:
        images: Those that can be read, by id.
        broken: Why the others cannot, by id.
    """

    default_library: ClassVar[Library] = Library.STRIP
    shortens_library: ClassVar[bool] = True

    source: V1Source
    tags: list[SourceTag] = field(default_factory=list)
    images: dict[str, SourceImage] = field(default_factory=dict)
    broken: dict[str, Finding] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def chain(self, id_: str) -> list[SourceImage]:
        """Return the image and its ancestors, base first.

        The parents in the JSONs count; the list of ancestors is only derived from them.

        Raises:
            Broken: one of them is missing or damaged.
        """
        found = dict[str, SourceImage]()
        wanted: str | None = id_
        while wanted is not None:
            if wanted in found or len(found) >= CHAIN_LIMIT:
                raise Broken(FindingKind.CYCLE, wanted, "it is its own ancestor, or has too many")
            image = self.images.get(wanted)
            if image is None:
                raise self._lost(wanted, is_ancestor=bool(found))
            found[wanted] = image
            wanted = image.parent
        return [*found.values()][::-1]

    def check(self, repository: str, image: str) -> None:
        self.chain(image)
        if first := self._duplicates.get((repository, image)):
            raise duplicate_image(image, first)

    def facts(self, repository: str, image: str, platform: Platform) -> Facts:
        del repository, platform
        try:
            depth = len(self.chain(image))
        except Broken:
            return DAMAGED
        return Facts(V1_IMAGE, V1_IMAGE, layers=depth, steps=depth)

    def counts(self) -> Mapping[str, int]:
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
        return sum(image.size for image in self.images.values())

    @property
    def blob_count(self) -> int:
        return len(self.images)

    @cached_property
    def orphans(self) -> tuple[SourceImage, ...]:
        """The images that no tag needs."""
        reached = self._reachable(tag.image for tag in self.tags if tag.tag)
        return tuple(image for id_, image in self.images.items() if id_ not in reached)

    @cached_property
    def _duplicates(self) -> Mapping[tuple[str, str], str]:
        return find_duplicates((tag for tag in self.tags if tag.tag), self.chain)

    def untagged(self) -> Iterator[SourceTag]:
        """Yield the orphans without children, each in a repository that it was pushed to."""
        parents = {image.parent for image in self.orphans}
        tops = [image for image in self.orphans if image.id not in parents]
        homes = self.source.homes() if tops else {}
        for image in tops:
            changed = image.layer.changed
            updated = datetime.fromtimestamp(changed / 1e9, UTC) if changed else None
            yield SourceTag(homes.get(image.id, _ORPHANS), "", image.id, updated)

    def check_blobs(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        images = [*self.images.values()]
        for image, finding in zip(images, in_parallel(_check_layer, images, jobs), strict=True):
            advance(1, image.size)
            if finding:
                yield finding

    def content(self, entries: Iterable[Entry]) -> Content:
        tops, tags = defaultdict[str, set[str]](set), 0
        for entry in entries:
            if entry.action is PlanAction.IMPORT:
                tops[entry.to_repository].add(entry.image)
                tags += 1
        images, manifests = self._reachable(chain.from_iterable(tops.values())), {*chain(*tops.values())}
        placed = sum(len(self._reachable(ids)) for ids in tops.values())
        made = sum(map(len, tops.values()))
        blobs = [self.images[id_].size for id_ in images]
        # Documents, which are small: the JSON of each image; config and manifest of each tagged one.
        blobs += [1] * (len(images) + _DOCUMENTS * len(manifests))
        return Content(blobs, len(tops), 2 * placed + (_DOCUMENTS + 1) * made, tags, placed)

    def bytes_to_read(self, entries: Iterable[Entry], registry: Registry, earlier: EarlierRuns) -> int:
        del registry  # a layer that no run has read is read even if it is stored
        return self._layer_bytes((entry.image for entry in entries), earlier.layers)

    def is_store(self, keeps: Keeps) -> bool:
        del keeps
        return False

    def importer(
        self,
        registry: Registry,
        journal: Journal,
        options: ImportOptions,
        stop: Stop,
        earlier: EarlierRuns | None = None,
    ) -> V1Importer:
        known = (earlier or EarlierRuns.before(journal)).refresh().layers
        return V1Importer(
            registry,
            self.chain,
            journal,
            options.link,
            options.strict,
            known,
            stop,
            agent=self.source.agent,
        )

    def comparison(self, registry: Registry, *, quick: bool) -> V1Comparison:
        return V1Comparison(registry, self.chain, BlobComparison(registry.blobs, quick=quick))

    def forget(self) -> None:
        for found in (self.tags, self.findings):
            found.clear()

    def load(self, id_: str) -> None:
        """Read an image and its ancestors, unless they were read already."""
        wanted: str | None = id_
        while wanted is not None and wanted not in self.images and wanted not in self.broken:
            try:
                self.images[wanted] = _read_image(self.source, wanted)
            except Broken as error:
                self.broken[wanted] = error.finding
                return
            wanted = self.images[wanted].parent

    def _layer_bytes(self, ids: Iterable[str], known: Container[str]) -> int:
        """Return the bytes of the layers of images and their ancestors, but for *known* ones."""
        return sum(self.images[id_].layer.size for id_ in self._reachable(ids) if id_ not in known)

    def _shared_bytes(self) -> int:
        """Return the bytes of images that several repositories use."""
        by_repository: dict[str, list[str]] = {}
        for tag in (tag for tag in self.tags if tag.tag):
            by_repository.setdefault(tag.repository, []).append(tag.image)
        users = Counter(id_ for ids in by_repository.values() for id_ in self._reachable(ids))
        return sum(self.images[id_].size for id_, count in users.items() if count > 1)

    def _reachable(self, ids: Iterable[str]) -> set[str]:
        """Return the images and their ancestors, up to the first that cannot be read."""
        reached: set[str] = set()
        for id_ in ids:
            wanted: str | None = id_
            while wanted is not None and wanted not in reached and wanted in self.images:
                reached.add(wanted)
                wanted = self.images[wanted].parent
        return reached

    def _lost(self, id_: str, *, is_ancestor: bool) -> Broken:
        """Return why there is no such image, in the terms of what needs it: a tag, or the child of it."""
        finding = self.broken.get(id_)
        if finding is None:
            return Broken(
                FindingKind.MISSING_PARENT if is_ancestor else FindingKind.DANGLING, id_, "no such image"
            )
        missing = finding.kind is FindingKind.NO_JSON and is_ancestor
        kind = FindingKind.MISSING_PARENT if missing else finding.kind
        return Broken(kind, finding.where, finding.text)


def survey_images(source: V1Source, scan: ScanOptions | None = None) -> V1Survey:
    """Return what *source* contains; no layer is read."""
    survey = V1Survey(source)

    def read(id_: str) -> SourceImage | Broken:
        try:
            return _read_image(source, id_)
        except Broken as error:
            return error

    ids = [*source.image_ids()]
    for id_, image in zip(ids, (scan or ScanOptions()).each(read, ids), strict=True):
        if isinstance(image, Broken):
            survey.broken[id_] = image.finding
            survey.findings.append(image.finding)
        else:
            survey.images[image.id] = image
    for image in survey.images.values():
        image.share_id(survey.images)
    tags, findings = split_findings(source.tags())
    survey.tags = [tag if tag.updated else replace(tag, updated=_created(survey, tag.image)) for tag in tags]
    survey.findings += findings
    survey.findings += _image_findings(survey)
    survey.tags += survey.untagged()
    return survey


def _read_image(source: V1Source, id_: str) -> SourceImage:
    """Return an image; its layer is only read if that is an empty file.

    Raises:
        Broken: a part of it is missing or damaged, or it has another id.
    """
    image = source.image(id_)
    if image.size == 0 and image.layer.known_size == 0:
        read_layer(image)  # its checksum tells whether something is lost
    return image


def _created(survey: V1Survey, id_: str) -> datetime | None:
    """Return when an image was created; None if its JSON does not say."""
    try:
        return parse_created(parse_object(survey.images[id_].json()).get("created"))
    except (Broken, LookupError, ValueError):
        return None


def _image_findings(survey: V1Survey) -> Iterator[Finding]:
    """Yield the findings about images that can be read, orphans last."""
    for id_, image in survey.images.items():
        if image.marked:
            decides = (
                "its checksum decides" if image.has_checksum else "it is imported if its archive is whole"
            )
            yield Finding(FindingKind.STALE_MARK, id_, f"marked as being pushed; {decides}")
        if not image.has_checksum:
            text = "its checksum is of what had arrived" if image.marked else "no checksum was kept"
            yield Finding(FindingKind.UNVERIFIED, id_, text, image.size)
        listed = survey.source.ancestry(id_)
        if listed is not None:
            try:
                parents = [member.id for member in survey.chain(id_)[::-1]]
            except Broken:
                continue
            if [*listed] != parents:
                text = "its list of ancestors differs from the parents in the JSONs"
                yield Finding(FindingKind.WRONG_ANCESTRY, id_, text)
    for image in survey.orphans:
        yield Finding(FindingKind.ORPHAN, image.id, "no tag uses it", image.size)


def _check_layer(image: SourceImage) -> Finding | None:
    try:
        facts = read_layer(image)
    except Broken as error:
        return error.finding
    if image.has_checksum and not facts.verified:
        return Finding(
            FindingKind.UNSURE, image.id, "it decompresses, but none of its recorded checksums proves it"
        )
    return None
