"""The content of a registry that moves to another store, while it is served, and whenever that is stopped."""

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from dualreg.assembly import accounts_of, open_catalog, open_registry, prepare, writes_of
from dualreg.image.digest import Digest
from dualreg.image.layer import empty_layer
from dualreg.image.names import RepositoryName
from dualreg.maintenance.blob_copy import BlobCopy
from dualreg.maintenance.expected_links import ExpectedLinks
from dualreg.maintenance.fsck.documents import Documents
from dualreg.maintenance.gc import Collection
from dualreg.maintenance.store_copy.copy import StoreCopy
from dualreg.maintenance.store_copy.links import LinkCopy
from dualreg.settings import Settings
from dualreg.storage import Store, open_store
from dualreg.storage.base import StoredBlob
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.apps import client_of
from tests.contracts.test_moving import KINDS, urls_of
from tests.maintenance.load import found_in, load
from tests.maintenance.test_backup import make, rows, run
from tests.maintenance.world import ONE, TWO, administer, fill, known_rows, rebuilt_rows
from tests.programs import DUALREG, Process, dualreg_process, hopping, running, until
from tests.protocol.exchange import push_image
from tests.registry.test_damage import flip, lose
from tests.soak import short_or_long
from tests.state import blob_file

OTHER = builders.image(builders.layer({"other": b"1"}))


@pytest.fixture
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of two empty stores, of the kinds that the test names, or of two folders."""
    with ExitStack() as stack:
        yield urls_of(getattr(request, "param", "file file"), tmp_path, stack)


def copy(settings: Settings, source: str, target: str, *options: str, code: int = 0) -> dict[str, Any]:
    """Copy, and return what the command prints as JSON."""
    line = ("store", "copy", source, target, "--data", settings.data, "--json", *options)
    chosen = {"store": settings.store, "store_fallback": settings.store_fallback}
    done = run(*line, code=code, database=settings.database, **chosen)
    found: dict[str, Any] = json.loads(done.stdout) if code < 2 else {"error": done.stderr}
    return found


def links(store: Store) -> dict[str, tuple[bytes, datetime | None]]:
    """Return all link files, with the times that rows have."""
    found = {path: store.read_link(path) for path in store.link_paths()}
    dated = re.compile("/_manifests/.*/link$")
    return {
        path: (file.content, file.at if dated.search(path) else None) for path, file in found.items() if file
    }


def blobs(store: Store) -> dict[Digest, int]:
    """Return the blobs of a store with their sizes, without the empty layer, which need not be there."""
    return {each.digest: each.size for each in store.walk() if each.digest != empty_layer().digest}


@pytest.mark.slow
@pytest.mark.parametrize("urls", KINDS, indirect=True)
def test_everything_moves(urls: list[str], tmp_path: Path) -> None:
    """Blobs, link files with their times, accounts and keys; a catalog that is made from it is the same."""
    old = Settings(data=tmp_path / "data", audit="off", sparse_indexes=True, store=urls[0])
    prepare(old)
    with closing(open_registry(old)) as registry:
        fill(client_of(registry, old))
        administer(accounts_of(registry))
        Collection(registry).run()
    source, target = map(open_store, urls)
    planned = copy(old, *urls, "--dry-run")
    assert [*target.walk(), *target.link_paths()] == []
    copied = copy(old, *urls)
    numbers = ("blobs", "bytes", "added", "added_bytes", "missing")
    assert [copied[name] for name in numbers] == [planned[name] for name in numbers]
    assert (copied["missing"], copied["uploads"], copied["removed"]) == ([], 0, 0)
    assert copied["added"] == copied["blobs"]
    assert blobs(target) == blobs(source)
    assert links(target) == links(source)
    for name in ("access.json", "collections"):
        assert target.read_private(name) == source.read_private(name) is not None
    again = copy(old, *urls, "--verify")
    assert [again[name] for name in ("added", "added_bytes", "links", "removed")] == [0, 0, 0, 0]
    new = old.model_copy(update={"store": urls[1]})
    if urls[0].startswith("file"):
        shutil.rmtree(urlsplit(urls[0]).path)
    prepare(new)
    remade = rebuilt_rows(target, tmp_path)
    assert remade == {name: found if remade[name] else [] for name, found in rows(new).items()}
    with closing(open_registry(new)) as registry:
        push_image(client_of(registry, new), "a/new/one", OTHER, "latest")
    run("fsck", "--read", "--data", new.data, store=new.store, sparse_indexes="true")


@pytest.mark.slow
@pytest.mark.parametrize("urls", [KINDS[0], KINDS[2]], indirect=True)
def test_what_changed_since_is_copied_alone(urls: list[str], tmp_path: Path) -> None:
    """What was deleted, moved, or pushed again meanwhile is so in the other store too."""
    settings = make(tmp_path / "data", ONE, TWO).model_copy(update={"store": ""})
    old = settings.store_url
    assert copy(settings, old, urls[1])["missing"] == []
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        push_image(client, "team/app", TWO, "t0")
        assert client.delete("/v2/team/app/manifests/t1").status_code == 202
        push_image(client, "team/new", OTHER, "one")
        push_image(client, "gone", OTHER, "one")
        assert copy(settings, old, urls[1])["added"] == len(OTHER.blobs) + 1
        assert client.delete("/v2/gone/_dualreg/repository").status_code == 202
        push_image(client, "gone/deep", ONE, "one")
    target = open_store(urls[1])
    for path, content in (("team/app/_v1/" + "a" * 64, b"{}"), ("team/new/_manifests/tags/one/origin", b"?")):
        target.write_link(path, content)
    done = copy(settings, old, urls[1])
    assert (done["added"], done["missing"]) == (0, [])
    assert done["links"]
    assert done["removed"] > 3
    assert links(target) == links(open_store(old))
    assert blobs(target) == blobs(open_store(old))


def test_links_are_dated_as_their_rows(tmp_path: Path, urls: list[str]) -> None:
    """A tag that was pushed again to the same manifest, while only the old store was written."""
    settings = make(tmp_path / "data", ONE)
    copy(settings, settings.store_url, urls[1])
    target = open_store(urls[1])
    path = "team/app/_manifests/tags/t0/current/link"
    before = target.read_link(path)
    assert before is not None
    target.write_link(path, before.content, datetime.fromisoformat("2020-01-01T00:00:00Z"))
    assert copy(settings, settings.store_url, urls[1])["links"] == 1
    assert target.read_link(path) == before


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, lose])
def test_damage_is_not_copied(tmp_path: Path, urls: list[str], damage: Any) -> None:
    """It is listed; everything else is copied; once it was repaired, a further copy brings it."""
    settings = make(tmp_path / "data", ONE, TWO)
    damaged = Digest.of(ONE.layers[1])
    damage(blob_file(settings.data, damaged))
    kind = {flip: "corrupt-blob", lose: "lost-blob"}[damage]
    copied = copy(settings, settings.store_url, urls[1], code=1)
    assert [(each["kind"], each["digest"]) for each in copied["missing"]] == [(kind, str(damaged))]
    target = open_store(urls[1])
    assert target.stat(damaged) is None
    assert [*target.staged()] == []
    assert len(blobs(target)) == copied["blobs"] - 1
    line = ("store", "copy", settings.store_url, urls[1], "--data", settings.data)
    assert f"{kind}: {damaged}" in run(*line, code=1).stderr
    with closing(open_registry(settings)) as registry:
        registry.integrity.alarm(damaged, "found by a copy")
        push_image(client_of(registry, settings), "team/app", ONE, "t0")
    assert copy(settings, settings.store_url, urls[1])["added"] == 1


def test_damage_of_the_other_store_is_replaced(tmp_path: Path, urls: list[str]) -> None:
    """One of another size at once, any other with --verify; what it was is set aside."""
    settings = make(tmp_path / "data", ONE)
    copy(settings, settings.store_url, urls[1])
    folder = Path(urlsplit(urls[1]).path)
    layer, config = Digest.of(ONE.layers[0]), Digest.of(ONE.config)
    file = blob_file(folder, config)
    file.unlink()
    file.write_bytes(b"cut")
    layer_file = blob_file(folder, layer)
    data = layer_file.read_bytes()
    layer_file.unlink()
    layer_file.write_bytes(data[:-1] + b"?")
    assert copy(settings, settings.store_url, urls[1])["added"] == 1
    assert copy(settings, settings.store_url, urls[1], "--verify")["added"] == 1
    assert blob_file(folder, layer).read_bytes() == data
    assert (folder / "corrupt" / f"sha256-{layer.hex}").exists()


@pytest.mark.slow
def test_stores_of_others_are_left_alone(tmp_path: Path, urls: list[str]) -> None:
    """Neither a store with content, nor the same store; nothing is written to them."""
    settings = make(tmp_path / "data", ONE)
    other = make(tmp_path / "other", TWO)
    before = links(open_store(other.store_url))
    refused = copy(settings, settings.store_url, other.store_url, code=2)["error"]
    assert "content that is not of this registry" in refused
    assert links(open_store(other.store_url)) == before
    same = copy(settings, settings.store_url, settings.store_url + "/", code=2)["error"]
    assert "FROM and TO are the same store" in same
    own = settings.model_copy(update={"store": settings.store_url, "store_fallback": other.store_url + "/"})
    assert copy(own, settings.store_url, other.store_url)["removed"] > 0  # the operator says that it is one
    assert "expected file:///PATH or s3://BUCKET/PREFIX" in copy(settings, "x:y", urls[1], code=2)["error"]
    copy(settings, settings.store_url, urls[1])
    assert "not of this registry" in copy(other, other.store_url, urls[1], code=2)["error"]


def test_what_is_imported_on_demand_keeps_its_names(tmp_path: Path, urls: list[str]) -> None:
    """A copy to the store that is such a source, as if FROM and TO were exchanged, is refused."""
    settings = make(tmp_path / "data", ONE)
    target = open_store(settings.store_url)
    target.write_link("old/app/_manifests/tags/one/current/link", str(TWO.digest).encode())
    before = links(target)
    line = ("store", "copy", urls[1], settings.store_url, "--data", settings.data)
    source = f"registry-tree:{settings.data}"
    assert "may not be imported yet" in run(*line, code=2, legacy_source=source).stderr
    assert links(target) == before


@pytest.mark.parametrize("urls", [KINDS[0], KINDS[2]], indirect=True)
def test_a_registry_that_moves_is_read_only_everywhere(tmp_path: Path, urls: list[str]) -> None:
    """Whichever of its stores a process writes to; and writable again."""
    first = make(tmp_path / "data", ONE).model_copy(update={"store": urls[0]})
    moving = first.model_copy(update={"store": urls[1], "store_fallback": urls[0]})
    last = first.model_copy(update={"store": urls[1]})
    for command, is_readonly in (("on --reason moving", True), ("off", False)):
        chosen = {"store": moving.store, "store_fallback": moving.store_fallback}
        run("readonly", *command.split(), "--data", first.data, **chosen)
        assert [writes_of(each).marked() is not None for each in (first, moving, last)] == [is_readonly] * 3
    writes_of(first).set_mark("before", datetime.now(UTC))
    assert writes_of(moving).marked() == writes_of(first).marked()


@pytest.mark.slow
def test_it_says_what_to_do_next(tmp_path: Path, urls: list[str]) -> None:
    """By the stores that the registry uses, and whether an upload still is in the old one."""
    settings = make(tmp_path / "data", ONE)
    old = settings.store_url
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        location = client.post("/v2/team/app/blobs/uploads/").headers["Location"]
        assert client.patch(location, data=b"some").status_code == 202
    line = ("store", "copy", old, urls[1], "--data", settings.data)
    assert "set store to TO and store_fallback to FROM" in run(*line).stdout
    moving = {"store": urls[1], "store_fallback": old}
    assert "1 upload in progress in FROM" in run(*line, **moving).stdout
    new = settings.model_copy(update=moving)
    with closing(open_registry(new)) as registry:
        client = client_of(registry, new)
        digest = Digest.of(b"some bytes")
        assert client.patch(location, data=b" bytes").status_code == 202
        end = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        assert client.put(end).status_code == 201
    assert open_store(urls[1]).stat(digest)
    done = run(*line, **moving)
    assert "remove store_fallback" in done.stdout
    assert "Copied 0 blobs (0.0 MiB) of 5 blobs" in done.stdout


def test_what_is_collected_meanwhile_is_collected_again(tmp_path: Path, urls: list[str]) -> None:
    """A blob that goes while it is copied has a row afterwards, by which the next collections delete it."""
    settings = make(tmp_path / "data", ONE, TWO)
    alone = Digest.of(ONE.layers[1])
    stores = {"store": urls[1], "store_fallback": settings.store_url}
    moving = settings.model_copy(update=stores | {"undelete_grace": timedelta()})

    class Collecting(FilesystemStore):
        """A store whose blob is collected once it was opened."""

        def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> Any:
            reader = super().open(digest, start=start, length=length)
            if digest == alone:
                with closing(open_registry(moving)) as registry:
                    client = client_of(registry, moving)
                    assert client.delete("/v2/team/app/manifests/t0").status_code == 202
                    assert client.delete(f"/v2/team/app/manifests/{ONE.digest}").status_code == 202
                    assert registry.blobs.release(RepositoryName("team/app"), digest)
            return reader

    target = open_store(urls[1])
    with closing(open_catalog(settings)) as catalog:
        source = Collecting(Path(unquote(urlsplit(settings.store_url).path)))
        made = StoreCopy(catalog, source, target)
        copied = made.copy_blobs(BlobCopy(source, target, jobs=1))
        made.conclude(copied)
        assert copied.missing == []
        assert target.stat(alone)
        with catalog.read() as tx:
            assert tx.blobs.sizes([alone]) == {alone: len(ONE.layers[1])}
    soon = moving.model_copy(update={"gc_grace": timedelta()})
    with closing(open_registry(soon)) as registry:
        Collection(registry).run()
    assert open_store(*moving.store_urls).stat(alone) is None


def test_what_changes_at_the_end_is_not_missing(tmp_path: Path, urls: list[str]) -> None:
    """The list of the new store is older than the rows that it is compared with, if only by a moment."""
    settings = make(tmp_path / "data", ONE, TWO)
    alone = Digest.of(ONE.layers[1])
    stores = {"store": urls[1], "store_fallback": settings.store_url}
    moving = settings.model_copy(update=stores | {"undelete_grace": timedelta()})

    class Changing(FilesystemStore):
        """A store to which clients push once it was listed; and a blob is collected before it is listed."""

        def walk(self) -> Iterator[StoredBlob]:
            found = [each for each in super().walk() if each.digest != alone]
            with closing(open_registry(moving)) as registry:
                client = client_of(registry, moving)
                push_image(client, "team/new", OTHER, "one")
                yield found[0]
                assert client.delete("/v2/team/app/manifests/t0").status_code == 202
                assert client.delete(f"/v2/team/app/manifests/{ONE.digest}").status_code == 202
                assert registry.blobs.release(RepositoryName("team/app"), alone)
            yield from found[1:]

    source, target = open_store(settings.store_url), open_store(urls[1])
    with closing(open_catalog(settings)) as catalog:
        copied = StoreCopy(catalog, source, target).copy_blobs(BlobCopy(source, target))
        StoreCopy(catalog, source, Changing(Path(unquote(urlsplit(urls[1]).path)))).conclude(copied)
        assert copied.missing == []
        with catalog.read() as tx:
            assert tx.blobs.sizes([alone, Digest.of(OTHER.config)]) == {
                Digest.of(OTHER.config): len(OTHER.config)
            }


def test_a_tag_that_moves_while_links_are_written(tmp_path: Path, urls: list[str]) -> None:
    """Whether a client moves it or deletes it between the look at the row and the lock, the row counts."""
    settings = make(tmp_path / "data", ONE, TWO)
    moving = settings.model_copy(update={"store": urls[1], "store_fallback": settings.store_url})
    target, both = open_store(urls[1]), open_store(*moving.store_urls)
    with closing(open_catalog(settings)) as catalog, closing(open_registry(moving)) as registry:
        client = client_of(registry, moving)

        class Racing(LinkCopy):
            """Links that clients change just before they are written."""

            def _write(self, *given: Any) -> int:
                if "_manifests/tags" in given[-1][0].path:
                    push_image(client, "team/app", TWO, "t0")
                    assert client.delete("/v2/team/app/manifests/t1").status_code in (202, 404)
                return super()._write(*given)

        racing = Racing(catalog, target, ExpectedLinks(Documents(both)), 1)
        racing.run()
        tag = target.read_link("team/app/_manifests/tags/t0/current/link")
        assert tag is not None
        assert tag.content.decode() == str(TWO.digest)
        assert target.read_link("team/app/_manifests/tags/t1/current/link") is None
        assert known_rows(catalog) == rows(moving)


@pytest.mark.parametrize("urls", KINDS[2:3], indirect=True)
def test_a_copy_goes_on_after_a_kill(tmp_path: Path, urls: list[str]) -> None:
    """Killed at any moment, by any signal: what was copied is not copied again, and all of it is sound."""
    images = [builders.image(builders.layer({"big": bytes([number]) * (3 << 20)})) for number in range(24)]
    settings = make(tmp_path / "data", *images)
    line = [DUALREG, "store", "copy", settings.store_url, urls[1], "--data", settings.data, "--jobs", "1"]
    target, log = open_store(urls[1]), tmp_path / "log"
    for end in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        present = len(blobs(target))
        with running(line, log) as process:
            wait_for(lambda more=present: len(blobs(target)) > more, process)  # type: ignore[misc]  # a default
            process.send_signal(end)
            process.wait(30)
        assert process.poll() != 0
    present = len(blobs(target))
    assert "stopped; run the command again to go on" in log.read_text()
    done = copy(settings, settings.store_url, urls[1])
    assert done["added"] == done["blobs"] - present
    assert done["missing"] == []
    assert links(target) == links(open_store(settings.store_url))
    run("fsck", "--read", "--data", settings.data, store=urls[1])


def wait_for(condition: Callable[[], bool], process: Process) -> None:
    """Wait until something is so, or a process has ended."""
    assert until(lambda: condition() or process.poll() is not None, 60)


@contextmanager
def serving(data: Path, instances: list[dict[str, str]]) -> Iterator[list[str]]:
    """Run instances with these settings for the block; yield where they serve."""
    with ExitStack() as stack:
        run_one = partial(dualreg_process, data, gc_interval="0s")
        yield [stack.enter_context(run_one(**each)).host for each in instances]


@contextmanager
def copies(settings: Settings, urls: list[str], log: Path, chosen: dict[str, str]) -> Iterator[None]:
    """Copy again and again during the block, while both stores are there; most copies are killed."""
    stop = threading.Event()
    line = [DUALREG, "store", "copy", *urls, "--data", settings.data]
    env = {f"DUALREG_{name.upper()}": value for name, value in chosen.items()}

    def work() -> None:
        for number in count():
            with running(line, log, env) as process:
                if number % 3:
                    stop.wait(0.3 + number % 5 / 5)
                    process.send_signal(signal.SIGKILL)
                process.wait(60)
            if stop.is_set():
                return

    worker = threading.Thread(target=work)
    if chosen != {"store": urls[1]}:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        if worker.ident:
            worker.join()


@pytest.mark.slow
@pytest.mark.parametrize("urls", short_or_long([KINDS[0]], [KINDS[0], KINDS[2]]), indirect=True)
def test_clients_notice_nothing(tmp_path: Path, urls: list[str]) -> None:
    """They push, move and delete over both APIs before, while and after the registry uses both stores.

    Copies run all the time, and are killed. At the end, the old store is gone; nothing that was answered is
    lost, nothing that was deleted is back, and a catalog that is made from the new store says the same.
    """
    settings = Settings(data=tmp_path / "data", audit="off")
    old, new = {"store": urls[0]}, {"store": urls[1]}
    mixed = [old | {"store_fallback": urls[1]}, new | {"store_fallback": urls[0]}]
    with ExitStack() as stack:
        for phase in ([old], mixed, mixed[1:], [new]):
            if phase == [new]:
                assert copy(settings.model_copy(update=mixed[1]), *urls)["missing"] == []
                shutil.rmtree(urlsplit(urls[0]).path)
            with serving(settings.data, phase) as hosts, hopping(hosts):
                if phase == [old]:
                    history = stack.enter_context(load(hosts[0]))
                with history.window(), copies(settings, urls, tmp_path / "copy.log", phase[-1]):
                    time.sleep(short_or_long(3, 60))
                history.rest()
        allowed = history.now()
    found = found_in(settings.data, [key for key in allowed if key[0] != "upload"], **new)
    assert {key: value for key, value in found.items() if value not in allowed[key]} == {}
    run("fsck", "--read", "--data", settings.data, **new)
    moved = settings.model_copy(update=new)
    remade = rebuilt_rows(open_store(urls[1]), tmp_path)
    expected = rows(moved)
    for row in remade["blobs"] + expected["blobs"]:
        row["condemned_at"] = bool(row["condemned_at"])  # a rebuild condemns anew
    assert remade == {name: found if remade[name] else [] for name, found in expected.items()}
