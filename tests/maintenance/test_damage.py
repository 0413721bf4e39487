"""What is damaged in a store is named, left out and counted, and a rebuild that is interrupted goes on."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from dualreg.assembly import open_catalog, open_registry, prepare
from dualreg.catalog.rows import Origin
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.maintenance import rebuild as rebuilding
from dualreg.maintenance.rebuild import Rebuild
from dualreg.maintenance.rebuilt import Damage
from dualreg.settings import Settings
from dualreg.storage import open_store
from tests import builders
from tests.apps import client_of
from tests.maintenance.test_rebuild import lose, rebuild, with_tables
from tests.maintenance.world import CHAIN, ONE, TWO, fill, known_rows, put
from tests.migrate.stock_trees import small
from tests.protocol.exchange import push_blob, push_image, push_v1
from tests.state import blob_file

TREE = Path("docker/registry/v2")
APP, OLD = TREE / "repositories/team/app", TREE / "repositories/team/old"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A registry with two images, a V1 chain of three, and no catalog."""
    settings = Settings(data=tmp_path / "data", audit="off", sparse_indexes=True)
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry, settings)
    push_image(client, "team/app", ONE, "one", "also")
    push_image(client, "team/app", TWO, "two")
    push_v1(client, "team/old", CHAIN, "latest")
    registry.close()
    lose(settings)
    return settings


def _layer_link(digest: Digest) -> Path:
    return APP / "_layers/sha256" / digest.hex / "link"


def _config_of_two(data: Path) -> None:
    blob_file(data, Digest.of(TWO.config)).unlink()


def _not_linked(data: Path) -> None:
    (data / _layer_link(Digest.of(TWO.config))).unlink()


def _manifest_gone(data: Path) -> None:
    blob_file(data, TWO.digest).unlink()


def _manifest_changed(data: Path) -> None:
    path = blob_file(data, TWO.digest)
    path.chmod(0o644)
    path.write_bytes(TWO.manifest + b" ")


def _base_gone(data: Path) -> None:
    (data / OLD / "_v1" / CHAIN[0].id).unlink()


def _json_gone(data: Path) -> None:
    blob_file(data, Digest.of(CHAIN[2].json)).unlink()


def _write(path: Path, content: bytes) -> Callable[[Path], None]:
    def write(data: Path) -> None:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content)

    return write


def _tag(name: str, content: bytes) -> Callable[[Path], None]:
    return _write(APP / f"_manifests/tags/{name}/current/link", content)


def _pipe(data: Path) -> None:
    path = data / APP / "_manifests/tags/two/current/link"
    path.unlink()
    os.mkfifo(path)


REVISION = APP / "_manifests/revisions/sha256" / TWO.digest.hex

#: What is done, the findings (kind, and the end of where), and how many tags and V1 images are left.
DAMAGES: dict[str, tuple[Callable[[Path], None], list[tuple[str, str]], int, int]] = {
    "nothing": (lambda _: None, [], 4, 3),
    "a blob is lost": (_config_of_two, [("missing-blob", str(Digest.of(TWO.config)))], 4, 3),
    "a link is lost": (_not_linked, [("missing-link", str(Digest.of(TWO.config)))], 4, 3),
    "a manifest is lost": (
        _manifest_gone,
        [("missing-blob", f"team/app@{TWO.digest}"), ("dangling-tag", "team/app:two")], 3, 3,
    ),
    "a manifest is changed": (
        _manifest_changed,
        [("corrupt-manifest", f"team/app@{TWO.digest}"), ("dangling-tag", "team/app:two")], 3, 3,
    ),
    "a manifest is not linked": (
        lambda data: (data / REVISION / "link").unlink(),
        [("missing-link", f"team/app@{TWO.digest}")], 4, 3,
    ),
    "a V1 image is lost": (
        _base_gone, [("broken-image", CHAIN[1].id), ("broken-image", CHAIN[2].id)], 4, 0,
    ),
    "a V1 JSON is lost": (
        _json_gone,
        [("missing-blob", str(Digest.of(CHAIN[2].json))), ("broken-image", CHAIN[2].id)], 4, 2,
    ),
    "a tag is empty": (_tag("two", b""), [("odd-entry", "tags/two/current/link")], 3, 3),
    "a tag is huge": (_tag("two", b"x" * 100_000), [("odd-entry", "tags/two/current/link")], 3, 3),
    "a tag is binary": (_tag("two", b"\xff\0"), [("odd-entry", "tags/two/current/link")], 3, 3),
    "a tag is a pipe": (_pipe, [("odd-entry", "tags/two/current/link")], 3, 3),
    "a tag has no name": (
        _tag("-x", str(ONE.digest).encode()), [("odd-entry", "tags/-x/current/link")], 4, 3,
    ),
    "a tag points nowhere": (_tag("new", b"sha256:" + b"0" * 64), [("dangling-tag", "team/app:new")], 4, 3),
    "an origin is damaged": (
        _write(APP / "_manifests/tags/two/origin", b"[]"), [("odd-entry", "tags/two/origin")], 4, 3,
    ),
    "an origin is of another push": (
        _write(APP / "_manifests/tags/two/origin", b'{"manifest": "x", "origin": "v1"}'), [], 4, 3,
    ),
    "a V1 image is no JSON": (
        _write(OLD / "_v1" / CHAIN[2].id, b"{"), [("odd-entry", CHAIN[2].id)], 4, 2,
    ),
    "a file among V1 images": (_write(OLD / "_v1/readme", b"{}"), [("odd-entry", "_v1/readme")], 4, 3),
    "a link is of another blob": (
        _write(_layer_link(Digest.of(TWO.config)), str(ONE.digest).encode()),
        [("odd-entry", f"{Digest.of(TWO.config).hex}/link"), ("missing-link", str(Digest.of(TWO.config)))],
        4, 3,
    ),
    "a view is damaged": (
        _write(REVISION / "views/v1", b"\xff"), [("odd-entry", f"{TWO.digest.hex}/views/v1")], 4, 3,
    ),
    "signatures are damaged": (_write(REVISION / "signed", b"x"), [("odd-entry", "/signed")], 4, 3),
    "a digest is none": (
        _write(APP / "_layers/sha256/x/link", b""), [("odd-entry", "_layers/sha256/x/")], 4, 3,
    ),
    "a repository has no name": (
        _write(TREE / "repositories/NO/_layers/x", b""), [("odd-entry", "NO/")], 4, 3,
    ),
    "a file in place of a repository": (
        _write(TREE / "repositories/team/file", b""), [("odd-entry", "team/file")], 4, 3,
    ),
    "what the reference registry writes": (
        _write(APP / "_manifests/tags/two/index/sha256/x/link", b"x"), [], 4, 3,
    ),
    "its uploads": (_write(APP / "_uploads/x/data", b"x"), [], 4, 3),
    "a hidden file": (_write(APP / "_layers/sha256/.nfs01", b"x"), [], 4, 3),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage(settings: Settings, damage: str) -> None:
    """Is named, and nothing else is lost; a dry run says the same, and the registry then works."""
    change, findings, tags, images = DAMAGES[damage]
    change(settings.data)
    planned = rebuild(settings, "--dry-run", code=int(bool(findings)))
    result = rebuild(settings, code=int(bool(findings)))
    assert result == planned
    assert (result["tags"], result["v1_images"]) == (tags, images)
    found = [(each["kind"], each["where"]) for each in result["findings"]]
    for (kind, where), (expected, end) in zip(found, findings, strict=True):
        assert (kind, where[-len(end) :]) == (expected, end)
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry, settings)
    for tag in client.get("/v2/team/app/tags/list").json["tags"]:
        assert client.get(f"/v2/team/app/manifests/{tag}").status_code == 200
    assert client.get("/v1/repositories/team/old/tags").status_code == 200
    registry.close()


@pytest.mark.slow
def test_an_image_of_an_index_is_not_linked(settings: Settings) -> None:
    """It cannot have been deleted, so it is recorded again; other blobs in an index are left alone."""
    rebuild(settings)
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry, settings)
    push_image(client, "team/index", ONE, str(ONE.digest))
    push_image(client, "team/index", TWO, str(TWO.digest))
    push_blob(client, "team/index", text := b"no manifest")
    inner = json.loads(builders.index(ONE, TWO))
    inner["manifests"].append(builders.descriptor("text/plain", text))
    nested = json.dumps(inner).encode()
    put(client, "team/index", Digest.of(nested), nested, media_types.OCI_INDEX)
    outer = json.dumps(inner | {"manifests": [builders.descriptor(media_types.OCI_INDEX, nested)]}).encode()
    put(client, "team/index", "outer", outer, media_types.OCI_INDEX)
    before = known_rows(registry.state.catalog)
    registry.close()
    revisions = settings.data / TREE / "repositories/team/index/_manifests/revisions/sha256"
    for digest in (ONE.digest, TWO.digest, Digest.of(nested), Digest.of(outer)):
        (revisions / digest.hex / "link").unlink()
    lose(settings)
    findings = rebuild(settings, code=1)["findings"]
    assert [each["kind"] for each in findings] == ["missing-link"] * 4
    with closing(open_catalog(settings)) as catalog:
        after = known_rows(catalog)
    for table in ("manifest_children", "missing_children", "repository_blobs", "blobs"):
        assert after[table] == before[table]
    assert [*map(_undated, after["manifests"])] == [*map(_undated, before["manifests"])]


@pytest.mark.slow
def test_an_image_of_an_index_is_linked_nowhere(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was in the repository unless indexes may be sparse: then it could be an image of others."""
    rebuild(settings)
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        push_image(client, "team/index", ONE, str(ONE.digest))
        put(client, "team/index", "latest", builders.index(ONE), media_types.OCI_INDEX)
    folder = settings.data / TREE / "repositories/team/index"
    (folder / "_manifests/revisions/sha256" / ONE.digest.hex / "link").unlink()
    (folder / "_layers/sha256" / ONE.digest.hex / "link").unlink()
    for sparse, status in (("true", 404), ("false", 200)):
        monkeypatch.setenv("DUALREG_SPARSE_INDEXES", sparse)
        lose(settings)
        rebuild(settings, code=int(status == 200))
        prepare(settings)
        with closing(open_registry(settings)) as registry:
            client = client_of(registry, settings)
            assert client.get("/v2/team/index/manifests/latest").status_code == 200
            assert client.get(f"/v2/team/index/manifests/{ONE.digest}").status_code == status


def _undated(row: dict[str, object]) -> dict[str, object]:
    """Return a row of a manifest without its time, which only the link says."""
    return {key: value for key, value in row.items() if key != "pushed_at"}


def test_damaged_accounts(settings: Settings) -> None:
    """The content comes back all the same; the file is kept until it is removed."""
    (settings.data / "access.json").write_text("{")
    (finding,) = rebuild(settings, code=1)["findings"]
    assert (finding["kind"], finding["where"]) == ("damaged-access", "access.json")


class Stopping(Event):
    """An event that is set after a number of looks at it."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left = looks

    def is_set(self) -> bool:
        """Count a look."""
        self.left -= 1
        return self.left < 0


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record two rows at a time."""
    monkeypatch.setattr(rebuilding, "_BATCH", 2)
    monkeypatch.setattr(rebuilding, "_MANIFESTS", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
def test_a_rebuild_goes_on(tmp_path: Path) -> None:
    """Wherever it was stopped, once or at every step, it gives the same rows."""
    settings = Settings(data=tmp_path / "data", audit="off", sparse_indexes=True)
    prepare(settings)
    registry = open_registry(settings)
    fill(client_of(registry, settings))
    before = known_rows(registry.state.catalog)
    registry.close()
    store = open_store(settings.store_url)
    for step in (1, 7, 40, 41, 60, 61, 62, 63, 64, 65, 90, 150):
        lose(settings)
        with_tables(settings)
        runs = 0
        with closing(open_catalog(settings)) as catalog:
            while True:
                run = Rebuild(catalog, store, stop=Stopping(step + runs * 40))
                run.begin()
                runs += 1
                if run.run().complete:
                    break
                assert _refuses(settings)
            after = known_rows(catalog)
        assert runs > 1
        for name in before.keys() - {"signing_keys"}:
            assert after[name] == before[name], (name, step)


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
def test_a_rebuild_that_is_stopped_blames_nothing(settings: Settings) -> None:
    """What it did not come to is not missing, wherever it was stopped."""
    (settings.data / REVISION / "link").unlink()
    store, looks = open_store(settings.store_url), 0
    while True:
        lose(settings)
        with_tables(settings)
        with closing(open_catalog(settings)) as catalog:
            run = Rebuild(catalog, store, stop=Stopping(looks))
            run.begin()
            result = run.run()
        assert {each.kind for each in result.findings} <= {Damage.NO_LINK}
        if result.complete:
            break
        looks += 1
    assert looks > 20


def _refuses(settings: Settings) -> bool:
    try:
        prepare(settings)
    except Exception as error:  # noqa: BLE001 -- its text is checked
        return "interrupted" in str(error)
    return False


def test_a_tree_of_the_reference_registry(tmp_path: Path) -> None:
    """It has no links of manifests as blobs, and says nothing of generations; its times are kept."""
    stock = small(tmp_path / "data")
    tag = stock.v2 / "repositories/team/other/_manifests/tags/1/current/link"
    os.utime(tag, (1_400_000_000, 1_400_000_000))
    settings = Settings(data=tmp_path / "data", audit="off")
    result = rebuild(settings)
    assert result["findings"] == []
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry, settings)
    assert client.get("/v2/team/other/manifests/1").status_code == 200
    (described,) = registry.tags.describe(RepositoryName("team/other"), limit=9).rows
    assert described.pushed_at.timestamp() == 1_400_000_000
    registry.close()


@pytest.mark.slow
def test_a_tree_without_the_newer_files(settings: Settings) -> None:
    """V1 images are recognized in the manifests that were made of them; so nothing is lost."""
    for path in [*settings.data.rglob("views/v1"), *settings.data.rglob("origin")]:
        path.unlink()
    for path in (settings.data / OLD / "_v1").iterdir():
        facts = json.loads(path.read_text())
        del facts["tarsum_verified"]
        path.write_text(json.dumps(facts))
    assert rebuild(settings)["findings"] == []
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry, settings)
    assert client.get("/v1/repositories/team/old/tags").json == {"latest": CHAIN[-1].id}
    assert client.get("/v1/repositories/team/app/tags").status_code == 200
    (tag,) = registry.tags.describe(RepositoryName("team/old"), limit=9, reader=None).rows
    assert tag.origin is Origin.V1
    registry.close()
    assert [*settings.data.rglob("views/v1")]
