"""Counts of surveys, and how many bytes they expect to copy and to read."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.migrate.base import Survey
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.journal import EarlierRuns
from dualreg.migrate.layer_facts import LayerFacts
from dualreg.migrate.names import Library
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.saved.survey import SavedSurvey
from dualreg.migrate.single_flight import Done
from dualreg.migrate.sources.archive import Archive
from dualreg.migrate.sources.base import OfV2Clients, SourceBytes, SourceImage, SourceManifest, SourceTag
from dualreg.migrate.sources.docker_archive import SavedImages
from dualreg.migrate.sources.layout_files import FolderFiles
from dualreg.migrate.sources.oci_layout import OciLayout
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.sources.v1_tree import V1Tree
from dualreg.migrate.v1.survey import V1Survey
from dualreg.migrate.v2.crawl import Known
from dualreg.migrate.v2.survey import V2Survey, survey_manifests
from dualreg.registry import Registry
from dualreg.storage.base import Keeps
from tests.builders import Image, image
from tests.migrate.stock_trees import StockTree
from tests.migrate.test_files import archive
from tests.migrate.trees import LAYERS

BASE, CHILD, OTHER = (letter * 64 for letter in "abc")
INDEX, ONE, TWO, LOOSE = (Digest.of(text) for text in (b"index", b"one", b"two", b"loose"))
SHARED, OWN, LOST, FAR = (Digest.of(text) for text in (b"shared", b"own", b"lost", b"far"))


def _v1(_: Path) -> V1Survey:
    def image(id_: str, parent: str | None, size: int) -> SourceImage:
        layer = SourceBytes(size, lambda: pytest.fail("no layer is read"))
        return SourceImage(ImageId(id_), parent and ImageId(parent), lambda: b"{}", layer)

    images = [image(BASE, None, 1), image(CHILD, BASE, 10), image(OTHER, "d" * 64, 100)]
    return V1Survey(V1Tree(Path()), images={each.id: each for each in images})


def _v2(_: Path) -> V2Survey:
    return V2Survey(
        OciLayout(Path(), FolderFiles(Path()), ""),
        known={
            ("a", INDEX.packed): Known(manifests=(ONE.packed, TWO.packed)),
            ("a", ONE.packed): Known((SHARED.packed, OWN.packed)),
            ("a", TWO.packed): Known((SHARED.packed, LOST.packed)),
            ("b", LOOSE.packed): Known((FAR.packed, SHARED.packed)),
        },
        blobs={SHARED.packed: 1, OWN.packed: 10, FAR.packed: 100},
    )


def _saved(folder: Path) -> SavedSurvey:
    source = SavedImages(Archive.open(archive(folder / "a.tar", {"manifest.json": b"[]"})), "", [])
    layers = {each: SourceBytes(size, lambda: pytest.fail("no layer is read")) for each, size in
              ((SHARED, 1), (OWN, 10))}  # fmt: skip
    return SavedSurvey(source, layers=layers)


def _entries(*tops: tuple[str, object], action: PlanAction = PlanAction.IMPORT) -> list[Entry]:
    return [Entry(name, "1", str(image), name, "1", action) for name, image in tops]


@pytest.mark.parametrize(
    ("make", "tops", "size"),
    [
        (_v1, [("a", CHILD)], 11),
        (_v1, [("a", CHILD), ("b", BASE), ("b", CHILD)], 11),
        (_v1, [("a", BASE)], 1),
        (_v1, [("a", OTHER)], 100),
        (_v1, [("a", "e" * 64)], 0),
        (_v2, [("a", INDEX)], 11),
        (_v2, [("a", ONE), ("a", TWO), ("a", INDEX)], 11),
        (_v2, [("a", TWO)], 1),
        (_v2, [("b", LOOSE), ("a", ONE)], 111),
        (_v2, [("b", INDEX), ("a", "nonsense")], 0),
        (_saved, [("a", INDEX)], 11),
    ],
)
def test_bytes(
    make: Callable[[Path], Survey],
    tops: list[tuple[str, object]],
    size: int,
    tmp_path: Path,
    opened: Registry,
) -> None:
    """Each blob counts once if it exists; before the first run, all of them have to be read."""
    survey, entries = make(tmp_path), _entries(*tops)
    assert survey.bytes_to_read(entries, opened, EarlierRuns(tmp_path, "")) == size


@pytest.mark.parametrize("action", [PlanAction.SKIP, PlanAction.LEAVE])
def test_only_what_is_imported_is_copied(action: PlanAction, tmp_path: Path) -> None:
    """Other entries of the plan do not count."""
    for survey, top in ((_v1(tmp_path), CHILD), (_v2(tmp_path), INDEX), (_saved(tmp_path), INDEX)):
        blobs, *others = survey.content(_entries(("a", top), action=action))
        assert (len(blobs), others) == (0, [0, 0, 0, 0])


def test_what_earlier_runs_read_is_not_read_again(tmp_path: Path, opened: Registry) -> None:
    """Layers by their facts, blobs by the catalog."""
    earlier = EarlierRuns(tmp_path, "")
    earlier.layers[BASE] = LayerFacts(1, 0, "", "", "", "", verified=True)
    earlier.blobs[OWN] = BlobRow(OWN, 5)
    assert _v1(tmp_path).bytes_to_read(_entries(("a", CHILD)), opened, earlier) == 10
    assert _saved(tmp_path).bytes_to_read([], opened, earlier) == 1
    opened.uploads.ingest(RepositoryName("x/y"), [b"own"])
    assert _v2(tmp_path).bytes_to_read(_entries(("a", INDEX)), opened, earlier) == 1


@pytest.mark.parametrize(
    ("make", "library", "shortens"),
    [(_v1, Library.STRIP, True), (_v2, Library.KEEP, False), (_saved, Library.KEEP, False)],
)
def test_library(make: Callable[[Path], Survey], library: Library, *, shortens: bool, tmp_path: Path) -> None:
    """Is what V1 clients left out."""
    survey = make(tmp_path)
    assert (survey.default_library, survey.shortens_library) == (library, shortens)


def test_only_a_registry_tree_is_a_store(tmp_path: Path, data: Path, opened: Registry) -> None:
    """If it is the one that this registry serves from."""
    assert not any(make(tmp_path).is_store(opened.blobs.keeps) for make in (_v1, _v2, _saved))
    StockTree(data).layer("team/app", b"a")
    StockTree(tmp_path / "other").layer("team/app", b"a")
    assert V2Survey(RegistryTree.open(data)).is_store(opened.blobs.keeps)
    assert not V2Survey(RegistryTree.open(tmp_path / "other")).is_store(opened.blobs.keeps)


class _Apart(OfV2Clients):
    """A source in which repository ``b`` has all that its manifests name, and ``a`` only the manifests."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self.read = list[str]()

    def tags(self) -> Iterator[SourceTag | Finding]:
        return (SourceTag(name, "1", str(self._image.digest), None) for name in "ab")

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        del repository, digest
        return SourceManifest(self._image.media_type, self._image.manifest)

    def is_store(self, keeps: Keeps) -> bool:
        del keeps
        return False

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        self.read.append(repository)
        if repository == "a":
            raise Broken(FindingKind.MISSING_BLOB, str(digest), "no such blob")
        return SourceBytes.of(self._image.blobs[digest])


def test_a_blob_is_read_in_a_repository_that_has_it() -> None:
    """Even if it is not the first that names it."""
    source = _Apart(image(LAYERS["a"]))
    survey = survey_manifests(source)
    digests = {str(tag.image) for tag in survey.tags}
    with pytest.raises(Broken, match="no such blob"):
        survey.check("a", *digests)
    survey.check("b", *digests)
    source.read.clear()
    assert [*survey.check_blobs(1, lambda *_: None)] == []
    assert source.read == ["b", "b"]
    assert survey.counts()["bytes"] == sum(map(len, source._image.blobs.values()))


def test_what_is_done() -> None:
    """Each digest counts in its repository, whatever its algorithm."""
    done, digests = Done(), [Digest.of(b"a"), Digest.of(b"b"), Digest.of(b"a", "sha512")]
    for chosen in digests:
        done.add("team/app", chosen)
        assert done.has("team/app", chosen)
        assert not done.has("team/other", chosen)
        assert [done.has("team/app", each) for each in digests] == sorted(
            (done.has("team/app", each) for each in digests), reverse=True
        )
