"""Survey: a V1 tree looked through once, by its small files only."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dualreg.migrate.findings import Broken, Finding, Kind
from dualreg.migrate.layers import examine
from dualreg.migrate.sources.v1_tree import SourceImage, SourceTag, V1Tree

#: Longer chains than any daemon could mount: where following parents ends.
CHAIN_LIMIT = 1000


@dataclass
class Survey:
    """What a tree holds.

    Attributes:
        tags: Those that name an image id, whether that is there or not.
        images: Those that can be read.
        broken: Why the others cannot, by id.
        findings: All that is to be said, in the order of the tree.
    """

    tree: V1Tree
    tags: list[SourceTag] = field(default_factory=list)
    images: dict[str, SourceImage] = field(default_factory=dict)
    broken: dict[str, Finding] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    repositories: int = 0

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
                raise Broken(Kind.CYCLE, wanted, "its ancestors lead back to it")
            seen.add(wanted)
            if wanted in self.broken:
                raise self._standing_on(self.broken[wanted], found)
            image = self.images.get(wanted)
            if image is None:
                kind = Kind.MISSING_PARENT if found else Kind.DANGLING
                raise Broken(kind, wanted, "no such image")
            found.append(image)
            wanted = image.parent
        return found[::-1]

    @staticmethod
    def _standing_on(finding: Finding, above: list[SourceImage]) -> Broken:
        kind = Kind.MISSING_PARENT if above and finding.kind is Kind.NO_JSON else finding.kind
        return Broken(kind, finding.where, finding.text)


def survey(tree: V1Tree) -> Survey:
    """Look through the whole tree, without reading a layer."""
    found = Survey(tree)
    for id_ in tree.image_ids():
        try:
            found.images[id_] = tree.image(id_)
        except Broken as error:
            found.broken[id_] = error.finding
            found.findings.append(error.finding)
    for repository, folder in tree.repositories():
        found.repositories += 1
        found.findings += tree.notes(repository, folder)
        here = [*tree.tags(repository, folder)]
        found.findings += [each for each in here if isinstance(each, Finding)]
        tags = [each for each in here if isinstance(each, SourceTag)]
        found.tags += tags
        if not tags:
            found.findings.append(Finding(Kind.EMPTY, repository, "no tags"))
    found.findings += _of_images(found)
    return found


def _of_images(found: Survey) -> Iterator[Finding]:
    """Yield what is to be said of images that can be read, and of those that no tag leads to."""
    for id_, image in found.images.items():
        if image.marked:
            yield Finding(Kind.STALE_MARK, id_, "marked as being pushed; its checksum decides")
        elif not image.checksums:
            yield Finding(Kind.UNVERIFIED, id_, "no checksum was kept", image.size)
        listed = found.tree.ancestry(id_)
        if listed is not None:
            try:
                parents = [member.id for member in found.chain(id_)[::-1]]
            except Broken:
                continue
            if listed != parents:
                yield Finding(Kind.WRONG_ANCESTRY, id_, "its list of ancestors is not what the JSONs say")
    for id_, size in orphans(found).items():
        yield Finding(Kind.ORPHAN, id_, "no tag leads to it", size)


def orphans(found: Survey) -> Mapping[str, int]:
    """Return the images that no tag leads to, with their sizes in bytes."""
    reached: set[str] = set()
    for tag in found.tags:
        wanted: str | None = tag.image
        while wanted is not None and wanted not in reached:
            reached.add(wanted)
            image = found.images.get(wanted)
            wanted = image.parent if image else None
    return {id_: image.size for id_, image in found.images.items() if id_ not in reached}


def shared_bytes(found: Survey) -> int:
    """Return the bytes of images that more than one repository uses."""
    users: Counter[str] = Counter()
    by_repository: dict[str, set[str]] = {}
    for tag in found.tags:
        reached = by_repository.setdefault(tag.repository, set())
        wanted: str | None = tag.image
        while wanted is not None and wanted not in reached and wanted in found.images:
            reached.add(wanted)
            wanted = found.images[wanted].parent
    for reached in by_repository.values():
        users.update(reached)
    return sum(found.images[id_].size for id_, count in users.items() if count > 1)


def read_through(found: Survey, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
    """Yield what reading every layer tells beyond what ``survey`` found.

    Args:
        advance: Called with each image (one), and its bytes.
    """

    def read(image: SourceImage) -> Finding | None:
        try:
            facts = examine(image)
        except Broken as error:
            return error.finding
        if image.checksums and not facts.verified:
            return Finding(Kind.UNSURE, image.id, "it decompresses; what was stated of it proves nothing")
        return None

    with ThreadPoolExecutor(jobs) as pool:
        images = [*found.images.values()]
        for image, finding in zip(images, pool.map(read, images), strict=True):
            advance(1, image.size)
            if finding:
                yield finding
