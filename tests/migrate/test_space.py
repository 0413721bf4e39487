"""How much disk space an import takes is said before, and whether there is that much."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dualreg.migrate import space
from dualreg.migrate.selection import Selection, make_plan
from dualreg.migrate.space import Content, Need, Volume
from dualreg.migrate.transports import SourceOptions, survey_source
from tests import builders
from tests.migrate.commands import command
from tests.migrate.stock_trees import LAYERS, StockTree
from tests.migrate.test_files import saved
from tests.migrate.trees import Tree

_BLOCK = 4096
#: Folders of the store itself, and of the two parts of a repository's name.
_FOLDERS = 8


def _v1(folder: Path) -> str:
    tree = Tree(folder)
    base = tree.image("base", LAYERS["a"])
    for number in range(20):
        image = tree.image(f"{number}", builders.layer({"x": b"%d" % number}), parent=base)
        tree.tag(f"team/app{number % 3}", f"{number}", image)
    return f"v1-tree:{folder}"


def _stock(folder: Path) -> str:
    tree = StockTree(folder)
    images = [builders.image(LAYERS["a"], builders.layer({"x": bytes(number << 10)})) for number in range(9)]
    for number, image in enumerate(images):
        tree.image(f"team/app{number % 3}", image, f"{number}")
    for image in images:
        tree.image("team/index", image)
    tree.manifest("team/index", builders.index(*images), "1")
    return f"registry-tree:{folder}"


def _saved(folder: Path) -> str:
    folder.mkdir()
    images = (builders.image(LAYERS["a"], LAYERS[letter]) for letter in "bc")
    listed = ((image, [f"team/app:{number}"]) for number, image in enumerate(images))
    return f"docker-archive:{saved(folder / 'app.tar', *listed)}"


def _taken(folder: Path) -> Need:
    """Return what a folder takes on a file system whose folders take a block each, as those of ext4."""
    inodes = [folder, *folder.rglob("*")]
    blocks = sum(1 if each.is_dir() else -(-each.stat().st_size // _BLOCK) for each in inodes)
    return Need(blocks * _BLOCK, len(inodes))


@pytest.mark.parametrize("make", [_v1, _stock, _saved])
def test_what_an_import_takes(make: Callable[[Path], str], tmp_path: Path, data: Path) -> None:
    """Files and folders, each in whole blocks: what is foretold is what they take, and hardly more."""
    source = make(tmp_path / "old")
    found = survey_source(source, SourceOptions())
    content = found.content(make_plan(found, Selection(library=found.default_library)))
    need = Volume(data, _BLOCK, 0, 0).need(content)
    command(data, f"run {source}")
    taken = _taken(data / "docker")
    assert taken.inodes - _FOLDERS <= need.inodes <= taken.inodes * 1.05
    assert taken.bytes - _FOLDERS * _BLOCK <= need.bytes <= taken.bytes * 1.1


def test_shortages(tmp_path: Path) -> None:
    """Of bytes and of inodes; file systems that make inodes as needed never lack any."""
    content = Content([1, 4096, 4097], repositories=1, links=4, tags=1, v1_images=2)
    volume = Volume(tmp_path, 4096, 1 << 20, 1000)
    need = volume.need(content)
    assert need == Need((4 + 3 + 3 + 8 + 6 + 2 + 8) * 4096 + 6 * 1280, 3 + 3 + 3 + 8 + 6 + 2 + 8)
    assert volume.need(content.linked()).bytes == need.bytes - 4 * 4096
    assert [*volume.shortages(need)] == []
    assert [*Volume(tmp_path, 4096, need.bytes, need.inodes).shortages(need)] == []
    (text,) = Volume(tmp_path, 4096, need.bytes - 1, None).shortages(need)
    assert text.startswith(f"a copy needs 0.1 MiB, and {tmp_path} has 0.1 MiB free; free some space")
    (text,) = Volume(tmp_path, 4096, need.bytes, need.inodes - 1).shortages(need)
    assert text.startswith(f"a copy needs 33 inodes, and {tmp_path} has 32 free; choose")


def test_volumes(tmp_path: Path) -> None:
    """Are those of the nearest folder that exists."""
    found = Volume.of(tmp_path / "not" / "there")
    status = os.statvfs(tmp_path)
    assert (found.folder, found.block) == (tmp_path / "not" / "there", status.f_frsize)
    assert found.free_bytes > 0


def test_the_disk_of_the_store_counts(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store is not in the data directory: what it has free, and whether it is the source itself."""
    store, config, source = tmp_path / "store", tmp_path / "dualreg.toml", _stock(tmp_path / "old")
    config.write_text(f'store = "{store.as_uri()}"\n')
    full = SimpleNamespace(f_frsize=4096, f_blocks=100, f_bavail=60, f_files=1000, f_favail=600)
    real = os.statvfs
    store.mkdir()
    monkeypatch.setattr(space.os, "statvfs", lambda path: full if Path(path) == store else real(path))
    foretold = command(data, f"run --dry-run {source}", "--config", str(config))
    assert f"Warning: a copy needs 1.0 MiB, and {store} has 0.2 MiB free;" in foretold.stderr
    assert f"and {store} has 0.2 MiB free" in command(data, f"run {source}", "--config", str(config)).stderr
    own = command(data, f"plan registry-tree:{store}", "--config", str(config))
    assert "Warning" not in own.stderr


def test_hard_links_take_no_space(tmp_path: Path, data: Path) -> None:
    """A dry run foretells what the run with the same options takes."""
    line = f"run --dry-run --json {_stock(tmp_path / 'old')}"
    copied = json.loads(command(data, line).stdout)
    linked = json.loads(command(data, f"{line} --link=hard").stdout)
    assert linked["copy_inodes"] == copied["copy_inodes"]
    assert 0 < linked["copy_bytes"] < copied["copy_bytes"]


def test_warnings(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By inspect, plan, a dry run and the run itself; not if the files are linked, or are there already."""
    source = _stock(tmp_path / "old")
    full = SimpleNamespace(f_frsize=4096, f_blocks=100, f_bavail=60, f_files=1000, f_favail=600)
    monkeypatch.setattr(space.os, "statvfs", lambda _: full)
    plan = tmp_path / "plan"
    for line in ("inspect", f"plan --output={plan}", "run --dry-run"):
        told = json.loads(command(data, f"{line} {source} --json", code=None).stdout)
        assert (told["free_bytes"], told["free_inodes"]) == (60 * 4096, 600)
        assert told["copy_bytes"] > 60 * 4096
        assert [warning.split(",")[0] for warning in told["warnings"]] == [
            f"a copy needs {told['copy_bytes'] / (1 << 20):.1f} MiB"
        ]
        assert f"Warning: {told['warnings'][0]}\n" in command(data, f"{line} {source}", code=None).stderr
    assert "Warning: a copy needs" in command(data, f"run {source}").stderr
    own = [f"plan registry-tree:{data / below}" for below in ("", "docker", "docker/registry/v2")]
    for line in (f"run {source}", f"run --dry-run {source}", *own):
        assert "Warning" not in command(data, line).stderr
