"""Read-only registries and the reserve of the disk: what is refused, how it is said, and what goes on."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from dualreg.assembly import open_registry, prepare, writes_of
from dualreg.catalog.clock import utc_now
from dualreg.cli import main
from dualreg.errors import DiskReserved
from dualreg.image.digest import Digest
from dualreg.registry import Registry
from dualreg.registry.writes import Mark, Writes
from dualreg.settings import Settings, SettingsInvalid
from dualreg.settings.values import parse_bytes, parse_min_free
from dualreg.storage.base import CHUNK_SIZE
from tests.apps import client_of
from tests.faults.test_faults import CHAIN, IMAGE, pull_v2, push_v1, push_v2
from tests.protocol.exchange import REPOSITORY, v1_text, v2_codes
from tests.state import snapshot

TOKEN = {"Authorization": f'Token repository="{REPOSITORY}"'}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of a registry that exists."""
    prepare(Settings(data=tmp_path / "data"))
    return tmp_path / "data"


def opened(folder: Path, **chosen: object) -> tuple[Registry, FlaskClient]:
    """Return the registry in *folder* and a client of it, with settings of its own."""
    settings = Settings.model_validate({"data": folder, "audit": "off"} | chosen)
    registry = open_registry(settings)
    return registry, client_of(registry, settings)


def readonly(*words: str, data: Path) -> str:
    """Run ``dualreg readonly``; return what it prints."""
    done = CliRunner().invoke(main, ["readonly", *words, "--data", str(data)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_read_only_at_runtime(folder: Path) -> None:
    """A running registry refuses every change with the reason, in both dialects, and goes on with pulls."""
    registry, client = opened(folder)
    assert push_v2(client)
    location = client.post(f"/v2/{REPOSITORY}/blobs/uploads/").headers["Location"]
    readonly("on", "--reason", "moving to new disks", data=folder)
    before, manifest = snapshot(registry), f"/v2/{REPOSITORY}/manifests/latest"
    for method, path in (
        ("POST", f"/v2/{REPOSITORY}/blobs/uploads/"), ("PATCH", location), ("DELETE", location),
        ("PUT", f"{location}?digest={Digest.of(b'')}"), ("PUT", manifest), ("DELETE", manifest),
        ("DELETE", f"/v2/{REPOSITORY}/blobs/{IMAGE.digest}"),
    ):  # fmt: skip
        response = client.open(path, method=method, data=IMAGE.manifest, content_type=IMAGE.media_type)
        assert (response.status_code, v2_codes(response)) == (405, ["UNSUPPORTED"]), path
        assert "this registry is read-only: moving to new disks" in response.text
    for method, path in (
        ("PUT", f"/v1/repositories/{REPOSITORY}/"), ("PUT", f"/v1/images/{CHAIN[0].id}/json"),
        ("PUT", f"/v1/images/{CHAIN[0].id}/layer"), ("DELETE", f"/v1/repositories/{REPOSITORY}/tags/latest"),
    ):  # fmt: skip
        response = client.open(path, method=method, data=b"{}", headers=TOKEN)
        text = "this registry is read-only: moving to new disks"
        assert (response.status_code, v1_text(response)) == (405, text), path
    assert snapshot(registry) == before
    assert pull_v2(client)
    assert client.get("/_status").json["readonly"]["reason"] == "moving to new disks"
    assert "moving to new disks" in readonly("status", data=folder)
    readonly("off", data=folder)
    assert push_v1(client)
    assert "readonly" not in client.get("/_status").json
    registry.close()
    lines = (folder / "audit.jsonl").read_text().splitlines()
    assert ['"command": "readonly on"' in lines[0], '"command": "readonly off"' in lines[1]] == [True, True]


@pytest.mark.parametrize(
    "words", [["gc"], ["repository", "delete", REPOSITORY], ["migrate", "run", "oci-layout:layout"]]
)
def test_commands_of_a_read_only_registry(folder: Path, words: list[str]) -> None:
    """Commands that change content say why they do not, and exit with an error."""
    registry, client = opened(folder)
    assert push_v2(client)
    registry.close()
    readonly("on", "--reason", "an audit", data=folder)
    done = CliRunner().invoke(main, [*words, "--data", str(folder)])
    assert (done.exit_code > 0, "this registry is read-only: an audit" in done.output) == (True, True)


def test_a_collection_in_a_registry_that_becomes_read_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection that has begun ends between two steps, says why, and exits with an error."""
    registry, client = opened(folder)
    assert push_v2(client)
    registry.close()
    asked, marked = count(1), Writes.marked

    def mark_first(writes: Writes) -> Mark | None:
        if next(asked) == 3:
            writes.set_mark("an audit", utc_now())
        return marked(writes)

    monkeypatch.setattr(Writes, "marked", mark_first)
    done = CliRunner().invoke(main, ["gc", "--full", "--data", str(folder)])
    assert (done.exit_code, "this registry is read-only: an audit" in done.output) == (1, True)


@pytest.mark.parametrize(
    "words", [["readonly", "on", "--reason", "x"], ["readonly", "off"], ["db", "rebuild", "--replace"]]
)
def test_what_cannot_be_recorded_is_not_done(folder: Path, words: list[str]) -> None:
    """The commands open the audit log before they change anything."""
    if words[1] == "off":
        readonly("on", "--reason", "an audit", data=folder)
    (folder / "not-a-folder").touch()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    log = {"DUALREG_AUDIT": f"{folder}/not-a-folder/audit.jsonl"}
    done = CliRunner().invoke(main, [*words, "--data", str(folder)], env=log)
    assert (done.exit_code > 0, "cannot write the audit log" in done.output) == (True, True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_a_mark_without_a_reason(folder: Path, make: Callable[[Path], None]) -> None:
    """What an operator made without the command counts, and no look at it leaves a file open."""
    make(folder / "readonly.json")
    registry, client = opened(folder)
    opens = list[int]()
    for _ in range(3):
        response = client.post(f"/v2/{REPOSITORY}/blobs/uploads/")
        assert (response.status_code, "read-only" in response.text) == (405, True)
        opens.append(len([*Path("/proc/self/fd").iterdir()]))
    assert opens[1] == opens[2]
    registry.close()


def test_the_reserve(folder: Path) -> None:
    """At the reserve pushes are refused over both APIs; pulls, ends of uploads, and deletes go on."""
    registry, client = opened(folder)
    assert push_v2(client)
    location = client.post(f"/v2/{REPOSITORY}/blobs/uploads/").headers["Location"]
    location = client.patch(location, data=b"held").headers["Location"]
    registry.close()
    registry, client = opened(folder, min_free="9999t")
    before, manifest = snapshot(registry), f"/v2/{REPOSITORY}/manifests/latest"
    for method, path in (
        ("POST", f"/v2/{REPOSITORY}/blobs/uploads/"), ("PATCH", location), ("PUT", manifest),
    ):  # fmt: skip
        response = client.open(path, method=method, data=IMAGE.manifest, content_type=IMAGE.media_type)
        assert (response.status_code, v2_codes(response)) == (403, ["DENIED"])
        assert "min_free" in response.text
    response = client.put(f"/v1/images/{CHAIN[0].id}/json", data=CHAIN[0].json, headers=TOKEN)
    assert (response.status_code, "min_free" in v1_text(response)) == (403, True)
    assert snapshot(registry) == before
    assert client.put(f"{location}&digest={Digest.of(b'held')}").status_code == 201
    assert pull_v2(client)
    assert client.get("/_status").json["min_free"] == "reached"
    assert client.delete(manifest).status_code == 202
    registry.close()


def test_an_upload_that_reaches_the_reserve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has arrived counts, and the upload goes on from there once there is room."""
    registry, client = opened(folder)
    location = client.post(f"/v2/{REPOSITORY}/blobs/uploads/").headers["Location"]
    rooms = iter([1 << 30, 1 << 30, -1])
    with monkeypatch.context() as patch:
        patch.setattr(Writes, "room", lambda _: next(rooms, -1))
        data = bytes(4 * CHUNK_SIZE)
        assert client.patch(location, data=data).status_code == 403
    held = client.get(location)
    assert (held.status_code, held.headers["Range"]) == (204, f"0-{2 * CHUNK_SIZE - 1}")
    rest = client.patch(held.headers["Location"], data=data[2 * CHUNK_SIZE :])
    assert client.put(f"{rest.headers['Location']}&digest={Digest.of(data)}").status_code == 201
    registry.close()


def test_the_room_of_disks(tmp_path: Path) -> None:
    """The fullest disk decides; it is asked once a second at most, also for folders that do not exist yet."""
    now, asked = [0.0], list[int]()

    def least(size: int) -> int:
        asked.append(size)
        return size

    writes = Writes({tmp_path / "a" / "b", tmp_path}, least, clock=lambda: now[0])
    for _ in range(100):
        with pytest.raises(DiskReserved):
            writes.require()
    assert len(asked) == 2
    now[0] = 1.0
    assert writes.room() <= 0
    assert len(asked) == 4
    assert writes_of(Settings(data=tmp_path, min_free="0")).room() > 1 << 60


@pytest.mark.parametrize(
    ("files", "free", "is_reached"),
    [
        (1000, 20, False),
        (1000, 19, True),
        (1 << 32, 85_900_000, False),
        (1 << 32, 85_800_000, True),
        (0, 0, False),
    ],
)
def test_the_inodes_of_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, free: int, *, is_reached: bool
) -> None:
    """The same share of them stays free as of the bytes; where they are made as needed, none are lacking."""
    disk = {"f_blocks": 1 << 20, "f_frsize": 4096, "f_bavail": 1 << 19, "f_files": files, "f_favail": free}
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(**disk))
    for reserve in ("2%", f"{(4 << 30) // 50}"):
        writes = Writes([tmp_path], parse_min_free(reserve))
        assert (writes.room() < 0) == is_reached


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite"])
def test_the_disk_of_the_catalog_has_to_keep_room(tmp_path: Path, scheme: str) -> None:
    """That of its file, however the URL of the database names it; other databases have their own."""
    store, catalog = tmp_path / "store", tmp_path / "catalog"
    url = f"{scheme}:///{catalog}/c.sqlite3?timeout=5"
    settings = Settings(data=tmp_path, store=store.as_uri(), database=url)
    assert {*writes_of(settings).folders} == {store, catalog}
    other = settings.model_copy(update={"database": "postgresql+psycopg://host/name"})
    assert {*writes_of(other).folders} == {store}


@pytest.mark.parametrize(
    ("text", "disk", "least"),
    [("0", 100, 0), ("2%", 1000, 20), ("1g,2%", 1 << 40, 1 << 30), ("1g,2%", 1 << 30, (1 << 30) // 50),
     ("500", 1000, 500), ("3k", 1 << 30, 3072), ("5M", 1 << 30, 5 << 20), ("1t", 1 << 50, 1 << 40),
     ("1G, 2%", 1 << 40, 1 << 30)],
)  # fmt: skip
def test_sizes_of_the_reserve(text: str, disk: int, least: int) -> None:
    """Sizes have binary units, shares are of the disk, and of several the least counts."""
    assert parse_min_free(text)(disk) == least
    assert "%" in text or least == parse_bytes(text.swapcase())


@pytest.mark.parametrize("text", ["", "x", "1gb", "-1", "2%%", "1g,", "1.5g", "1\N{KELVIN SIGN}"])
def test_malformed_sizes(text: str) -> None:
    """A reserve that cannot be understood is an error that names the setting."""
    with pytest.raises(SettingsInvalid, match="min_free"):
        Settings.from_env({"DUALREG_MIN_FREE": text or " "})
