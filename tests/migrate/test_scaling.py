"""What a survey takes for each tag, and an import for each blob: calls, files, memory, waits."""

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from dualreg import migrate
from dualreg.catalog.database import Transaction
from dualreg.migrate.base import ImportOptions, Survey
from dualreg.migrate.follow import Passes
from dualreg.migrate.journal import Journal
from dualreg.migrate.run import Existing, Run, Status
from dualreg.migrate.selection import Selection, make_plan, plan_and_losses
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.sources.v1_tree import V1Tree
from dualreg.migrate.stopping import Stop
from dualreg.migrate.v1.survey import survey_images
from dualreg.migrate.v2.survey import V2Survey, survey_manifests
from dualreg.registry import Registry
from tests import builders
from tests.builders import image
from tests.migrate.stock_trees import StockTree
from tests.migrate.trees import Tree

#: Tags of the small and of the large source, and of a repository.
SMALL, LARGE, EACH = 50, 200, 25


def registry_tree(root: Path, tags: int) -> Callable[[], V2Survey]:
    """Write a tree of manifests, two blobs to each; return its survey."""
    tree = StockTree(root)
    for number in range(tags):
        tree.image(
            f"team/app{number // EACH}", image(builders.layer({"a": str(number).encode()})), f"{number}"
        )
    return lambda: survey_manifests(RegistryTree.open(root))


def v1_tree(root: Path, tags: int) -> Callable[[], Survey]:
    """Write a tree of V1 images, four to a tag; return its survey."""
    tree, layer = Tree(root), builders.layer({"a": b"a"})
    for chain in range(tags):
        top = None
        for number in range(4):
            top = tree.image(f"{chain} {number}", layer, parent=top)
        tree.tag(f"team/app{chain // EACH}", f"{chain}", str(top), updated=1_400_000_000)
    return lambda: survey_images(V1Tree.open(root))


def inspected(survey: Callable[[], Survey]) -> object:
    """Return all that ``migrate inspect`` computes."""
    found = survey()
    entries, losses = plan_and_losses(found, Selection(library=found.default_library))
    assert entries
    assert not losses
    return found, found.content(entries), found.counts(), entries


def calls_of(survey: Callable[[], Survey], name: str = "") -> int:
    """Return how many functions an inspection calls: all, or those of C named *name*."""
    calls = 0

    def count(_: object, event: str, function: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call") and (not name or getattr(function, "__name__", "") == name)

    sys.setprofile(count)
    try:
        inspected(survey)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize(("write", "files", "stats"), [(registry_tree, 6, 0), (v1_tree, 14, 4)])
def test_an_inspection_takes_the_same_for_each_tag(
    write: Callable[[Path, int], Callable[[], Survey]], files: int, stats: int, tmp_path: Path
) -> None:
    """However many there are: so many files that are opened, so many that are looked at, and few calls."""
    small, large = write(tmp_path / "small", SMALL), write(tmp_path / "large", LARGE)
    inspected(small)  # what is imported, or built once
    assert calls_of(large) < calls_of(small) * LARGE / SMALL * 1.02
    for name, limit in (("open", files), ("lstat", stats)):
        more = calls_of(large, name) - calls_of(small, name)
        assert more <= limit * (LARGE - SMALL) * 1.05, name


@pytest.mark.slow
@pytest.mark.parametrize(("write", "limit"), [(registry_tree, 1_900), (v1_tree, 3_500)])
def test_a_survey_remembers_little(
    write: Callable[[Path, int], Callable[[], Survey]], limit: int, tmp_path: Path
) -> None:
    """So few bytes for each tag of two blobs, or of four V1 images, at the peak."""
    used = []
    for tags in (SMALL, LARGE):
        survey = write(tmp_path / f"{tags}", tags)
        inspected(survey)
        tracemalloc.start()
        try:
            kept = inspected(survey)
            used.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        del kept
    assert (used[1] - used[0]) / (LARGE - SMALL) < limit


def test_a_run_forgets_the_survey(data: Path, opened: Registry) -> None:
    """It keeps what is imported of it, and no more."""
    survey = registry_tree(data, EACH)()
    entries, options = make_plan(survey, Selection()), ImportOptions()
    passes = Passes(
        opened, data / "migrations", f"registry-tree:{data}", options, Existing.SKIP, 1,
        lambda *_, **__: None, lambda *_: nullcontext(lambda *_: None),
    )  # fmt: skip
    _, outcomes = passes.run(survey, entries, Event())
    assert [each.status for each in outcomes] == [Status.DONE] * EACH
    assert [*survey.tags, *survey.known, *survey.blobs] == []


def waits_of(
    registry: Registry, survey: Survey, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """Import all tags; return how many waits for the journal, and how many transactions, it took."""
    waits, transactions = list[bytes](), list[Transaction]()
    journal = Journal(folder, registry.now(), "source")
    importer = survey.importer(registry, journal, ImportOptions(), Stop())
    journal.write("begun")
    begin, append = registry.state.catalog.begin, migrate.journal.append

    @contextmanager
    def counted(**options: Any) -> Iterator[Transaction]:
        with begin(**options) as tx:
            transactions.append(tx)
            yield tx

    def appended(descriptor: int, lines: bytes, *, durable: bool) -> None:
        waits.extend([lines] * durable)
        append(descriptor, lines, durable=durable)

    with monkeypatch.context() as patched:
        patched.setattr(registry.state.catalog, "begin", counted)
        patched.setattr(migrate.journal, "append", appended)
        outcomes = Run(registry, importer, journal).import_all(make_plan(survey, Selection()), 1)
    assert {each.status for each in outcomes} == {Status.DONE}
    return len(waits), len(transactions)


@pytest.mark.parametrize(("tags", "repositories"), [(1, 1), (12, 1), (12, 3)])
def test_new_tags_in_place_are_recorded_at_once(
    tags: int, repositories: int, data: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one wait for the journal, in one transaction; an empty catalog takes one, its end a wait."""
    for number in range(tags):
        content = image(builders.layer({"a": f"{number}".encode()}))
        StockTree(data).image(f"team/app{number % repositories}", content, f"{number}")
    survey = survey_manifests(RegistryTree.open(data))
    assert waits_of(opened, survey, data / "migrations", monkeypatch) == (2, 2)


def test_new_repositories_with_the_same_layers_are_recorded_at_once(
    tmp_path: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer is read once."""
    tree, base = StockTree(tmp_path / "old"), builders.layer({"a": b"base"})
    for number in range(3):
        own = builders.layer({"a": f"{number}".encode()})
        tree.image(f"team/app{number}", image(base, own), "1")
    survey = survey_manifests(RegistryTree.open(tree.root))
    assert waits_of(opened, survey, tmp_path, monkeypatch) == (2, 2)


def test_large_blobs_of_another_repository_are_linked_at_once(
    data: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not read again, so that nothing is lost if the run is killed before."""
    tree, content = StockTree(data), image(builders.layer({"a": b"a"}), builders.layer({"a": b"b"}))
    for name in ("team/app", "team/other"):
        tree.image(name, content, "1")
    for module in ("v2.importer", "together"):
        monkeypatch.setattr(f"dualreg.migrate.{module}.LARGE", 0)
    survey = survey_manifests(RegistryTree.open(data))
    reading, linking, tags, manifests, end = 3, 1, 2, 2, 1
    expected = reading + linking + tags + end, reading + linking + tags + manifests
    assert waits_of(opened, survey, data / "migrations", monkeypatch) == expected


@pytest.mark.parametrize(("images", "groups"), [(1, 1), (3, 1), (7, 3)])
def test_small_v1_images_are_recorded_three_at_once(
    images: int, groups: int, tmp_path: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If they have a large one below them; what is made of them takes the same always."""
    monkeypatch.setattr("dualreg.migrate.together.LARGE", 0)
    tree, top = Tree(tmp_path / "old"), None
    for number in range(images):
        top = tree.image(f"{number}", builders.layer({"a": f"{number}".encode()}), parent=top)
    tree.tag("team/app", "1", str(top))
    survey = survey_images(V1Tree.open(tree.root))
    assert waits_of(opened, survey, tmp_path, monkeypatch) == (groups + 2, groups + 3)


def test_new_tags_of_v1_images_are_recorded_at_once(
    tmp_path: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that is made of them."""
    survey = v1_tree(tmp_path / "old", 5)()
    assert waits_of(opened, survey, tmp_path, monkeypatch) == (2, 2)
