"""Backups of registries in use, and registries that are restored from them."""

import errno
import fcntl
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import accounts_of, open_catalog, open_registry, prepare
from dualreg.catalog.database import Catalog
from dualreg.cli import main
from dualreg.errors import CatalogUnreachable
from dualreg.image.digest import Digest
from dualreg.image.layer import empty_layer
from dualreg.maintenance.backup.restore import is_unfinished
from dualreg.settings import Settings
from dualreg.storage import open_store
from tests import builders
from tests.apps import client_of
from tests.contracts.postgresql import DATABASES, database_of
from tests.directories import FILE, ON_POSTGRESQL
from tests.maintenance.load import found_in, load
from tests.maintenance.world import ONE, TWO, administer, fill, known_rows, rebuilt_rows
from tests.migrate import trees
from tests.migrate.commands import command, content
from tests.programs import DUALREG, dualreg_server, start
from tests.protocol.exchange import push_image
from tests.registry.test_damage import flip, lose
from tests.soak import short_or_long

BLOBS = Path("docker/registry/v2/blobs")
OTHER = builders.image(builders.layer({"other": b"1"}))


def run(*arguments: object, code: int = 0, **settings: object) -> Result:
    """Run a command, which exits with *code*."""
    env = {f"DUALREG_{name.upper()}": str(value) for name, value in settings.items()}
    done = CliRunner().invoke(main, [*map(str, arguments)], env={"DUALREG_CONFIG": None} | env)
    assert done.exit_code == code, done.output
    return done


def back_up(folder: Path, data: Path, *options: str, code: int = 0, **settings: object) -> dict[str, Any]:
    """Back up, and return what the command prints as JSON."""
    done = run("backup", folder, "--data", data, "--json", *options, code=code, **settings)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def restored(folder: Path, data: Path, *options: str, code: int = 0, **settings: object) -> dict[str, Any]:
    """Restore, and return what the command prints as JSON."""
    done = run("restore", folder, "--data", data, "--json", *options, code=code, **settings)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make(data: Path, *images: builders.Image, database: str = "") -> Settings:
    """Make a registry with some images, tagged by their place."""
    settings = Settings(data=data, audit="off", database=database)
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        for number, image in enumerate(images):
            push_image(client_of(registry, settings), "team/app", image, f"t{number}")
    return settings


def blob(data: Path, digest: Digest) -> Path:
    """Return the file of a blob."""
    return data / BLOBS / digest.algorithm / digest.hex[:2] / digest.hex / "data"


def rows(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return what the catalog says."""
    with closing(open_catalog(settings)) as catalog:
        return known_rows(catalog)


@pytest.fixture
def database() -> Iterator[Callable[[str], str]]:
    """Returns the URL of an empty database with tables, or of a new SQLite file (empty), by its kind."""
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(database_of(kind))


#: Of what is tried with SQLite, too.
POSTGRES = (pytest.mark.postgres, pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("sqlite", "sqlite", marks=pytest.mark.sqlite),
        pytest.param("postgresql", "postgresql", marks=POSTGRES),
        pytest.param("sqlite", "postgresql", marks=POSTGRES),
        pytest.param("postgresql", "sqlite", marks=POSTGRES),
    ],
)
def test_everything_comes_back(
    database: Callable[[str], str], tmp_path: Path, before: str, after: str
) -> None:
    """Every row, link file with its time, blob and journal, in either database; the registry then works."""
    old, new = (
        Settings(data=tmp_path / name, audit="off", sparse_indexes=True, database=url)
        for name, url in (("old", database(before)), ("new", database(after)))
    )
    prepare(old)
    with closing(open_registry(old)) as registry:
        fill(client_of(registry, old))
        administer(accounts_of(registry))
    tree = trees.everything(tmp_path / "source").tree.root
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALREG_DATABASE", old.database)
        command(old.data, f"run v1-tree:{tree}", code=None)
    made = back_up(tmp_path / "backup", old.data, database=old.database)
    back = restored(tmp_path / "backup", new.data, database=new.database)
    assert (made["missing"], back["missing"], back["added"]) == ([], [], made["blobs"])
    expected = rows(old)
    named = {row["digest"] for row in expected["repository_blobs"]}
    expected["blobs"] = [row for row in expected["blobs"] if row["digest"] in named]
    assert rows(new) == expected
    store = open_store(new.store_url)
    assert {each.digest for each in store.walk()} == named - {empty_layer().digest} | _empty(old)
    remade = rebuilt_rows(store, tmp_path)
    assert remade == {name: found if remade[name] else [] for name, found in expected.items()}
    assert _links(new) == _links(old)
    (journal,) = (new.data / "migrations").glob("*.jsonl")
    assert journal.read_bytes() == (old.data / "migrations" / journal.name).read_bytes()
    modes = [stat.S_IMODE((new.data / name).stat().st_mode) for name in ("access.json", journal)]
    assert modes == [0o600, 0o640]
    with closing(open_registry(new)) as registry:
        push_image(client_of(registry, new), "a/new/one", OTHER, "latest")
    run("fsck", "--read", "--data", new.data, database=new.database)


def _empty(settings: Settings) -> set[Digest]:
    """Return the digest of the empty layer if the store has it."""
    digest = empty_layer().digest
    return {digest} if open_store(settings.store_url).stat(digest) else set()


def _links(settings: Settings) -> dict[str, tuple[bytes, datetime | None]]:
    """Return all link files, with the times that rows have."""
    store = open_store(settings.store_url)
    found = {path: store.read_link(path) for path, _ in store.walk_links()}
    return {
        path: (file.content, file.at if re.search("/_manifests/.*/link$", path) else None)
        for path, file in found.items()
        if file
    }


@pytest.mark.slow
def test_blobs_are_shared_or_copied(tmp_path: Path) -> None:
    """Hard links on one file system unless --copy is given; what is secret is for its owner only."""
    data = make(tmp_path / "data", ONE).data
    digest = Digest.of(ONE.layers[0])
    for folder, options, shared in (("a", (), True), ("b", ("--copy",), False)):
        assert back_up(tmp_path / folder, data, *options)["added"] == len(ONE.blobs) + 1
        copy = blob(tmp_path / folder, digest)
        assert copy.samefile(blob(data, digest)) == shared
        assert (copy.read_bytes(), stat.S_IMODE(copy.stat().st_mode)) == (ONE.layers[0], 0o444)
        (catalog,) = (tmp_path / folder).glob("catalog-*")
        assert {
            stat.S_IMODE(path.stat().st_mode) for path in (catalog, tmp_path / folder / "backup.json")
        } == {0o600}
        restored(tmp_path / folder, tmp_path / f"new-{folder}", *options)
        assert blob(tmp_path / f"new-{folder}", digest).samefile(copy) == shared


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_blobs_that_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """They are copied: the backup is on another file system, or the file has too many links."""
    data = make(tmp_path / "data", ONE).data

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    assert back_up(tmp_path / "backup", data)["missing"] == []
    assert restored(tmp_path / "backup", tmp_path / "new")["missing"] == []
    assert content(tmp_path / "new") == content(data)


@pytest.mark.slow
def test_only_what_is_missing_is_copied(tmp_path: Path) -> None:
    """And what no repository has any longer is deleted from the backup, once it is complete."""
    settings = make(tmp_path / "data", ONE)
    folder = tmp_path / "backup"
    planned = back_up(folder, settings.data, "--dry-run")
    assert not folder.exists()
    assert back_up(folder, settings.data) == planned
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        push_image(client, "team/app", TWO, "two")
        assert client.delete(f"/v2/team/app/manifests/{ONE.digest}").status_code == 202
        gone = {ONE.digest, *ONE.blobs} - TWO.blobs.keys()
        for digest in gone - {ONE.digest}:
            assert client.delete(f"/v2/team/app/blobs/{digest}").status_code == 202
    planned = back_up(folder, settings.data, "--dry-run")
    result = back_up(folder, settings.data)
    assert result == planned
    assert (result["added"], result["deleted"]) == (
        len(TWO.blobs) + 1 - len(TWO.blobs.keys() & ONE.blobs.keys()),
        len(gone),
    )
    assert len([*folder.glob("catalog-*")]) == 1
    assert back_up(folder, settings.data)["added"] == 0
    restored(folder, tmp_path / "new")
    assert rows(Settings(data=tmp_path / "new"))["tags"] == rows(settings)["tags"]


@pytest.mark.slow
def test_an_empty_registry_replaces_no_backup(tmp_path: Path) -> None:
    """After the loss of a disk, the next backup would be of the new registry, and delete the old one."""
    settings, folder = make(tmp_path / "data", ONE), tmp_path / "backup"
    back_up(folder, settings.data)
    empty = make(tmp_path / "empty")
    for option in ("--dry-run", "--verify"):
        assert (
            "the registry has no blobs" in run("backup", folder, "--data", empty.data, option, code=2).stderr
        )
    restored(folder, tmp_path / "new")
    assert content(tmp_path / "new") == content(settings.data)
    back_up(tmp_path / "other", empty.data)
    back_up(tmp_path / "other", empty.data)


@pytest.mark.slow
def test_damage(tmp_path: Path) -> None:
    """What the backup has damaged is replaced by --verify; what the registry has is named, and left out."""
    settings = make(tmp_path / "data", ONE, TWO)
    folder, (base, own) = tmp_path / "backup", (Digest.of(ONE.layers[0]), Digest.of(ONE.layers[1]))
    other = Digest.of(TWO.layers[1])
    back_up(folder, settings.data, "--copy")
    flip(blob(folder, own))
    assert back_up(folder, settings.data, "--copy")["added"] == 0
    assert back_up(folder, settings.data, "--copy", "--verify")["added"] == 1
    assert blob(folder, own).read_bytes() == ONE.layers[1]
    for digest in (base, own, other):
        blob(folder, digest).unlink()
    flip(blob(settings.data, base))
    lose(blob(settings.data, own))
    blob(settings.data, other).chmod(0o644)
    blob(settings.data, other).write_bytes(b"short")
    result = back_up(folder, settings.data, "--verify", code=1)
    expected = {(str(base), "corrupt-blob"), (str(own), "lost-blob"), (str(other), "wrong-size")}
    assert {(each["digest"], each["kind"]) for each in result["missing"]} == expected
    back = restored(folder, tmp_path / "new", code=1)
    assert {(each["digest"], each["kind"]) for each in back["missing"]} == {
        (str(digest), "lost-blob") for digest in (base, own, other)
    }
    again = Settings(data=tmp_path / "new", audit="off")
    with closing(open_registry(again)) as registry:
        push_image(client_of(registry, again), "team/app", ONE, "one")
    assert blob(again.data, own).read_bytes() == ONE.layers[1]


def test_a_damaged_blob_is_not_restored(tmp_path: Path) -> None:
    """Nor one that is a hard link: all bytes are read."""
    data = make(tmp_path / "data", ONE).data
    back_up(tmp_path / "backup", data)
    flip(blob(tmp_path / "backup", Digest.of(ONE.layers[0])))
    (missing,) = restored(tmp_path / "backup", tmp_path / "new", code=1)["missing"]
    assert (missing["kind"], missing["digest"]) == ("corrupt-blob", str(Digest.of(ONE.layers[0])))
    assert not blob(tmp_path / "new", Digest.of(ONE.layers[0])).exists()


def _another_marker(folder: Path) -> None:
    marker = json.loads((folder / "backup.json").read_text())
    (folder / "backup.json").write_text(json.dumps(marker | {"format": 2}))


def _busy(folder: Path) -> None:
    fcntl.flock(os.open(folder / "backup.lock", os.O_RDONLY), fcntl.LOCK_EX)


#: What is done to a backup, and why it is not restored then.
REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (shutil.rmtree, "is not a backup"),
    "another folder": (lambda folder: (folder / "backup.lock").unlink(), "is not a backup"),
    "incomplete": (
        lambda folder: (folder / "backup.json").unlink(),
        "is not complete; run `dualreg backup` again",
    ),
    "a marker of nothing": (lambda folder: (folder / "backup.json").write_text("{}"), "is damaged"),
    "another format": (_another_marker, "a newer version of dualreg made the backup"),
    "a damaged catalog": (
        lambda folder: flip(next(folder.glob("catalog-*"))),
        "is damaged; run `dualreg backup` again",
    ),
    "in use": (_busy, "another command is using the backup"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_restored(tmp_path: Path, case: str) -> None:
    """A backup that is none, is not complete, or is damaged; no registry is made then."""
    data = make(tmp_path / "data", ONE).data
    back_up(tmp_path / "backup", data)
    change, reason = REFUSALS[case]
    change(tmp_path / "backup")
    assert reason in run("restore", tmp_path / "backup", "--data", tmp_path / "new", code=2).stderr
    made = {path.name for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert made <= {"audit.jsonl", *([FILE] if ON_POSTGRESQL else [])}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATABASES)
def test_nothing_is_overwritten(database: Callable[[str], str], tmp_path: Path, kind: str) -> None:
    """Neither another folder, nor a registry, nor a store without a catalog; nor is one in the other."""
    url = database(kind)
    settings = make(tmp_path / "data", ONE, database=url)
    before = content(settings.data)
    for folder in (settings.data, tmp_path):
        assert (
            "neither empty nor a backup"
            in run("backup", folder, "--data", settings.data, code=2, database=url).stderr
        )
    for within in ("backup", "docker/registry/v2/blobs/backup"):
        refused = run("backup", settings.data / within, "--data", settings.data, code=2, database=url).stderr
        assert "is in the store" in refused
    back_up(tmp_path / "backup", settings.data, database=url)
    refused = run("restore", tmp_path / "backup", "--data", tmp_path / "backup/new", code=2).stderr
    assert "is in the backup" in refused
    refused = run("restore", tmp_path / "backup", "--data", settings.data, code=2, database=url).stderr
    assert ("catalog.sqlite3 exists" if kind == "sqlite" else "the database is not empty") in refused
    make(tmp_path / "other", TWO)
    (tmp_path / "other/catalog.sqlite3").unlink()
    refused = run("restore", tmp_path / "backup", "--data", tmp_path / "other", code=2).stderr
    assert "the store is not empty" in refused
    shutil.rmtree(tmp_path / "other/docker")  # what is left would be newer than the catalog of the backup
    refused = run("restore", tmp_path / "backup", "--data", tmp_path / "other", code=2).stderr
    assert "move it away, with access.json and collections" in refused
    assert content(settings.data) == before


def signalled(number: int, by: signal.Signals, *arguments: object) -> int:
    """Run a command in a process of its own that gets a signal when it waits for the *number*-th file.

    Return what it exits with, as ``subprocess`` does.
    """
    child = os.fork()
    if not child:
        seen = itertools.count(1)

        def signalling(_: int) -> None:
            if next(seen) == number:
                os.kill(os.getpid(), by)

        os.fsync = signalling
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        try:
            main([*map(str, arguments)])
        except SystemExit as end:
            os._exit(int(end.code or 0))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(number: int, *arguments: object) -> bool:
    """Run a command that is killed at the *number*-th file; return whether it came that far."""
    code = signalled(number, signal.SIGKILL, *arguments)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_backup_and_a_restore_that_are_stopped(tmp_path: Path, by: signal.Signals) -> None:
    """They end soon, with 2, and go on when they are run again."""
    data, folder, new = make(tmp_path / "data", ONE, TWO).data, tmp_path / "backup", tmp_path / "new"
    assert signalled(4, by, "backup", folder, "--data", data) == 2
    assert not (folder / "backup.json").exists()
    assert back_up(folder, data)["missing"] == []
    assert signalled(14, by, "restore", folder, "--data", new) == 2
    with pytest.raises(CatalogUnreachable, match="the last restore was interrupted"):
        prepare(Settings(data=new))
    assert restored(folder, new)["missing"] == []
    assert content(new) == content(data)


@pytest.mark.slow
def test_an_interrupted_backup(tmp_path: Path) -> None:
    """It does not look complete; one that was complete before stays so; and the next run goes on."""
    first, second = make(tmp_path / "data", ONE), rows(make(tmp_path / "both", ONE, TWO))["tags"]
    folder, old = tmp_path / "backup", rows(first)["tags"]
    number, step = 1, short_or_long(7, 1)
    while killed(number, "backup", folder, "--data", first.data):
        refused = run("restore", folder, "--data", tmp_path / "new", code=2).stderr
        assert "is not complete" in refused or "is not a backup" in refused
        number += step
    assert number > 7
    both, number = Settings(data=tmp_path / "both"), 1
    kept = tmp_path / "kept"
    while True:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        if not killed(number, "backup", kept, "--data", both.data):
            break
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        assert restored(kept, tmp_path / "new")["missing"] == []
        assert [row["name"] for row in rows(Settings(data=tmp_path / "new"))["tags"]] in (
            _names(old),
            _names(second),
        )
        back_up(kept, both.data)
        shutil.rmtree(tmp_path / "new")
        restored(kept, tmp_path / "new")
        assert rows(Settings(data=tmp_path / "new"))["tags"] == second
        number += step
    assert number > 7


def _names(tags: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in tags]


@pytest.mark.slow
@pytest.mark.sqlite
def test_an_interrupted_restore(tmp_path: Path) -> None:
    """The registry is not served until the same restore has come to its end."""
    settings = make(tmp_path / "data", ONE, TWO)
    back_up(tmp_path / "backup", settings.data)
    new, number = tmp_path / "new", 1
    while True:
        shutil.rmtree(new, ignore_errors=True)
        if not killed(number, "restore", tmp_path / "backup", "--data", new):
            break
        exists = (new / "catalog.sqlite3").exists()
        if exists and (has_ended := _has_ended(new)):
            prepare(Settings(data=new))
        elif exists:
            with pytest.raises(CatalogUnreachable, match="the last restore was interrupted"):
                prepare(Settings(data=new))
        if not exists or not has_ended:
            restored(tmp_path / "backup", new)
        assert content(new) == content(settings.data)
        assert rows(Settings(data=new)) == rows(settings)
        number += short_or_long(9, 1)
    assert number > 30


def _has_ended(data: Path) -> bool:
    """Return whether a restore to a data directory has ended; the copy of accounts may follow."""
    with closing(Catalog(f"sqlite:///{data}/catalog.sqlite3")) as catalog:
        return not is_unfinished(catalog)


@pytest.mark.sqlite
def test_the_log_of_an_interrupted_restore(tmp_path: Path) -> None:
    """What SQLite had not yet moved to the catalog of another backup is not applied to this one."""
    settings = make(tmp_path / "data", ONE)
    back_up(tmp_path / "backup", settings.data)
    copy = tmp_path / "new/catalog.restored.sqlite3"
    copy.parent.mkdir()
    shutil.copy(next((tmp_path / "backup").glob("catalog-*.sqlite3")), copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("DELETE FROM tags")
        connection.commit()
        left = copy.with_name(f"{copy.name}-wal").read_bytes()
    copy.with_name(f"{copy.name}-wal").write_bytes(left)
    restored(tmp_path / "backup", tmp_path / "new")
    assert rows(Settings(data=tmp_path / "new")) == rows(settings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATABASES)
def test_backups_under_load(database: Callable[[str], str], tmp_path: Path, kind: str) -> None:
    """Each is whole, and of one instant, while clients push, move and delete and garbage is collected."""
    url = database(kind)
    data, folder, new = tmp_path / "data", tmp_path / "backup", tmp_path / "new"
    env = {"DUALREG_DATABASE": url, "DUALREG_GC_GRACE": "20s"}
    with dualreg_server(data, workers=2, database=url) as host, load(host) as history:
        for _ in range(short_or_long(2, 50)):
            with history.window() as allowed:
                collecting = start([DUALREG, "gc", "--data", data], tmp_path / "gc.log", env)
                assert back_up(folder, data, database=url)["missing"] == []
                assert collecting.wait(60) == 0
            shutil.rmtree(new, ignore_errors=True)
            assert restored(folder, new)["missing"] == []
            keys = [key for key in allowed if key[0] != "upload"]
            for key, value in found_in(new, keys).items():
                assert value in allowed[key], f"{key} is {value}, expected one of {allowed[key]}"
            run("fsck", "--data", new)
