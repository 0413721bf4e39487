"""What clients do here while an image is still on its way in counts, and is never overwritten."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.choice import Choice, make_plan
from dualreg.migrate.intake import Here, Intake
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.migrate.run import Existing, Run, Status
from dualreg.migrate.sorts import Access, Manner, intake_of, look_through
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.migrate import stock_trees
from tests.migrate.commands import command, content
from tests.migrate.test_files import saved
from tests.migrate.trees import LAYERS, Tree

NAME, TAG = RepositoryName("team/app"), Tag("1")


@dataclass
class Interrupted:
    """An Intake that is told of each tag's copy when that has just begun."""

    inner: Intake
    meanwhile: Callable[[], object]

    def is_same(self, repository: RepositoryName, image: str, here: Here) -> bool:
        """See Intake."""
        return self.inner.is_same(repository, image, here)

    def take(self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: Here | None) -> int:
        """See Intake."""
        self.meanwhile()
        return self.inner.take(entry, repository, tag, before)


def _v1(root: Path) -> str:
    tree = Tree(root)
    tree.tag(NAME, TAG, tree.image("a", LAYERS["a"]), updated=1_400_000_000)
    return f"v1-tree:{root}"


def _stock(root: Path) -> str:
    stock_trees.StockTree(root).image(NAME, builders.image(LAYERS["a"]), TAG)
    return f"registry-tree:{root}"


def _saved(root: Path) -> str:
    root.mkdir()
    return f"docker-archive:{saved(root / 'a.tar', (builders.image(LAYERS['a']), [f'{NAME}:{TAG}']))}"


@pytest.fixture(params=[_v1, _stock, _saved])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A source with one tag, of each sort."""
    return str(request.param(tmp_path / "old"))


def run(registry: Registry, data: Path, source: str, meanwhile: Callable[[], object]) -> Status:
    """Take in the tag, with something that happens meanwhile; return what became of it."""
    found = look_through(source, Access())
    own = Journal(data / "migrations", registry.state.catalog.now(), source)
    intake = Interrupted(intake_of(found, registry, own, Manner(), Event()), meanwhile)
    (outcome,) = Run(registry, intake, own, Existing.OVERWRITE).all(make_plan(found, Choice()), 1)
    return outcome.status


def push(registry: Registry) -> Digest:
    """Push another image under that tag."""
    image = builders.image(LAYERS["z"])
    for blob in image.blobs.values():
        registry.uploads.ingest(NAME, [blob])
    registry.manifests.put(NAME, TAG, image.media_type, image.manifest)
    return image.digest


@pytest.mark.parametrize("held", [False, True])
def test_a_push_wins(source: str, opened: Registry, data: Path, held: bool) -> None:  # noqa: FBT001 -- a case
    """Whether the tag was here before or not; and a rollback takes out the rest alone."""
    other = builders.image(LAYERS["y"])
    if held:
        for blob in other.blobs.values():
            opened.uploads.ingest(NAME, [blob])
        opened.manifests.put(NAME, TAG, other.media_type, other.manifest)
    before = content(data)
    assert run(opened, data, source, lambda: push(opened)) is Status.SKIPPED
    assert opened.manifests.find(NAME, TAG).digest == builders.image(LAYERS["z"]).digest
    (journal,) = (path.stem for path in (data / "migrations").glob("*.jsonl"))
    assert "was moved since" in command(data, f"rollback {journal}").output
    assert opened.manifests.find(NAME, TAG).digest == builders.image(LAYERS["z"]).digest
    left = {path: each for path, each in content(data).items() if path not in before}
    assert not any(Digest.of(LAYERS["a"]).hex in path for path in left)
    command(data, f"run {source} --existing overwrite")
    assert opened.manifests.find(NAME, TAG).digest != builders.image(LAYERS["z"]).digest


def test_a_delete_wins(source: str, opened: Registry, data: Path) -> None:
    """What is deleted here while it comes does not come back."""

    def delete() -> None:
        with opened.state.catalog.begin() as tx:
            tx.forgotten.mark(NAME, [TAG])

    time.sleep(0.01)
    assert run(opened, data, source, delete) is Status.SKIPPED
    assert client_of(opened).get(f"/v2/{NAME}/manifests/{TAG}").status_code == 404


def test_a_push_there_while_it_is_copied_comes_next_time(
    tmp_path: Path, data: Path, opened: Registry
) -> None:
    """Tags have the time of their push there, not that of their coming here."""
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
