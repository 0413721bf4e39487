"""A follower has what the copy says, and shows nothing that cannot be pulled."""

import json
import os
import random
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dualreg.assembly import accounts_of, follow_access, open_catalog, open_registry, prepare
from dualreg.catalog.access import NAMES as ACCESS
from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from dualreg.cli import main
from dualreg.errors import CatalogUnreachable
from dualreg.image.digest import Digest
from dualreg.image.media_types import SCHEMA1_SIGNED
from dualreg.image.names import RepositoryName
from dualreg.maintenance.follow.follower import Follower, TreeAbsent
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.followed import FollowedStore
from dualreg.storage.links import view_file
from tests import builders
from tests.apps import client_of
from tests.contracts.postgresql import DATABASES, database_of
from tests.cuts.client import InProcess
from tests.maintenance.pulls import pull_everything, pull_tag
from tests.maintenance.world import administer, fill, known_rows, put
from tests.protocol.clients.libtrust import signed
from tests.protocol.clients.v2 import DOCKER
from tests.protocol.clients.wire import Wire
from tests.protocol.exchange import push_blob, push_image, push_v1
from tests.protocol.test_schema1 import KEY, LAYER, payload
from tests.soak import short_or_long

Rows = dict[str, list[dict[str, Any]]]


@contextmanager
def follower(settings: Settings) -> Iterator[Follower]:
    """Open a follower that was prepared."""
    prepare(settings)
    catalog, store = open_catalog(settings), open_store(settings.store_url)
    assert isinstance(store, FollowedStore)
    yield Follower(catalog, store, settings.sparse_indexes, settings.follow_verify)
    catalog.close()


def copy(source: Path, target: Path) -> None:
    """Copy a registry by rsync."""
    subprocess.run(["rsync", "-a", "--delete", "--modify-window=-1", f"{source}/", f"{target}/"], check=True)


def rows_of(catalog: Catalog) -> Rows:
    """Return the rows that the tree says, but for blobs that nothing links."""
    found = known_rows(catalog)
    linked = {row["digest"] for row in found["repository_blobs"]}
    found["blobs"] = [row for row in found["blobs"] if row["digest"] in linked]
    return found


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a registry with content of every kind."""
    settings = Settings(data=tmp_path_factory.mktemp("primary") / "data", audit="off", sparse_indexes=True)
    prepare(settings)
    registry = open_registry(settings)
    fill(client_of(registry, settings))
    administer(accounts_of(registry))
    registry.close()
    return settings.data


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A follower of a copy that is not there yet."""
    follow = tmp_path / "copy"
    follow.mkdir()
    return Settings(data=tmp_path / "follower", follow=follow, audit="off", sparse_indexes=True)


def expected_rows(data: Path, follow: Path | None = None) -> Rows:
    """Return the rows of a registry, or of a follower, that the tree says."""
    catalog = open_catalog(Settings(data=data, follow=follow))
    found = rows_of(catalog)
    catalog.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("database", DATABASES)
def test_a_follower_has_every_row(primary: Path, settings: Settings, database: str) -> None:
    """Of all that was pushed over both APIs, converted, moved and deleted; and accounts."""
    with database_of(database) as url:
        _has_every_row(primary, settings.model_copy(update={"auth": "accounts", "database": url}))


def _has_every_row(primary: Path, settings: Settings) -> None:
    catalog = open_catalog(settings)
    upgrade(catalog)
    catalog.close()
    copy(primary, settings.follow)
    with follower(settings) as following:
        assert following.look().waiting == []
        found = rows_of(following.catalog)
    for name, rows in expected_rows(primary).items():
        assert found[name] == rows, name


def require_same(expected: Rows, found: Rows) -> None:
    """Require that all rows are found; what reads over V1 have added may be there, too."""
    for name, rows in expected.items():
        if name in ("tags", "repositories"):
            assert found[name] == rows
        elif name not in ACCESS:
            assert [row for row in rows if row not in found[name]] == [], name


def _files(folder: Path) -> list[Path]:
    """Return the files of a store below its folder."""
    return sorted(each.relative_to(folder) for each in (folder / "docker").rglob("*") if each.is_file())


def _may_lack(name: str, digest: str) -> bool:
    """Return whether an index may lack what it names: one is sparse, others until their entries arrive."""
    del digest
    return name in ("team/app", "team/zstd")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(short_or_long(2, 200)))
def test_whatever_has_arrived(primary: Path, settings: Settings, seed: int) -> None:
    """In any order of files, each tag that is shown can be pulled; in the end, all are; so when they go."""
    order, chance = _files(primary), random.Random(seed)  # noqa: S311 -- an order is no secret
    chance.shuffle(order)
    with follower(settings) as following:
        registry = open_registry(settings)
        wire = InProcess(client_of(registry, settings))
        shown = []
        for step in (order[number::5] for number in range(5)):
            for each in step:
                (settings.follow / each).parent.mkdir(parents=True, exist_ok=True)
                (settings.follow / each).with_name(f".{each.name}.aB3xYz").write_bytes(b"half")
                shutil.copy2(primary / each, settings.follow / each)
            following.look()
            shown.append(len(pull_everything(wire, _may_lack)))
        assert shown == sorted(shown)
        require_same(expected_rows(primary), rows_of(following.catalog))
        chance.shuffle(order)
        for step in (order[number::3] for number in range(3)):
            for each in step:
                (settings.follow / each).unlink()
            following.look()
            pull_everything(wire, _may_lack)
        assert rows_of(following.catalog)["repositories"] == []
        registry.close()


NAME = RepositoryName("team/app")
ONE, TWO = (builders.image(builders.layer({"a": each})) for each in (b"1", b"2"))
#: Stands for a file that leads to itself.
UNREADABLE = b"unreadable"


def blob_file(folder: Path, digest: Digest) -> Path:
    """Return where a store has a blob."""
    return FilesystemStore(folder).path(digest)


@contextmanager
def moved(settings: Settings, data: Path) -> Iterator[tuple[Follower, Wire]]:
    """Follow a registry whose tag ``latest`` is ONE; by the time of the block, it is TWO there."""
    assert settings.follow
    primary = Settings(data=data, audit="off")
    prepare(primary)
    registry = open_registry(primary)
    push_image(client_of(registry, primary), NAME, ONE, "latest")
    copy(data, settings.follow)
    with follower(settings) as following:
        following.look()
        own = open_registry(settings)
        push_image(client_of(registry, primary), NAME, TWO, "latest")
        yield following, InProcess(client_of(own, settings))
        own.close()
    registry.close()


@pytest.mark.slow
def test_a_tag_stays_until_its_new_target_is_there(settings: Settings, tmp_path: Path) -> None:
    """Whatever part of it has not arrived, or has another size; then it moves. The reason is reported."""
    with moved(settings, tmp_path / "data") as (following, wire):
        for missing in (TWO.digest, Digest.of(TWO.config), Digest.of(TWO.layers[0])):
            copy(tmp_path / "data", settings.follow)
            file = blob_file(settings.follow, missing)
            whole = file.read_bytes()
            for content in (None, whole[:-1], UNREADABLE):
                file.unlink(missing_ok=True)
                if content is UNREADABLE:
                    file.symlink_to(file.name)
                elif content is not None:
                    file.write_bytes(content)
                (waiting,) = following.look().waiting
                assert waiting.where == f"{NAME}:latest"
                assert str(missing) in waiting.reason or missing == TWO.digest
                assert pull_tag(wire, NAME, "latest") == str(ONE.digest)
        copy(tmp_path / "data", settings.follow)
        assert following.look().waiting == []
        assert pull_tag(wire, NAME, "latest") == str(TWO.digest)


@pytest.mark.slow
def test_a_tag_waits_for_what_its_manifest_is_seen_as(settings: Settings, tmp_path: Path) -> None:
    """The folder of the manifest says that, and may be older in a copy than the tag and all bytes."""
    assert settings.follow
    primary = Settings(data=tmp_path / "data", audit="off")
    prepare(primary)
    registry, repositories = open_registry(primary), settings.follow / "docker/registry/v2/repositories"
    theirs, chain = client_of(registry, primary), builders.v1_chain(*ONE.layers)
    push_v1(theirs, "team/one", chain, "1")
    with follower(settings) as following:
        own = open_registry(settings)
        client = client_of(own, settings)
        push_v1(theirs, "team/two", chain, "1")
        copy(primary.data, settings.follow)
        shutil.rmtree(repositories / "team/two/_manifests/revisions")
        (waiting,) = following.look().waiting
        assert waiting.where == "team/two:1"
        assert client.get("/v2/team/two/manifests/1").status_code == 404
        copy(primary.data, settings.follow)
        assert following.look().waiting == []
        assert client.get("/v1/repositories/team/two/tags").json == {"1": chain[-1].id}
        own.close()
    registry.close()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["team", "team/app", "team/app/_manifests/tags", "team/app/_layers/x"])
def test_a_folder_that_cannot_be_read(settings: Settings, tmp_path: Path, what: str) -> None:
    """What is in it stays as it was, and everything else follows."""
    primary = Settings(data=tmp_path / "data", audit="off")
    with moved(settings, tmp_path / "data") as (following, wire):
        registry = open_registry(primary)
        push_image(client_of(registry, primary), RepositoryName("other"), TWO, "latest")
        registry.close()
        copy(tmp_path / "data", settings.follow)
        folder = settings.follow / "docker/registry/v2/repositories" / what
        if folder.exists():
            folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(folder.name)
        for _ in range(2):
            waiting = following.look().waiting
            assert any("cannot be read" in each.reason for each in waiting)
            assert pull_tag(wire, NAME, "latest") == str(ONE.digest)
            assert pull_tag(wire, "other", "latest") == str(TWO.digest)
        folder.unlink()
        copy(tmp_path / "data", settings.follow)
        assert following.look().waiting == []
        assert pull_tag(wire, NAME, "latest") == str(TWO.digest)


def test_a_view_that_is_damaged(settings: Settings, tmp_path: Path) -> None:
    """As by a power cut, which leaves zeros, ends no look: the view is derived again."""
    with moved(settings, tmp_path / "data") as (following, wire):
        copy(tmp_path / "data", settings.follow)
        damaged = f"docker/registry/v2/repositories/{view_file(NAME, TWO.digest, 'schema2')}"
        (settings.follow / damaged).parent.mkdir()
        (settings.follow / damaged).write_bytes(bytes(71))
        assert following.look().waiting == []
        assert pull_tag(wire, NAME, "latest") == str(TWO.digest)


@pytest.mark.slow
def test_a_tag_goes_with_its_bytes(settings: Settings, tmp_path: Path) -> None:
    """If both its old and its new target are incomplete, it is unknown; it comes back with them."""
    with moved(settings, tmp_path / "data") as (following, wire):
        copy(tmp_path / "data", settings.follow)
        for digest in (ONE.digest, TWO.digest):
            blob_file(settings.follow, digest).unlink()
        following.look()
        assert pull_everything(wire) == {}
        copy(tmp_path / "data", settings.follow)
        following.look()
        assert pull_everything(wire) == {(NAME, "latest"): str(TWO.digest)}


@pytest.mark.slow
@pytest.mark.parametrize("verify", [True, False])
def test_damage_of_the_same_size(settings: Settings, tmp_path: Path, *, verify: bool) -> None:
    """Is noticed at once with ``follow_verify``, else when blobs are read; and mended by the next copy."""
    settings = settings.model_copy(update={"follow_verify": verify})
    with moved(settings, tmp_path / "data") as (following, wire):
        copy(tmp_path / "data", settings.follow)
        file = blob_file(settings.follow, Digest.of(TWO.layers[0]))
        whole = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(bytes(len(whole)))
        assert bool(following.look().waiting) is verify
        if not verify:
            registry = open_registry(settings)
            assert not registry.integrity.verify(Digest.of(TWO.layers[0]))
            registry.close()
            assert following.look().waiting
        assert file.read_bytes() == bytes(len(whole))
        expected = {(NAME, "latest"): str(ONE.digest)} if verify else {}
        assert pull_everything(wire) == expected
        file.unlink()
        copy(tmp_path / "data", settings.follow)
        assert following.look().waiting == []
        assert pull_everything(wire) == {(NAME, "latest"): str(TWO.digest)}
        with following.catalog.read() as tx:
            assert tx.blobs.count_damaged() == 0


def test_a_copy_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    """As when a disk is not mounted, or a folder cannot be read: what was recorded stays."""
    with moved(settings, tmp_path / "data") as (following, _):
        before = rows_of(following.catalog)
        settings.follow.rename(tmp_path / "elsewhere")
        settings.follow.mkdir()
        with pytest.raises(TreeAbsent):
            following.look()
        assert rows_of(following.catalog) == before


@pytest.mark.parametrize("what", [TWO.manifest, TWO.config, TWO.layers[0]])
def test_what_is_no_file_is_no_blob(settings: Settings, tmp_path: Path, what: bytes) -> None:
    """Neither a symbolic link, which may lead to any file of this machine, nor a pipe."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(len(what)))
    with moved(settings, tmp_path / "data") as (following, wire):
        copy(tmp_path / "data", settings.follow)
        file = blob_file(settings.follow, Digest.of(what))
        file.unlink()
        for make in (lambda: file.symlink_to(secret), lambda: os.mkfifo(file)):
            make()
            assert following.look().waiting
            assert pull_tag(wire, NAME, "latest") == str(ONE.digest)
            assert wire.send("GET", f"/v2/{NAME}/blobs/{Digest.of(what)}").status == 404
            file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("replaced", [True, False])
def test_damage_that_is_mended(settings: Settings, tmp_path: Path, *, replaced: bool) -> None:
    """By a file of the same size and time, as by ``rsync --checksum`` after damage by a disk; or in place."""
    settings = settings.model_copy(update={"follow_verify": True})
    with moved(settings, tmp_path / "data") as (following, wire):
        copy(tmp_path / "data", settings.follow)
        file = blob_file(settings.follow, Digest.of(TWO.layers[0]))
        whole, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
        file.chmod(0o644)
        file.write_bytes(bytes(len(whole)))
        os.utime(file, ns=times)
        assert following.look().waiting
        if replaced:
            fresh = file.with_name(".data.aB3xYz")
            fresh.write_bytes(whole)
            fresh.rename(file)
        else:
            file.write_bytes(whole)
        os.utime(file, ns=times)
        assert following.look().waiting == []
        assert pull_tag(wire, NAME, "latest") == str(TWO.digest)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["marks", "list_links", "stat"])
def test_a_copy_that_is_taken_away(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Or exchanged for another one, while it is looked at: what was recorded stays."""
    follow = settings.follow
    assert follow
    with moved(settings, tmp_path / "data") as (following, wire):
        copy(tmp_path / "data", follow)
        before, original = rows_of(following.catalog), getattr(following.store, method)
        elsewhere = tmp_path / "elsewhere"

        def taken(*args: object) -> object:
            if not elsewhere.exists():
                follow.rename(elsewhere)
            return original(*args)

        monkeypatch.setattr(following.store, method, taken)
        with pytest.raises(TreeAbsent):
            following.look()
        monkeypatch.undo()
        assert rows_of(following.catalog) == before
        elsewhere.rename(follow)
        assert following.look().waiting == []
        assert pull_tag(wire, NAME, "latest") == str(TWO.digest)


@pytest.mark.slow
def test_catalogs_are_not_confused(settings: Settings, primary: Path) -> None:
    """A follower does not take the catalog of a registry for its own, nor the reverse."""
    copy(primary, settings.follow)
    with pytest.raises(CatalogUnreachable, match="is a registry"):
        prepare(settings.model_copy(update={"data": primary}))
    prepare(settings)
    with pytest.raises(CatalogUnreachable, match="catalog of a follower"):
        prepare(Settings(data=settings.data, audit="off"))


def test_access_follows(settings: Settings, tmp_path: Path) -> None:
    """Accounts and rules are those of the registry, also after they have changed; none are made here."""
    settings = settings.model_copy(update={"auth": "accounts"})
    primary = Settings(data=tmp_path / "data", audit="off")
    prepare(primary)
    registry = open_registry(primary)
    accounts = accounts_of(registry)
    accounts.add("alice", "the password")
    accounts.grant("alice", "team/*", "pull")
    push_image(client_of(registry, primary), NAME, ONE, "latest")
    copy(primary.data, settings.follow)
    login = {"Authorization": "Basic " + b64encode(b"alice:the password").decode()}
    with follower(settings) as following:
        following.look()
        own = open_registry(settings)
        client = client_of(own, settings)
        token = client.get("/token?scope=repository:team/app:pull&offline_token=true", headers=login).json
        assert "refresh_token" not in token
        bearer = {"Authorization": f"Bearer {token['token']}"}
        assert client.get("/v2/team/app/manifests/latest", headers=bearer).status_code == 200
        assert client.get("/v2/team/app/manifests/latest").status_code == 401
        accounts.remove("alice")
        copy(primary.data, settings.follow)
        assert follow_access(following.catalog, following.store)
        assert not follow_access(following.catalog, following.store)
        assert client.get("/token?scope=repository:team/app:pull", headers=login).status_code == 401
        own.close()
    registry.close()


def test_access_of_another_registry(settings: Settings, tmp_path: Path) -> None:
    """Is taken over although both have changed as often."""
    settings = settings.model_copy(update={"auth": "accounts"})
    assert settings.follow
    for account in ("alice", "bob"):
        primary = Settings(data=tmp_path / account, audit="off")
        prepare(primary)
        registry = open_registry(primary)
        accounts_of(registry).add(account, "the password")
        registry.close()
        copy(primary.data, settings.follow)
        with follower(settings) as following, following.catalog.read() as tx:
            assert [row["name"] for row in tx.access.dump()["accounts"]] == [account]


@pytest.mark.slow
def test_schema_1_is_signed_again(settings: Settings, tmp_path: Path) -> None:
    """The signatures that were pushed last replace earlier ones."""
    assert settings.follow
    primary = Settings(data=tmp_path / "data", audit="off")
    prepare(primary)
    registry = open_registry(primary)
    theirs = client_of(registry, primary)
    push_blob(theirs, "old/app", LAYER)
    with follower(settings) as following:
        own = open_registry(settings)
        client = client_of(own, settings)
        for _ in range(2):
            document = signed(payload(), KEY)
            put(theirs, "old/app", "one", document, None)
            copy(primary.data, settings.follow)
            assert following.look().waiting == []
            answer = client.get("/v2/old/app/manifests/one", headers={"Accept": SCHEMA1_SIGNED})
            assert (answer.status_code, answer.data) == (200, document)
        own.close()
        expected = expected_rows(primary.data)["manifest_children"]
        assert rows_of(following.catalog)["manifest_children"] == expected
    registry.close()


@pytest.mark.slow
def test_editions_are_made_beside_the_copy(settings: Settings, tmp_path: Path) -> None:
    """Also schema 1. They stay as long as their image is in the copy, and go with it."""
    assert settings.follow
    primary, name = Settings(data=tmp_path / "data", audit="off"), "team/zstd"
    image = builders.zstd_image(builders.layer({"a": b"1"}))
    old = {"Accept": ", ".join(DOCKER), "User-Agent": "docker/20.10.24"}
    older = {"User-Agent": "docker/1.9.1"}
    prepare(primary)
    registry = open_registry(primary)
    theirs = client_of(registry, primary)
    with follower(settings) as following:
        own = open_registry(settings)
        client = client_of(own, settings)

        def follow() -> None:
            copy(primary.data, settings.follow)
            assert following.look().waiting == []

        push_image(theirs, name, image, "one")
        follow()
        made = client.get(f"/v2/{name}/manifests/one", headers=old)
        assert made.json["config"]["digest"] == str(Digest.of(image.config))  # type: ignore[index]
        assert made.headers["Docker-Content-Digest"] != str(image.digest)
        schema1 = client.get(f"/v2/{name}/manifests/one", headers=older)
        assert schema1.content_type == SCHEMA1_SIGNED
        answers = {
            f"/v2/{name}/manifests/{each.headers['Docker-Content-Digest']}": each.data
            for each in (made, schema1)
        }
        for tag in ("two", "one"):
            push_image(theirs, name, builders.image(builders.layer({"a": b"1"})), tag)
            follow()
            assert {path: client.get(path).data for path in answers} == answers
        assert theirs.delete(f"/v2/{name}/manifests/{image.digest}").status_code == 202
        follow()
        assert [client.get(path).status_code for path in answers] == [404, 404]
        own.close()
    registry.close()


@pytest.mark.slow
def test_the_commands(settings: Settings, tmp_path: Path) -> None:
    """``update`` looks once, ``status`` says what waits; commands that change something refuse."""
    options = ["--follow", str(settings.follow), "--data", str(settings.data)]
    with moved(settings, tmp_path / "data"):
        copy(tmp_path / "data", settings.follow)
        file = blob_file(settings.follow, Digest.of(TWO.config))
        file.unlink()
        for _ in range(2):
            assert CliRunner().invoke(main, ["follow", "update", *options]).exit_code == 1
        told = CliRunner().invoke(main, ["follow", "status", "--json", *options])
        found = json.loads(told.stdout)
        (waiting,) = found["waiting"]
        assert (told.exit_code, waiting["where"], found["late"]) == (1, "team/app:latest", False)
        assert f"config {Digest.of(TWO.config)} is missing" in waiting["reason"]
        copy(tmp_path / "data", settings.follow)
        assert CliRunner().invoke(main, ["follow", "update", *options]).exit_code == 0
        told = CliRunner().invoke(main, ["follow", "status", *options])
        assert told.exit_code == 0
        assert "1 tag" in told.stdout
    env = {"DUALREG_FOLLOW": str(settings.follow), "DUALREG_DATA": str(settings.data), "DUALREG_AUDIT": "off"}
    for line in ("gc", "account add x --robot", "readonly on --reason x", "db rebuild --replace", "serve"):
        refused = CliRunner().invoke(main, line.split(), env=env)
        assert refused.exit_code, line
        assert "follow" in refused.stderr, line
    for line in ("fsck --read", "account list", "group list", "access list", "key list", "token list"):
        assert CliRunner().invoke(main, line.split(), env=env).exit_code == 0, line
    (settings.data / "follow.json").write_text("")  # as after a power cut
    told = CliRunner().invoke(main, ["follow", "status"], env=env)
    assert (told.exit_code, told.stdout) == (1, "")
    assert "was not looked at yet" in told.stderr
