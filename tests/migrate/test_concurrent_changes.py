"""Changes that clients make in this registry during an import are kept."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from dualreg.assembly import open_registry
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.media_types import DOCKER_MANIFEST
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import CurrentManifest, Imported, Importer, ImportOptions
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.migrate.rollback import rollback
from dualreg.migrate.run import Existing, Run, Status
from dualreg.migrate.selection import Selection, make_plan
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transports import SourceOptions, survey_source
from dualreg.registry import Registry
from dualreg.registry.manifests import Manifests
from dualreg.registry.tags import Tags
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.migrate import stock_trees
from tests.migrate.commands import command, content
from tests.migrate.test_files import saved
from tests.migrate.trees import LAYERS, Tree

NAME, TAG = RepositoryName("team/app"), Tag("1")


@dataclass
class Interrupted:
    """An Importer during which something happens: before an entry is compared, or before it is copied."""

    inner: Importer
    meanwhile: Callable[[], object]
    judging: bool = False

    def is_same(self, repository: RepositoryName, image: str, here: CurrentManifest) -> bool:
        if self.judging:
            self.meanwhile()
        return self.inner.is_same(repository, image, here)

    def is_complete(self, entry: Entry, repository: RepositoryName, here: CurrentManifest) -> bool:
        return self.inner.is_complete(entry, repository, here)

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        if not self.judging:
            self.meanwhile()
        return self.inner.import_entry(entry, repository, tag, before)

    def import_new(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        del entries  # each is imported alone
        return iter(())


def _v1(root: Path) -> str:
    tree = Tree(root)
    tree.tag(NAME, TAG, tree.image("a", LAYERS["a"]), updated=1_400_000_000)
    return f"v1-tree:{root}"


@pytest.mark.slow
def test_two_processes_import_the_same_images(tmp_path: Path, data: Path, opened: Registry) -> None:
    """What the other has just made is no other image: neither of them fails."""
    tree = Tree(tmp_path / "old")
    for number in range(20):
        tree.tag(NAME, str(number), tree.image(str(number), LAYERS["a"], author=str(number)))
    survey = survey_source(f"v1-tree:{tree.root}", SourceOptions())
    entries = make_plan(survey, Selection())
    started = Barrier(2)
    with closing(open_registry(Settings(data=data))) as other, ThreadPoolExecutor(2) as pool:

        def run(registry: Registry) -> set[Status]:
            journal = Journal(tmp_path, registry.now(), "x")
            importer = survey.importer(registry, journal, ImportOptions(), Stop())
            each, statuses = Run(registry, importer, journal), set[Status]()
            for entry in entries:
                started.wait()
                statuses.add(each.import_one(entry).status)
            return statuses

        statuses = set[Status]().union(*pool.map(run, (opened, other)))
    assert statuses <= {Status.DONE, Status.SAME}


def _stock(root: Path) -> str:
    stock_trees.StockTree(root).image(NAME, builders.image(LAYERS["a"]), TAG)
    return f"registry-tree:{root}"


def _saved(root: Path) -> str:
    root.mkdir()
    return f"docker-archive:{saved(root / 'a.tar', (builders.image(LAYERS['a']), [f'{NAME}:{TAG}']))}"


@pytest.fixture(params=[_v1, _stock, _saved])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A source with one tag, of each kind."""
    return str(request.param(tmp_path / "old"))


def run(
    registry: Registry, data: Path, source: str, meanwhile: Callable[[], object], *, judging: bool = False
) -> Status:
    """Import the tag while something else happens; return the outcome."""
    found = survey_source(source, SourceOptions())
    own = Journal(data / "migrations", registry.state.catalog.now(), source)
    importer = Interrupted(found.importer(registry, own, ImportOptions(), Stop()), meanwhile, judging)
    (outcome,) = Run(registry, importer, own, Existing.OVERWRITE).import_all(make_plan(found, Selection()), 1)
    return outcome.status


def push(registry: Registry) -> Digest:
    """Push another image under that tag."""
    image = builders.image(LAYERS["z"])
    for blob in image.blobs.values():
        registry.uploads.ingest(NAME, [blob])
    registry.manifests.put(NAME, TAG, image.media_type, image.manifest)
    return image.digest


@pytest.mark.parametrize(("held", "judging"), [(False, False), (True, False), (True, True)])
def test_a_push_wins(
    source: str,
    opened: Registry,
    data: Path,
    held: bool,  # noqa: FBT001 -- a case
    judging: bool,  # noqa: FBT001 -- a case
) -> None:
    """A tag pushed during its import is kept, new or not; a rollback removes what the run added."""
    other = builders.image(LAYERS["y"])
    if held:
        for blob in other.blobs.values():
            opened.uploads.ingest(NAME, [blob])
        opened.manifests.put(NAME, TAG, other.media_type, other.manifest)
    before = content(data)
    assert run(opened, data, source, lambda: push(opened), judging=judging) is Status.SKIPPED
    assert opened.manifests.find(NAME, TAG).digest == builders.image(LAYERS["z"]).digest
    (journal,) = (path.stem for path in (data / "migrations").glob("*.jsonl"))
    assert "was moved since" in command(data, f"rollback {journal}").output
    assert opened.manifests.find(NAME, TAG).digest == builders.image(LAYERS["z"]).digest
    left = {path: each for path, each in content(data).items() if path not in before}
    assert not any(Digest.of(LAYERS["a"]).hex in path for path in left)
    command(data, f"run {source} --existing overwrite")
    assert opened.manifests.find(NAME, TAG).digest != builders.image(LAYERS["z"]).digest


def test_a_delete_wins(source: str, opened: Registry, data: Path) -> None:
    """A tag deleted during its import stays deleted."""

    def delete() -> None:
        with opened.state.catalog.begin() as tx:
            tx.deletions.record(NAME, [TAG])

    time.sleep(0.01)
    assert run(opened, data, source, delete) is Status.SKIPPED
    assert client_of(opened).get(f"/v2/{NAME}/manifests/{TAG}").status_code == 404


def test_a_push_there_while_it_is_copied_comes_next_time(
    tmp_path: Path, data: Path, opened: Registry
) -> None:
    """A push to the source during the copy is imported by the next run: tags keep their push times."""
    tree = Tree(tmp_path / "old")
    images = [tree.image(seed, LAYERS[seed]) for seed in "ab"]
    tree.tag(NAME, TAG, images[0], updated=1_400_000_000)
    source = f"v1-tree:{tree.root}"
    run(opened, data, source, lambda: tree.tag(NAME, TAG, images[1], updated=1_400_000_009))
    assert opened.bridge.resolve(NAME, TAG) == images[0]
    assert (
        client_of(opened).get(f"/v1/repositories/{NAME}/tags/{TAG}/json").json["last_update"] == 1_400_000_000
    )
    assert "1 done" in command(data, f"run {source} --existing newer").output
    assert opened.bridge.resolve(NAME, TAG) == images[1]


def test_what_is_deleted_by_digest_stays_deleted(tmp_path: Path, data: Path, opened: Registry) -> None:
    """Neither by its tag nor by its digest."""
    source = _stock(tmp_path / "stock")
    digest = builders.image(LAYERS["a"]).digest

    def delete() -> None:
        with opened.state.catalog.begin() as tx:
            tx.deletions.record(NAME, [digest])

    assert run(opened, data, source, delete) is Status.SKIPPED
    for reference in (TAG, digest):
        assert client_of(opened).get(f"/v2/{NAME}/manifests/{reference}").status_code == 404


@dataclass(frozen=True)
class Watched(Manifests):
    """Manifests, of which one is retagged before it is removed, as by a client."""

    def delete(self, repository: RepositoryName, digest: Digest, *given: Any, **further: Any) -> None:
        """See Manifests."""
        self.retag(repository, Tag("kept"), digest, Origin.V2)
        super().delete(repository, digest, *given, **further)


@dataclass(frozen=True)
class Busy(Tags):
    """Tags, of which one is moved before it is deleted, as by a client."""

    moved: Callable[[], object] = lambda: None

    def delete(self, repository: RepositoryName, tag: Tag, *given: Any, **further: Any) -> None:
        """See Tags."""
        self.moved()
        super().delete(repository, tag, *given, **further)


def test_rollbacks_leave_what_is_pushed_meanwhile(source: str, data: Path, opened: Registry) -> None:
    """A tag that is moved while it is taken out, and a new tag on a manifest that would go."""
    command(data, f"run {source}")
    (name,) = (path.stem for path in (data / "migrations").glob("*.jsonl"))
    ours = opened.manifests.find(NAME, TAG).digest
    manifests = Watched(*(getattr(opened.manifests, each.name) for each in fields(opened.manifests)))
    tags = Busy(
        *(getattr(opened.tags, each.name) for each in fields(opened.tags)), moved=lambda: push(opened)
    )
    undone = rollback(replace(opened, manifests=manifests, tags=tags), data / "migrations", name)
    assert undone.kept == (f"{NAME}:{TAG} was moved since",)
    assert opened.manifests.find(NAME, TAG).digest == builders.image(LAYERS["z"]).digest
    assert opened.manifests.find(NAME, Tag("kept")).digest == ours
    client = client_of(opened)
    for layer in client.get(f"/v2/{NAME}/manifests/kept", headers={"Accept": DOCKER_MANIFEST}).json["layers"]:
        assert client.get(f"/v2/{NAME}/blobs/{layer['digest']}").status_code == 200
