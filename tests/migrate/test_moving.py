"""A store of dualreg's own is moved by ``migrate run registry-tree:``, with all that V1 clients see of it."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dualreg.assembly import open_catalog, open_registry, prepare
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.builders import V1Pushed
from tests.maintenance.world import CHAIN, OLDER, fill, known_rows, pull_editions
from tests.migrate.commands import command, content
from tests.protocol.exchange import push_v1
from tests.state import blob_file

TREE = Path("docker/registry/v2")
TABLES = ("manifests", "manifest_children", "manifest_views", "missing_children", "v1_images", "tags")
LAYER = builders.layer({"new": b"pushed on top of what was derived"})


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a registry with images of every generation."""
    settings = _settings(tmp_path_factory.mktemp("filled") / "data")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        fill(client)
        base = client.get("/v1/repositories/team/app/tags").json["one"]
        name = ImageId(Digest.of(b"on top").hex)
        top = V1Pushed(name, json.dumps({"id": name, "parent": base, "os": "linux"}).encode(), LAYER)
        push_v1(client, "team/app", [top], "mixed")
    return settings.data


@pytest.fixture
def old(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; the registry under test may have sparse indexes, too."""
    monkeypatch.setenv("DUALREG_SPARSE_INDEXES", "true")
    shutil.copytree(filled, tmp_path / "old")
    return tmp_path / "old"


def _settings(data: Path) -> Settings:
    return Settings(data=data, audit="off", sparse_indexes=True)


def run(old: Path, data: Path, options: str = "", code: int = 0) -> dict[str, str]:
    """Run a migration of everything; return how it went with each tag, with the kind of the reason."""
    line = f"run registry-tree:{old} --untagged --json {options}"
    told = json.loads(command(data, line, code=code).stdout)["tags"]
    return {tag["tag"]: f"{tag['status']} {tag['reason'].partition(':')[0]}".strip() for tag in told}


def rows(data: Path, *, derive: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of images and tags; *derive*: after clients of each generation have asked for them."""
    if derive:
        settings = _settings(data)
        with closing(open_registry(settings)) as registry:
            client = client_of(registry, settings)
            for name in ("team/app", "library/old", "old/app"):
                assert client.get(f"/v1/repositories/{name}/tags").status_code == 200
            for accept in (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST):
                client.get("/v2/old/app/manifests/one", headers={"Accept": accept})
            pull_editions(client)
    with closing(open_catalog(_settings(data))) as catalog:
        found = known_rows(catalog)
    return {table: found[table] for table in TABLES}


def v1_tags(data: Path, name: str) -> dict[str, str]:
    """Return the tags of a repository as V1 clients see them."""
    settings = _settings(data)
    with closing(open_registry(settings)) as registry:
        found: dict[str, str] = client_of(registry, settings).get(f"/v1/repositories/{name}/tags").json
    return found


@pytest.mark.slow
@pytest.mark.parametrize("link", ["auto", "hard"])
def test_every_row_moves(old: Path, data: Path, link: str) -> None:
    """V1 images with their IDs and checksums, origins, agents, media types and times; verified afterwards."""
    done = run(old, data, f"--link {link}")
    assert {*done.values()} == {"done"}
    before, after = rows(old, derive=True), rows(data, derive=True)
    assert sum(row["checksum"] is not None for row in after["v1_images"]) == len(CHAIN) + len(OLDER) + 1
    for table in TABLES:
        assert after[table] == before[table], table
    assert {*run(old, data).values()} == {"same"}
    command(data, f"verify registry-tree:{old} --untagged")


@pytest.mark.slow
def test_a_move_is_undone(old: Path, data: Path) -> None:
    """With the V1 images that it brought."""
    told = json.loads(command(data, f"run registry-tree:{old} --untagged --json").stdout)
    assert [*content(data)]
    command(data, f"rollback {told['run']}")
    assert not [*content(data)]


@pytest.mark.slow
def test_ids_that_an_earlier_move_left_out_come_later(old: Path, data: Path, tmp_path: Path) -> None:
    """Releases before this one did not read them; the tags stay as they are otherwise."""
    for folder in old.rglob("_v1"):
        shutil.copytree(folder, tmp_path / "kept" / folder.relative_to(old))
        shutil.rmtree(folder)
    run(old, data)
    derived = v1_tags(data, "library/old")
    assert CHAIN[-1].id not in derived.values()
    assert "V1 clients see" not in command(data, f"verify registry-tree:{old} --untagged", code=None).output
    shutil.copytree(tmp_path / "kept", old, dirs_exist_ok=True)
    assert "V1 clients see" in command(data, f"verify registry-tree:{old} --untagged", code=1).output
    assert {*run(old, data).values()} == {"done", "same"}
    assert rows(data)["tags"] == rows(old)["tags"]
    assert v1_tags(data, "library/old") == v1_tags(old, "library/old")
    assert {*run(old, data).values()} == {"same"}


@pytest.mark.slow
def test_what_a_client_pushed_here_stays(old: Path, data: Path) -> None:
    """If a V1 client pushed the same image under other IDs, V1 clients go on seeing those."""
    settings = _settings(data)
    prepare(settings)
    other = [
        V1Pushed(name, image.json.replace(image.id.encode(), name.encode()), image.layer)
        for image, name in ((CHAIN[0], ImageId("f" * 64)),)
    ]
    with closing(open_registry(settings)) as registry:
        push_v1(client_of(registry, settings), "library/old", other, "mine")
    assert {*run(old, data).values()} <= {"done", "same"}
    tags = v1_tags(data, "library/old")
    assert (tags["mine"], tags["latest"]) == (other[0].id, CHAIN[-1].id)
    assert {*run(old, data).values()} == {"same"}


def _v1(image: V1Pushed) -> Path:
    return TREE / "repositories/library/old/_v1" / image.id


def _data(content_: bytes) -> Path:
    return blob_file(Path(), Digest.of(content_))


def _lose(path: Path) -> Callable[[Path], None]:
    return lambda old: (old / path).unlink()


def _write(path: Path, text: str) -> Callable[[Path], None]:
    def write(old: Path) -> None:
        (old / path).unlink()
        (old / path).write_text(text)

    return write


def _change(image: V1Pushed, **facts: str) -> Callable[[Path], None]:
    def change(old: Path) -> None:
        path = old / _v1(image)
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))

    return change


def _lead_outside(old: Path) -> None:
    path, outside = old / _v1(CHAIN[0]), old.with_name("outside")
    path.rename(outside)
    path.symlink_to(outside)


#: What is done to the source, and whether it is found out without reading layers.
DAMAGES: dict[str, tuple[Callable[[Path], None], bool]] = {
    "an image is lost": (_lose(_v1(CHAIN[0])), True),
    "an image is no JSON": (_write(_v1(CHAIN[1]), "{"), True),
    "an image leads out of the tree": (_lead_outside, True),
    "an image is its own ancestor": (_change(CHAIN[0], parent=CHAIN[-1].id), True),
    "a JSON is lost": (_lose(_data(CHAIN[0].json)), True),
    "a JSON is damaged": (_write(_data(CHAIN[0].json), "{}"), True),
    "a JSON is another's": (_change(CHAIN[0], json=str(Digest.of(OLDER[0].json))), True),
    "a checksum is another's": (_change(CHAIN[0], checksum=f"sha256:{'1' * 64}"), False),
    "a diff ID is another's": (_change(CHAIN[0], diff_id=f"sha256:{'1' * 64}"), False),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_v1_images(old: Path, data: Path, damage: str) -> None:
    """What is lost is named; the tags are imported all the same, and V1 clients see a derived image then."""
    change, named = DAMAGES[damage]
    change(old)
    told = json.loads(command(data, f"inspect registry-tree:{old} --json", code=None).stdout)
    assert ("lost-v1-image" in {finding["kind"] for finding in told["findings"]}) == named
    outcomes = run(old, data, code=int(not named))
    if named:
        assert {*outcomes.values()} == {"done"}
        assert CHAIN[-1].id not in v1_tags(data, "library/old").values()
    else:
        assert outcomes["library/old:latest"] == "failed corrupt"
        assert outcomes["team/app:one"] == "done"


@pytest.mark.slow
def test_ids_on_demand(old: Path, data: Path) -> None:
    """A store that stays behind the registry gives its V1 images under their IDs, too."""
    settings = _settings(data).model_copy(update={"legacy_source": f"registry-tree:{old}"})
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        client = client_of(registry, settings)
        assert client.get("/v1/repositories/library/old/tags").json == v1_tags(old, "library/old")
        described = registry.tags.describe(RepositoryName("library/old"), limit=9, reader=None).rows
    with closing(open_registry(_settings(old))) as registry:
        before = registry.tags.describe(RepositoryName("library/old"), limit=9, reader=None).rows
    assert [(each.name, each.origin) for each in described] == [(each.name, each.origin) for each in before]
