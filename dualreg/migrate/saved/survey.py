"""Survey of saved images."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.facts import DAMAGED, Facts, image_facts
from dualreg.image.platform import Platform
from dualreg.migrate.base import ImportOptions, count_repositories, split_findings
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.journal import EarlierRuns, Journal
from dualreg.migrate.names import Library
from dualreg.migrate.parallel import in_parallel
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.saved.importer import SavedImporter
from dualreg.migrate.saved.layers import diff_id_of
from dualreg.migrate.saved.verify import SavedComparison
from dualreg.migrate.sources.base import SourceBytes, SourceTag
from dualreg.migrate.sources.docker_archive import SavedImage, SavedImages
from dualreg.migrate.space import Content
from dualreg.migrate.stopping import Stop
from dualreg.migrate.verify import BlobComparison
from dualreg.registry import Registry
from dualreg.storage.base import Keeps

#: Documents of an image: its config, and the manifest that is made.
_DOCUMENTS = 2


@dataclass
class SavedSurvey:
    """The survey of an archive.

    Attributes:
        broken: Why images cannot be imported, by id.
        layers: Those of the other images, uncompressed, by diff ID.
    """

    default_library: ClassVar[Library] = Library.KEEP
    shortens_library: ClassVar[bool] = False

    source: SavedImages
    tags: list[SourceTag] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    broken: dict[str, Finding] = field(default_factory=dict)
    layers: dict[Digest, SourceBytes] = field(default_factory=dict)

    def check(self, repository: str, image: str) -> None:
        del repository
        if broken := self.broken.get(image):
            raise Broken(broken.kind, broken.where, broken.text)

    def facts(self, repository: str, image: str, platform: Platform) -> Facts:
        """Return what decides who can read the image that an import makes: schema 2, with gzip layers."""
        del repository
        try:
            saved = self.source.image(image)
            config = parse_object(saved.config)
        except (Broken, ValueError):
            return DAMAGED
        layers = [Descriptor(media_types.DOCKER_LAYER_GZIP, each, None) for each in saved.diff_ids]
        return image_facts(media_types.DOCKER_MANIFEST, layers, config, platform)

    def counts(self) -> Mapping[str, int]:
        return {
            "repositories": count_repositories(self.tags, self.findings),
            "tags": sum(bool(tag.tag) for tag in self.tags),
            "images": len({each.id for each in self.source.listed}),
            "layers": self.blob_count,
            "bytes": self.blob_bytes,
        }

    @property
    def blob_bytes(self) -> int:
        return sum(layer.size for layer in self.layers.values())

    @property
    def blob_count(self) -> int:
        return len(self.layers)

    def check_blobs(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        findings = in_parallel(self._check_layer, self.layers, jobs)
        for diff_id, finding in zip(self.layers, findings, strict=True):
            advance(1, self.layers[diff_id].size)
            if finding:
                yield finding

    def content(self, entries: Iterable[Entry]) -> Content:
        wanted = [entry for entry in entries if entry.action is PlanAction.IMPORT]
        images = dict[str, SavedImage]()
        for id_ in {entry.image for entry in wanted}:
            with suppress(Broken):  # an edited plan may hold nonsense; the run reports it
                images[id_] = self.source.image(id_)
        layers = {diff_id: self.layers[diff_id].size for each in images.values() for diff_id in each.diff_ids}
        placed = {(entry.to_repository, entry.image) for entry in wanted if entry.image in images}
        links = sum(len(images[id_].diff_ids) + _DOCUMENTS + 1 for _, id_ in placed)
        documents = [len(image.config) for image in images.values()] * _DOCUMENTS
        tags, repositories = sum(bool(entry.to_tag) for entry in wanted), len({name for name, _ in placed})
        return Content([*layers.values(), *documents], repositories, links, tags)

    def bytes_to_read(self, entries: Iterable[Entry], registry: Registry, earlier: EarlierRuns) -> int:
        del entries, registry
        return sum(layer.size for diff_id, layer in self.layers.items() if diff_id not in earlier.blobs)

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
    ) -> SavedImporter:
        del options  # its layers have to be compressed: none can be linked
        known = (earlier or EarlierRuns.before(journal)).refresh().blobs
        return SavedImporter(registry, self.source, journal, known, stop)

    def comparison(self, registry: Registry, *, quick: bool) -> SavedComparison:
        return SavedComparison(registry, self.source, BlobComparison(registry.blobs, quick=quick))

    def forget(self) -> None:
        """Do nothing: an archive has few images."""

    def _check_layer(self, diff_id: Digest) -> Finding | None:
        try:
            found = diff_id_of(self.layers[diff_id].open(), str(diff_id))
        except Broken as error:
            return error.finding
        if found != diff_id:
            return Finding(FindingKind.CORRUPT, str(diff_id), f"its diff ID is {found}")
        return None


def survey_saved(source: SavedImages) -> SavedSurvey:
    """Return what an archive contains; no layer is read."""
    survey = SavedSurvey(source)
    survey.tags, survey.findings = split_findings(source.tags())
    for id_ in dict.fromkeys(each.id for each in source.listed):
        try:
            image = source.image(id_)
        except Broken as error:
            survey.broken[id_] = error.finding
            continue
        survey.layers |= dict(zip(image.diff_ids, image.layers, strict=True))
    survey.findings += survey.broken.values()
    return survey
