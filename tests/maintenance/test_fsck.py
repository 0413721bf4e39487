"""Every kind of damage to every kind of file or row is found, named with what it hurts, and repaired."""

import errno
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import event, select, text
from werkzeug.serving import make_server

from dualreg.assembly import open_catalog, open_registry, prepare
from dualreg.catalog.checks import Stale
from dualreg.catalog.database import Catalog
from dualreg.catalog.linking import LinkingQueries
from dualreg.catalog.rows import BlobRow
from dualreg.catalog.tables import Manifests
from dualreg.cli import main
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.fsck.check import Budget, Check
from dualreg.maintenance.fsck.findings import Finding
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage import open_store
from dualreg.storage.filesystem import FilesystemStore
from tests import builders
from tests.apps import application, client_of
from tests.contracts.postgresql import migrated_postgresql
from tests.databases import ignore_keys
from tests.maintenance.test_rebuild import lose as lose_catalog
from tests.maintenance.test_rebuild import rebuild
from tests.maintenance.world import CHAIN, ONE, TWO, fill, known_rows
from tests.protocol.exchange import push_image, push_v1
from tests.protocol.test_schema1 import payload
from tests.registry.test_damage import cut, empty, flip, lengthen, lose
from tests.state import blob_file

TREE = Path("docker/registry/v2")
INDEX = builders.index(ONE, TWO)
DAMAGES = {"lose": lose, "empty": empty, "cut": cut, "lengthen": lengthen, "flip": flip}
KINDS = {"lose": "lost-blob", "flip": "corrupt-blob"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a registry with images of every generation."""
    settings = _settings(tmp_path_factory.mktemp("filled") / "data")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        fill(client_of(registry, settings))
    return settings.data


@pytest.fixture
def settings(filled: Path, tmp_path: Path) -> Settings:
    """A copy of it."""
    shutil.copytree(filled, tmp_path / "data")
    return _settings(tmp_path / "data")


def _settings(data: Path) -> Settings:
    return Settings(data=data, audit="off", sparse_indexes=True)


def fsck(settings: Settings, *options: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["fsck", "--data", str(settings.data), *options])


def found(settings: Settings, *options: str) -> list[dict[str, object]]:
    """Return the findings of the command, which exits as they require."""
    result = fsck(settings, "--json", *options)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    findings = [line for line in lines if "kind" in line]
    damaged = any(not each["repaired"] for each in findings)
    assert result.exit_code == int(damaged), result.output
    assert lines[-1] == {
        "findings": len(findings),
        "repaired": sum(bool(each["repaired"]) for each in findings),
        "unread": lines[-1]["unread"],
    }
    return findings


@contextmanager
def serving(registry: Registry) -> Iterator[str]:
    """Serve the registry for the block; yield its URL."""
    server = make_server("127.0.0.1", 0, application(registry), threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_whole_registry_is_clean(settings: Settings) -> None:
    """Whatever is in it."""
    assert found(settings) == found(settings, "--read") == []


#: A file of each sort, the tags that need it, and the generations of clients.
FILES = {
    "V2 layer": (Digest.of(ONE.layers[1]), "team/app-extra:one", ["V1", "schema 1", "schema 2/OCI"]),
    "V2 config": (Digest.of(ONE.config), "team/app-extra:one", ["schema 1", "schema 2/OCI"]),
    "V2 manifest": (ONE.digest, "team/app:index", ["schema 1", "schema 2/OCI"]),
    "index": (Digest.of(INDEX), "team/app:index", ["schema 2/OCI"]),
    "V1 JSON": (Digest.of(CHAIN[0].json), "library/old:latest", ["V1", "schema 1", "schema 2/OCI"]),
    "V1 layer": (Digest.of(CHAIN[2].layer), "library/old:latest", ["V1", "schema 1", "schema 2/OCI"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_damage_is_named(settings: Settings, file: str, damage: str) -> None:
    """With the kind, the tags that it hurts, and the clients; nothing else is found."""
    digest, tag, clients = FILES[file]
    DAMAGES[damage](blob_file(settings.data, digest))
    (finding,) = found(settings, "--read")
    assert (finding["kind"], finding["where"]) == (KINDS.get(damage, "wrong-size"), str(digest))
    assert tag in finding["tags"]  # type: ignore[operator]  # a list
    assert finding["clients"] == clients
    assert blob_file(settings.data, digest).exists() == (damage != "lose")


@pytest.mark.slow
def test_all_damage_at_once_is_found(settings: Settings) -> None:
    """N of N, whatever is damaged: every blob of the store in turn in another way."""
    store = open_store(settings.store_url)
    blobs = [each for each in sorted(store.walk(), key=lambda each: str(each.digest)) if each.size > 64]
    with closing(open_catalog(settings)) as catalog, catalog.read() as tx:
        listed = {each.digest for each in tx.checks.blobs(None)}
    expected = {}
    for number, each in enumerate(each for each in blobs if each.digest in listed):
        name = [*DAMAGES][number % len(DAMAGES)]
        DAMAGES[name](store.path(each.digest))  # type: ignore[attr-defined]  # in files
        expected[str(each.digest)] = KINDS.get(name, "wrong-size")
    seen = {each["where"]: each["kind"] for each in found(settings, "--read")}
    assert len(expected) > 20
    assert {where: kind for where, kind in seen.items() if where in expected} == expected


def _sql(*statements: tuple[str, object]) -> Callable[[Settings], None]:
    def change(settings: Settings) -> None:
        with closing(open_catalog(settings)) as catalog, catalog.engine.begin() as connection:
            ignore_keys(connection)
            for statement, value in statements:
                connection.execute(text(statement.replace("?", ":value")), {"value": str(value)})

    return change


def _link(path: str, content: str | None) -> Callable[[Settings], None]:
    def change(settings: Settings) -> None:
        file = settings.data / TREE / "repositories" / path
        if content is None:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    return change


def _facts(path: str, **facts: str) -> Callable[[Settings], None]:
    def change(settings: Settings) -> None:
        file = settings.data / TREE / "repositories" / path
        file.write_text(json.dumps(json.loads(file.read_text()) | facts))

    return change


LAYER_LINK = f"team/app/_layers/sha256/{Digest.of(ONE.config).hex}/link"
REVISION = f"team/app/_manifests/revisions/sha256/{ONE.digest.hex}/link"
TAG_LINK = "team/app/_manifests/tags/one/current/link"
V1_FILE = f"library/old/_v1/{CHAIN[0].id}"
OTHER = Digest.of(b"other")
#: Of a manifest whose document does not say its media type, and of one whose does.
UNTYPED = Digest.of(b'{"any": "thing"}')
TYPE = f"team/art/_manifests/revisions/sha256/{UNTYPED.hex}/type"
OTHER_TYPE = REVISION.replace("link", "type")
#: Of tags that a V1 and a V2 client pushed.
ORIGIN, OTHER_ORIGIN = "library/old/_manifests/tags/latest/origin", "team/app/_manifests/tags/one/origin"
VIEW = REVISION.replace("link", "views/v1")
SIGNED = f"old/app/_manifests/revisions/sha256/{Digest.of(payload()).hex}/signed"
#: Damage of links and rows: how it is made, its kind, what it names, and whether it can be repaired.
ROWS = {
    "lost blob link": (_link(LAYER_LINK, None), "missing-link", LAYER_LINK, True),
    "lost manifest link": (_link(REVISION, None), "missing-link", REVISION, True),
    "lost tag link": (_link(TAG_LINK, None), "missing-link", TAG_LINK, True),
    "lost V1 file": (_link(V1_FILE, None), "missing-link", V1_FILE, True),
    "wrong blob link": (_link(LAYER_LINK, str(OTHER)), "wrong-link", LAYER_LINK, True),
    "wrong tag link": (_link(TAG_LINK, str(TWO.digest)), "wrong-link", TAG_LINK, True),
    "empty tag link": (_link(TAG_LINK, ""), "wrong-link", TAG_LINK, True),
    "wrong V1 file": (_link(V1_FILE, "{}"), "wrong-link", V1_FILE, True),
    "lost type": (_link(TYPE, None), "missing-link", TYPE, True),
    "wrong type": (_link(TYPE, "application/json"), "wrong-link", TYPE, True),
    "needless type": (_link(OTHER_TYPE, "application/json"), "wrong-link", OTHER_TYPE, True),
    "lost origin": (_link(ORIGIN, None), "missing-link", ORIGIN, True),
    "wrong origin": (
        _facts(ORIGIN, origin="v2"),
        "wrong-link",
        ORIGIN,
        True,
    ),
    "damaged origin": (_link(ORIGIN, "{"), "wrong-link", ORIGIN, True),
    "needless origin": (
        _link(OTHER_ORIGIN, json.dumps({"manifest": str(ONE.digest), "origin": "v1", "agent": None})),
        "wrong-link",
        OTHER_ORIGIN,
        True,
    ),
    "lost view file": (_link(VIEW, None), "missing-link", VIEW, True),
    "wrong view file": (_link(VIEW, "0" * 64), "wrong-link", VIEW, True),
    "stray view file": (_link(f"{VIEW}x", "0" * 64), "stray-link", f"{VIEW}x", True),
    "lost signed link": (_link(SIGNED, None), "missing-link", SIGNED, True),
    "wrong signed link": (_link(SIGNED, str(OTHER)), "wrong-link", SIGNED, True),
    "stray blob link": (
        _link(f"team/app/_layers/sha256/{OTHER.hex}/link", str(OTHER)),
        "stray-link",
        f"team/app/_layers/sha256/{OTHER.hex}/link",
        True,
    ),
    "stray repository": (
        _link("nowhere/_manifests/tags/x/current/link", str(OTHER)),
        "stray-link",
        "nowhere/_manifests/tags/x/current/link",
        True,
    ),
    "wrong media type": (
        _sql(("UPDATE manifests SET media_type = 'application/json' WHERE digest = ?", TWO.digest)),
        "wrong-media-type",
        f"team/app@{TWO.digest}",
        True,
    ),
    "unlisted child": (
        _sql(("DELETE FROM manifest_children WHERE child = ?", Digest.of(ONE.layers[0]))),
        "unlisted-child",
        f"team/app@{ONE.digest}",
        True,
    ),
    "missing child": (
        _sql(
            ("DELETE FROM manifest_children WHERE child = ?", Digest.of(TWO.layers[1])),
            ("DELETE FROM v1_images WHERE layer = ?", Digest.of(TWO.layers[1])),
            ("DELETE FROM repository_blobs WHERE digest = ?", Digest.of(TWO.layers[1])),
        ),
        "missing-child",
        f"team/app@{TWO.digest}",
        True,
    ),
    "lost view": (
        _sql(("UPDATE manifest_views SET view = 'gone' WHERE manifest = ? AND kind = 'v1'", TWO.digest)),
        "lost-view",
        f"team/app@{TWO.digest}",
        True,
    ),
    "lost parent": (
        _sql(("DELETE FROM v1_images WHERE image_id = ?", CHAIN[0].id)),
        "missing-parent",
        f"library/old image {CHAIN[1].id}",
        False,
    ),
    "wrong quota": (
        _sql(
            ("INSERT INTO quotas (pattern, size) VALUES (?, 1)", "nothing/*"),
            ("INSERT INTO quota_usage (pattern, bytes) VALUES (?, 7)", "nothing/*"),
        ),
        "wrong-quota",
        "nothing/*",
        True,
    ),
    "wrong size": (
        _sql(("UPDATE blobs SET size = size + 1 WHERE digest = ?", Digest.of(ONE.config))),
        "wrong-size",
        str(Digest.of(ONE.config)),
        True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ROWS)
def test_rows_and_links_are_compared(settings: Settings, case: str) -> None:
    """What differs is named; a repair makes it as it was, and nothing is found any more."""
    damage, kind, where, repairable = ROWS[case]
    damage(settings)
    assert (kind, where) in {(each["kind"], each["where"]) for each in found(settings)}
    repaired = {(each["kind"], each["where"]): each["repaired"] for each in found(settings, "--repair")}
    assert repaired[kind, where] is repairable
    if repairable:
        assert (kind, where) not in {(each["kind"], each["where"]) for each in found(settings)}
    if all(repaired.values()):
        assert found(settings, "--read") == []


def test_a_condemned_blob_stays_condemned(settings: Settings) -> None:
    """A repair of its size does not keep it from the garbage collection."""
    unused = Digest.of(b"unused")
    blob_file(settings.data, unused).parent.mkdir(parents=True)
    blob_file(settings.data, unused).write_bytes(b"unused")
    with closing(open_catalog(settings)) as catalog:
        with catalog.begin() as tx:
            tx.garbage.adopt([BlobRow(unused, 1)])
        assert [each["repaired"] for each in found(settings, "--repair")] == [True]
        with catalog.read() as tx:
            condemned = tx.garbage.condemned(tx.now, None, 10, kept_since=tx.now)
    assert [(each.digest, each.size) for each in condemned] == [(unused, len(b"unused"))]


@pytest.mark.slow
def test_all_link_files_are_written_again(settings: Settings) -> None:
    """With the times of their rows, so that a catalog that is made of them equals this one."""
    _sql(("UPDATE repository_blobs SET linked_at = ?", "2026-01-02 03:04:05.000000"))(settings)
    with closing(open_catalog(settings)) as catalog:
        before, linked_at = known_rows(catalog), _linked_at(catalog)
    shutil.rmtree(settings.data / TREE / "repositories")
    assert {each["kind"] for each in found(settings, "--repair")} == {"missing-link"}
    lose_catalog(settings)
    assert rebuild(settings)["findings"] == []
    with closing(open_catalog(settings)) as catalog:
        after = known_rows(catalog)
        assert _linked_at(catalog) == linked_at
    for name, rows in before.items():
        assert after[name] == rows, name


def _linked_at(catalog: Catalog) -> list[tuple[str, Digest, datetime]]:
    """Return since when each repository may read each of its blobs."""
    with catalog.read() as tx:
        repositories = [
            tx.repositories.find(name) for name, _ in tx.repositories.walk(last=RepositoryName(""), limit=100)
        ]
        return [(row.name, *blob) for row in repositories if row for blob in tx.linking.blobs(row.id, None)]


def test_rows_are_not_read_for_each_damaged_link_file(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often the rows of a repository are read does not depend on how many files are damaged."""
    folders = (settings.data / TREE / "repositories").rglob("_layers/sha256")
    links = max(([*folder.glob("*/link")] for folder in folders), key=len)
    assert len(links) > 3
    pages, read, times = LinkingQueries.blobs, list[object](), list[int]()

    def counted(*given: Any) -> Any:
        read.append(given)
        return pages(*given)

    monkeypatch.setattr(LinkingQueries, "blobs", counted)
    for damaged in (links[:1], links):
        for link in damaged:
            link.write_bytes(b"")
        read.clear()
        assert len(found(settings)) == len(damaged)
        times.append(len(read))
    assert times[0] == times[1]


def test_manifests_are_parsed_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each repository, whatever is compared with them: children, media types and link files."""
    with closing(open_catalog(settings)) as catalog, catalog.engine.connect() as connection:
        holders = Counter(connection.scalars(select(Manifests.digest)))
    parsed, decode = Counter[Digest](), json.JSONDecoder.decode

    def counted(decoder: json.JSONDecoder, text: str) -> Any:
        parsed.update(Digest.of(text.encode(), algorithm) for algorithm in ("sha256", "sha512"))
        return decode(decoder, text)

    monkeypatch.setattr(json.JSONDecoder, "decode", counted)
    result = fsck(settings)
    monkeypatch.undo()
    assert result.exit_code == 0
    assert {digest: parsed[digest] for digest in holders} == holders


@pytest.mark.slow
def test_statements_are_built_once(settings: Settings) -> None:
    """However many repositories there are."""
    with closing(open_registry(settings)) as registry:
        client, state, counts = client_of(registry, settings), registry.state, list[int]()
        for number in range(3):
            push_image(client, f"more/v{number}", ONE, "1")
            push_v1(client, f"more/old{number}", CHAIN, "1")
            statements = list[object]()

            def note(_: object, statement: object, *__: object, seen: list[object] = statements) -> None:
                seen.append(statement)

            event.listen(state.catalog.engine, "before_execute", note)
            assert [*Check(state.catalog, state.store, registry.integrity).run()] == []
            event.remove(state.catalog.engine, "before_execute", note)
            counts.append(len({*map(id, statements)}))
    assert counts[0] == counts[1] == counts[2] < 50


def test_bytes_without_a_row_are_named_after_a_while(settings: Settings) -> None:
    """A file that was just written may be about to be listed."""
    for content, age in ((b"new", 0), (b"old", 7200)):
        path = blob_file(settings.data, Digest.of(content))
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    (finding,) = found(settings)
    assert (finding["kind"], finding["where"]) == ("orphan-blob", str(Digest.of(b"old")))


@pytest.mark.slow
def test_what_is_lost_is_fetched_from_another_registry(
    settings: Settings, filled: Path, tmp_path: Path
) -> None:
    """Blobs and manifests of both generations, by their digests; what is damaged is kept aside."""
    other = tmp_path / "other"
    shutil.copytree(filled, other)
    for number, (digest, _, _) in enumerate(FILES.values()):
        [*DAMAGES.values()][number % len(DAMAGES)](blob_file(settings.data, digest))
    alone = found(settings, "--read", "--repair")
    assert not any(each["repaired"] for each in alone)
    with closing(open_registry(_settings(other))) as registry, serving(registry) as url:
        fetched = found(settings, "--read", "--repair", "--from", f"v2+{url}")
    assert {each["where"] for each in fetched} == {str(digest) for digest, _, _ in FILES.values()}
    assert all(each["repaired"] for each in fetched)
    assert found(settings, "--read") == []
    assert len([*(settings.data / "corrupt").iterdir()]) == 4  # of six, two were lost


def test_what_was_derived_is_derived_again(settings: Settings) -> None:
    """And schema 1 is signed again: no other registry is needed."""
    with closing(open_registry(settings)) as registry:
        derived = set[Digest]()
        for name, tag in (("team/app", "one"), ("library/old", "latest"), ("old/app", "one")):
            row = registry.manifests.peek(RepositoryName(name), Tag(tag))
            assert row
            derived |= {each.digest for each in registry.derived.blobs(RepositoryName(name), row.digest)}
            if signed := registry.manifests.signed(row):
                derived.add(signed.digest)
    pushed = {Digest.of(image.json) for image in CHAIN}
    for digest in derived - pushed:
        lose(blob_file(settings.data, digest))
    repaired = found(settings, "--repair")  # some are derived along with others
    assert {each["kind"] for each in repaired} == {"lost-blob"}
    assert all(each["repaired"] for each in repaired)
    assert found(settings, "--read") == []


def test_a_signed_form_whose_manifest_is_damaged_too_is_left_and_named(settings: Settings) -> None:
    """It cannot be signed again; the check goes on."""
    with closing(open_registry(settings)) as registry:
        row = registry.manifests.peek(RepositoryName("old/app"), Tag("one"))
        signed = row and registry.manifests.signed(row)
    assert row
    assert signed
    lose(blob_file(settings.data, signed.digest))
    flip(blob_file(settings.data, row.digest))
    findings = {each["where"]: each for each in found(settings, "--read", "--repair")}
    assert not any(findings[str(each.digest)]["repaired"] for each in (signed, row))


@pytest.mark.slow
@pytest.mark.parametrize("source", [True, False])
def test_an_unreadable_file_is_set_aside_by_a_repair(
    settings: Settings, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, source: bool
) -> None:
    """So that the next push sends the blob, unless it was fetched."""
    layer = Digest.of(ONE.layers[1])
    path, other = blob_file(settings.data, layer), tmp_path / "other"
    shutil.copytree(filled, other)
    bad, opened = path.stat().st_ino, FilesystemStore.open

    def failing(
        store: FilesystemStore, digest: Digest, *, start: int = 0, length: int | None = None
    ) -> BinaryIO:
        reader = opened(store, digest, start=start, length=length)
        return _Unreadable(reader) if os.fstat(reader.fileno()).st_ino == bad else reader

    monkeypatch.setattr(FilesystemStore, "open", failing)
    (finding,) = found(settings, "--read")
    assert (finding["kind"], finding["where"], path.exists()) == ("unreadable-blob", str(layer), True)
    with closing(open_registry(_settings(other))) as registry, serving(registry) as url:
        (finding,) = found(settings, "--read", "--repair", *(["--from", f"v2+{url}"] if source else []))
    assert (finding["repaired"], path.exists()) == (source, source)
    assert [each.stat().st_ino for each in (settings.data / "corrupt").iterdir()] == [bad]
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        assert client.head(f"/v2/team/app/blobs/{layer}").status_code == (200 if source else 404)
        registry.uploads.ingest(RepositoryName("team/app"), [ONE.layers[1]])
    assert found(settings, "--read") == []


class _Unreadable(io.FileIO):
    """A file on a bad disk."""

    def __init__(self, reader: BinaryIO) -> None:
        super().__init__(reader.fileno(), closefd=False)
        self._reader = reader

    def read(self, size: int | None = -1) -> bytes:
        del size
        raise OSError(errno.EIO, "Input/output error")

    def close(self) -> None:
        self._reader.close()
        super().close()


@pytest.mark.slow
def test_a_check_goes_on_with_what_was_read_longest_ago(settings: Settings) -> None:
    """Each run reads some more, within its limit, until everything was read once."""
    with closing(open_catalog(settings)) as catalog, catalog.begin() as tx:
        total = tx.checks.total(Stale(catalog.now()))
        oldest = tx.checks.stalest(Stale(catalog.now()), None)[-1][1].digest
    flip(blob_file(settings.data, oldest))
    runs = 0
    while not any(each["where"] == str(oldest) for each in found(settings, "--read", "--limit-bytes", "4K")):
        runs += 1
        assert runs < total
    assert runs > 1
    (last,) = fsck(settings, "--read", "--limit-bytes", "1", "--json").stdout.splitlines()
    assert json.loads(last)["unread"] == total - 1  # nor is it read first again
    result = fsck(settings, "--read", "--limit-bytes", "1")
    assert f"The limit left {total - 1} blobs unread." in result.stderr
    assert result.exit_code == 0


def test_a_check_that_is_stopped_blames_no_limit(settings: Settings) -> None:
    """Only blobs that a limit left unread are counted."""
    with closing(open_registry(settings)) as registry:
        state, stop = registry.state, Event()
        check = Check(state.catalog, state.store, registry.integrity, read=True, stop=stop)
        check.advance = lambda *_: stop.set()
        assert [*check.run()] == []
        assert check.unread == 0
        spent = Check(state.catalog, state.store, registry.integrity, read=True, budget=Budget(size=0))
        assert [*spent.run()] == []
        assert spent.unread > 0


def test_only_some_repositories_are_checked(settings: Settings) -> None:
    """Damage elsewhere is not named; a repository that does not exist is a mistake."""
    lose(blob_file(settings.data, FILES["V1 layer"][0]))
    assert found(settings, "team/app", "--read") == []
    assert len(found(settings, "library/old")) == 1
    assert fsck(settings, "team/nothing").exit_code == 2
    assert fsck(settings, "--from", "v2+https://example.com").exit_code == 2
    assert fsck(settings, "--limit-bytes", "1").exit_code == 2


@pytest.mark.sqlite
def test_a_catalog_that_is_not_there_cannot_be_checked(tmp_path: Path) -> None:
    """That is no damage: it exits with 2."""
    assert fsck(_settings(tmp_path / "nothing")).exit_code == 2


@pytest.mark.slow
@pytest.mark.postgres
def test_postgresql_is_checked_alike(tmp_path: Path) -> None:
    """The same kinds of damage are found, and whom they hurt."""
    with migrated_postgresql() as url:
        settings = Settings(data=tmp_path / "data", audit="off", sparse_indexes=True, database=url)
        with closing(open_registry(settings)) as registry:
            fill(client_of(registry, settings))
            store = open_store(settings.store_url)
            with closing(open_catalog(settings)) as catalog:
                assert [*Check(catalog, store, registry.integrity, read=True).run()] == []
                for (digest, _, _), damage in zip(FILES.values(), DAMAGES.values(), strict=False):
                    damage(blob_file(settings.data, digest))
                seen = [each for each, _ in Check(catalog, store, registry.integrity, read=True).run()]
    assert {each.where for each in seen} == {str(digest) for digest, _, _ in [*FILES.values()][:5]}
    assert all([*each.clients] == FILES[name][2] for each, name in _named(seen))


def _named(findings: list[Finding]) -> Iterator[tuple[Finding, str]]:
    names = {str(digest): name for name, (digest, _, _) in FILES.items()}
    yield from ((each, names[each.where]) for each in findings)
