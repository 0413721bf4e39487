"""``dualreg`` restores what was deleted, says what it keeps for that, and forgets it if that is wanted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.programs import unannounced
from tests.properties.registries import push_v1, push_v2, read_blob

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"a"}))
CHAIN = builders.v1_chain(builders.layer({"a": b"v1"}))
SIZE = sum(map(len, (IMAGE.manifest, *IMAGE.blobs.values())))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with an image of either generation, which uncollected garbage leaves at once."""
    settings = Settings(data=tmp_path, gc_grace="0s")
    prepare(settings)
    registry = open_registry(settings)
    push_v2(registry, NAME, Tag("1"), IMAGE)
    push_v1(registry, NAME, Tag("2"), CHAIN)
    yield registry
    registry.close()


@pytest.fixture
def run(registry: Registry, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command over it, while it is open."""
    assert registry.tags.count() == 2

    def invoke(line: str, code: int = 0) -> Result:
        env = {"DUALREG_CONFIG": None, "DUALREG_GC_GRACE": "0s"}
        result = unannounced(CliRunner().invoke(main, [*line.split(), "--data", str(tmp_path)], env=env))
        assert result.exit_code == code, result.output
        return result

    return invoke


def document(result: Result) -> dict[str, Any]:
    """Return the JSON that a command printed."""
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def collect(run: Callable[..., Result], options: str = "") -> dict[str, Any]:
    """Collect until nothing that is due is left; return the last report."""
    return [document(run(f"gc --json {options}")) for _ in range(3)][-1]


@pytest.mark.slow
def test_a_deleted_manifest_is_restored_with_its_tag(registry: Registry, run: Callable[..., Result]) -> None:
    """The collection says how much it keeps for that, and until when; so do ``usage`` and ``why``."""
    registry.manifests.delete(NAME, IMAGE.digest)
    found = collect(run)
    assert (found["kept"], found["kept_bytes"]) == (3, SIZE)
    printed = run("gc").stdout
    assert f"Kept for undelete: 3 blobs, {SIZE} bytes, until 20" in printed
    assert document(run("usage --depth 0 --json"))["deleted"] == SIZE
    assert f"and {SIZE} bytes that are kept for undelete" in run("usage --depth 0").stdout
    assert document(run(f"why {IMAGE.digest} --json"))["until"] == found["kept_until"]
    assert document(run("tag restore team/app:1 --dry-run --json"))["deleted"] is True
    assert "which would be restored" in run("tag restore team/app:1 --dry-run").stdout
    line = run("tag restore team/app:1").stdout
    assert line == f"Pointed team/app:1 at {IMAGE.digest}, which was restored; before, it did not exist.\n"
    assert all(read_blob(registry, NAME, digest) == blob for digest, blob in IMAGE.blobs.items())
    assert collect(run)["kept"] == 0


@pytest.mark.slow
def test_a_repository_is_restored(registry: Registry, run: Callable[..., Result], tmp_path: Path) -> None:
    """With all its tags, for both generations; once."""
    run("repository restore team/app", code=1)
    run("repository delete team/app")
    collect(run)
    assert run("repository restore team/app --dry-run").stdout == (
        "Would restore 2 tags and 2 manifests of team/app.\n"
    )
    assert registry.tags.count() == 0
    assert document(run("repository restore team/app --json")) == {
        "repository": "team/app", "tags": 2, "manifests": 2, "lost": [], "dry_run": False,
    }  # fmt: skip
    assert registry.bridge.tags(NAME)[Tag("2")] == CHAIN[-1].id
    assert run("repository restore team/app").stdout == "Restored 0 tags and 0 manifests of team/app.\n"
    audited = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["command"] for line in audited if line["event"] == "admin"][-2:] == [
        "repository restore"
    ] * 2


@pytest.mark.slow
def test_space_is_freed_now(registry: Registry, run: Callable[..., Result]) -> None:
    """By an option of the collection; what would be deleted is said before."""
    registry.repositories.delete(NAME)
    assert collect(run)["kept"] > 0
    planned = document(run("gc --dry-run --no-undelete --json"))
    assert planned["blobs"] > 0
    assert document(run("gc --no-undelete --json"))["blobs"] == planned["blobs"]
    assert [*registry.state.store.walk()] == []
    run("repository restore team/app", code=1)


@pytest.mark.slow
def test_forget(registry: Registry, run: Callable[..., Result]) -> None:
    """The history of a tag, or of a repository, with what was deleted; a dry run counts."""
    registry.repositories.delete(NAME)
    for line, printed in (
        ("--dry-run", "Would forget 2 moves of team/app:1 and 1 deleted manifest.\n"),
        ("", "Forgot 2 moves of team/app:1 and 1 deleted manifest.\n"),
        ("", "Forgot 0 moves of team/app:1 and 0 deleted manifests.\n"),
    ):
        assert run(f"tag forget team/app:1 {line}").stdout == printed
    assert document(run("tag forget team/app --json")) == {
        "repository": "team/app", "tag": None, "moves": 2, "manifests": 1, "dry_run": False,
    }  # fmt: skip
    collect(run)
    assert [*registry.state.store.walk()] == []
    assert "names no tag" not in run("tag forget team/app").output
    run("tag forget Team/App", code=1)


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_rebuild_does_not_revive_what_was_deleted(
    registry: Registry, run: Callable[..., Result], tmp_path: Path
) -> None:
    """With a new catalog, it is neither there nor to be restored, and a full collection frees its bytes."""
    registry.manifests.delete(NAME, IMAGE.digest)
    collect(run)
    registry.close()
    for file in tmp_path.glob("catalog.sqlite3*"):
        file.unlink()
    run("db rebuild")
    listed = run("tag list team/app --json").stdout.splitlines()
    assert [json.loads(line)["name"] for line in listed] == ["2"]
    run(f"tag restore team/app:1 --to {IMAGE.digest}", code=1)
    collect(run, "--full")
    assert not (
        tmp_path / f"docker/registry/v2/blobs/sha256/{IMAGE.digest.hex[:2]}/{IMAGE.digest.hex}"
    ).exists()
