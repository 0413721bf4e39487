"""Volumes: an export of what another registry lacks, carried in pieces, and imported there."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry
from dualreg.cli import main
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.inventory import read_inventory
from dualreg.migrate.sources import layout_files
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.volumes import VolumesTarget
from dualreg.settings import Settings
from tests import builders
from tests.migrate import stock_trees
from tests.migrate.commands import command, content, export
from tests.programs import require

MIB = 1 << 20


def large(megabytes: int) -> bytes:
    """Return a layer that does not compress."""
    return builders.layer({"file": os.urandom(megabytes * MIB)})


@pytest.fixture(autouse=True)
def tree(tmp_path: Path) -> stock_trees.StockTree:
    """A registry of images, one of whose layers is larger than a volume, with an index and referrers."""
    tree = stock_trees.small(tmp_path / "stock")
    base = large(1)
    tree.image("team/large", builders.image(base, large(5)), "1")
    tree.image("team/large", builders.image(base, large(1)), "2")
    tree.image("team/oci", builders.image(base, oci=True), "1")
    tree.image("team/zlast", builders.image(large(1), large(1)), "1")
    command(tmp_path / "data", f"run registry-tree:{tree.root}")
    return tree


def tags(data: Path) -> dict[str, str]:
    """Return every tag of a registry, and its manifest."""
    registry = open_registry(Settings(data=data))
    names = registry.repositories.list(last="", limit=99).rows
    found = {
        f"{name}:{tag}": str(registry.manifests.find(name, tag).digest)
        for name in names
        for tag in registry.tags.list_all(name)
    }
    registry.close()
    return found


def inventory(data: Path, path: Path) -> Path:
    """Write the inventory of a registry."""
    done = CliRunner().invoke(main, ["inventory", "-o", str(path), "--data", str(data)])
    assert done.exit_code == 0, done.output
    return path


@pytest.mark.slow
def test_there_and_back(tmp_path: Path) -> None:
    """All digests stay, no volume exceeds its size, and the second export and import do nothing."""
    folder, data = tmp_path / "out", tmp_path / "data"
    line = f"volumes:{folder} --volume 2M"
    assert "dualreg migrate run volumes:" in export(data, line).stdout
    volumes = sorted(folder.glob("volume-*.tar"))
    assert len(volumes) >= 4
    assert all(path.stat().st_size <= 2 * MIB for path in volumes)
    before = {path.name: path.stat() for path in volumes}
    assert "6 same" in export(data, line).stdout
    assert {path.name: path.stat() for path in sorted(folder.glob("volume-*.tar"))} == before
    command(tmp_path / "there", f"run volumes:{folder}")
    command(tmp_path / "there", f"verify volumes:{folder}")
    assert tags(tmp_path / "there") == tags(data)
    assert "7 same" in command(tmp_path / "there", f"run volumes:{folder}").output
    registry = open_registry(Settings(data=tmp_path / "there"))
    app = RepositoryName("team/app")
    assert registry.referrers.list(app, registry.manifests.find(app, Tag("latest")).digest).rows
    registry.close()


@pytest.mark.slow
def test_only_what_is_missing(tree: stock_trees.StockTree, tmp_path: Path) -> None:
    """Blobs of the inventory are left out; without them, an import says so; later exports add volumes."""
    folder, data, there = tmp_path / "out", tmp_path / "data", tmp_path / "there"
    command(there, f"run registry-tree:{tree.root} --include team/large:2")
    have = inventory(there, tmp_path / "have")
    export(data, f"volumes:{folder} --have {have}")
    size = (folder / "volume-0001.tar").stat().st_size
    assert 7 * MIB < size < 7.5 * MIB
    command(there, f"run volumes:{folder}")
    assert tags(there) == tags(data)
    output = command(tmp_path / "other", f"run volumes:{folder}", code=1).output
    assert "team/oci:1: failed: unreadable" in output
    assert "left out of the volumes" in output
    tree.image("team/new", builders.image(stock_trees.LAYERS["p"]), "1")
    command(data, f"run registry-tree:{tree.root}")
    export(data, f"volumes:{folder}")
    assert (folder / "volume-0002.tar").stat().st_size < 2.5 * MIB  # and what was left out
    command(tmp_path / "other", f"run volumes:{folder}")
    assert tags(tmp_path / "other") == tags(data)


@pytest.mark.slow
def test_volumes_that_are_missing_or_cut(tmp_path: Path) -> None:
    """It is said which; what does not need them is imported, and the next import goes on with the rest."""
    folder, there = tmp_path / "out", tmp_path / "there"
    export(tmp_path / "data", f"volumes:{folder} --volume 2M")
    listed = read_inventory((folder / "inventory").read_text().splitlines()).blobs.values()
    wanted = next(held.volumes for held in listed if len(held.volumes) > 1)
    lost, cut = (folder / f"volume-{number:04}.tar" for number in wanted[1:3])
    shutil.move(lost, tmp_path / "elsewhere")
    whole = cut.read_bytes()
    cut.write_bytes(whole[: MIB // 2])
    findings = json.loads(command(there, f"inspect volumes:{folder} --json", code=1).stdout)["findings"]
    texts = {each["where"]: each["text"] for each in findings if each["kind"] == "unreadable"}
    assert texts.keys() == {lost.name, cut.name}
    assert texts[lost.name] == "the volume is missing"
    assert texts[cut.name].startswith("the volume is damaged or incomplete")
    output = command(there, f"run volumes:{folder}", code=1).output
    assert "team/large:1: failed: unreadable" in output
    assert f"it is in {lost.name}: the volume is missing" in output
    assert tags(there).keys() == tags(tmp_path / "data").keys() - {"team/large:1"}
    shutil.move(tmp_path / "elsewhere", lost)
    damaged = bytearray(whole)
    damaged[MIB] ^= 1
    cut.write_bytes(damaged)
    assert "team/large:1: failed: corrupt" in command(there, f"run volumes:{folder}", code=1).output
    cut.write_bytes(whole)
    assert "1 done" in command(there, f"run volumes:{folder}").output
    assert tags(there) == tags(tmp_path / "data")
    (folder / "inventory").unlink()
    assert "copy it with the volumes" in command(there, f"run volumes:{folder}", code=2).output


@pytest.mark.slow
def test_an_export_that_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Complete volumes stay; the next export goes on, and what it makes is complete."""
    folder, data, add = tmp_path / "out", tmp_path / "data", VolumesTarget.blob
    last = list[Digest]()

    def blob(self: VolumesTarget, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        if repository == "team/zlast":
            last.append(digest)
            if len(last) == 3:
                raise RuntimeError
        return add(self, repository, digest, source)

    monkeypatch.setattr(VolumesTarget, "blob", blob)
    with pytest.raises(RuntimeError):
        export(data, f"volumes:{folder} --volume 2M")
    complete = {path.name: path.stat() for path in folder.glob("volume-*")}
    listed = read_inventory((folder / "inventory").read_text().splitlines())
    assert listed.volumes == len(complete) >= 4
    for number in (98, 99):  # of a blob that was not complete
        (folder / f"volume-00{number}.tar").write_bytes(b"")
    (folder / ".volume-0003.tar.left").write_bytes(b"")
    export(data, f"volumes:{folder} --volume 2M")
    assert not [*folder.glob("volume-009*"), *folder.glob(".volume*")]
    assert complete.items() <= {path.name: path.stat() for path in folder.glob("volume-*")}.items()
    command(tmp_path / "there", f"run volumes:{folder}")
    assert tags(tmp_path / "there") == tags(data)


@pytest.mark.slow
def test_a_damaged_blob(tmp_path: Path) -> None:
    """Its tag is not exported; nothing of it is in a volume, and everything else is."""
    folder, data = tmp_path / "out", tmp_path / "data"
    registry = open_registry(Settings(data=data))
    row = registry.manifests.find(RepositoryName("team/large"), Tag("2"))
    layer = json.loads(registry.documents.read(row.digest))["layers"][1]["digest"]
    registry.close()
    path = stock_trees.StockTree(data).data(Digest.parse(layer))
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    assert "team/large:2: failed: corrupt" in export(data, f"volumes:{folder}", code=1).stdout
    command(tmp_path / "there", f"run volumes:{folder}")
    assert tags(tmp_path / "there").keys() == tags(data).keys() - {"team/large:2"}
    listed = subprocess.run(
        ["tar", "tf", folder / "volume-0001.tar"], capture_output=True, text=True, check=True
    )
    assert layer.removeprefix("sha256:") not in listed.stdout


@pytest.mark.slow
def test_a_manifest_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever carries volumes cannot have any amount of bytes read into memory."""
    export(tmp_path / "data", f"volumes:{tmp_path / 'out'}")
    monkeypatch.setattr(layout_files, "DOCUMENT_LIMIT", 100)
    result = command(tmp_path / "there", f"run volumes:{tmp_path / 'out'}", code=None)
    assert "it has more than 100 bytes" in result.output


@pytest.mark.slow
def test_other_programs_read_it(tmp_path: Path) -> None:
    """Extracted, and its parts joined, it is an OCI layout."""
    require("skopeo", package="skopeo")
    folder, data = tmp_path / "out", tmp_path / "data"
    export(data, f"volumes:{folder} --volume 2M")
    script = (Path(__file__).parents[2] / "docs/volumes.md").read_text()
    script = script.partition("```sh\n")[2].partition("```")[0]
    subprocess.run(["sh", "-e", "-c", script], cwd=folder, check=True)
    command(tmp_path / "there", f"run oci-layout:{folder}")
    assert content(tmp_path / "there").keys() == content(data).keys()
    copy = ["skopeo", "copy", f"oci:{folder}:team/oci:1", f"dir:{tmp_path / 'copied'}"]
    subprocess.run(copy, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("oci-layout:x --volume 1G", "require the target volumes:PATH"),
        ("volumes:x --volume 1k", "expected 1M or more"),
        ("volumes:x --volume big", "expected a number of bytes"),
        ("volumes:x --have pyproject.toml", "not an inventory"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    """Before anything is opened or written."""
    assert reason in export(tmp_path / "data", line, code=2).output
    assert not Path("x").exists()
