"""Survey of saved images."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dualreg.image.digest import Digest
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.saved.layers import diff_id_of
from dualreg.migrate.sources.base import SourceBytes, SourceTag
from dualreg.migrate.sources.docker_archive import SavedImages
from dualreg.migrate.survey import count_repositories, split_findings


@dataclass
class SavedSurvey:
    """What an archive holds; a Survey."""

    source: SavedImages
    tags: list[SourceTag] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    broken: dict[str, Finding] = field(default_factory=dict)
    layers: dict[Digest, SourceBytes] = field(default_factory=dict)

    def check(self, repository: str, image: str) -> None:
        """See Survey."""
        del repository
        if broken := self.broken.get(image):
            raise Broken(broken.kind, broken.where, broken.text)

    def counts(self) -> Mapping[str, int]:
        """See Survey."""
        return {
            "repositories": count_repositories(self.tags, self.findings),
            "tags": sum(bool(tag.tag) for tag in self.tags),
            "images": len({each.id for each in self.source.listed}),
            "layers": self.blob_count,
            "bytes": self.blob_bytes,
        }

    @property
    def blob_bytes(self) -> int:
        """See Survey: before they are compressed."""
        return sum(layer.size for layer in self.layers.values())

    @property
    def blob_count(self) -> int:
        """See Survey: layers."""
        return len(self.layers)

    def check_blobs(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        """See Survey."""

        def read(diff_id: Digest) -> Finding | None:
            try:
                found = diff_id_of(self.layers[diff_id].open(), str(diff_id))
            except Broken as error:
                return error.finding
            return (
                None
                if found == diff_id
                else Finding(FindingKind.CORRUPT, str(diff_id), f"its files are {found}")
            )

        with ThreadPoolExecutor(jobs) as pool:
            for diff_id, finding in zip(self.layers, pool.map(read, self.layers), strict=True):
                advance(1, self.layers[diff_id].size)
                if finding:
                    yield finding


def survey_saved(source: SavedImages) -> SavedSurvey:
    """Look through an archive, without reading a layer."""
    found = SavedSurvey(source)
    found.tags, found.findings = split_findings(source.tags())
    for id_ in dict.fromkeys(each.id for each in source.listed):
        try:
            image = source.image(id_)
        except Broken as error:
            found.broken[id_] = error.finding
            continue
        found.layers |= dict(zip(image.diff_ids, image.layers, strict=True))
    found.findings += found.broken.values()
    return found
