"""Copies that rsync makes of the folder of a registry in use, and registries that are rebuilt from them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.cli import main
from dualreg.image.digest import Digest
from tests import builders
from tests.maintenance.load import found_in, load
from tests.programs import dualreg_server, require
from tests.protocol.clients.v2 import V2Client
from tests.soak import short_or_long

RELIABILITY = Path(__file__).parents[2] / "docs/reliability.md"
#: Registries, each of which is copied so many times: the longer one is pushed to, the longer a copy takes.
REGISTRIES, ROUNDS = short_or_long((1, 4), (10, 10))
#: What rsync exits with if files vanished while it ran; deletes do that.  Source: rsync(1), EXIT VALUES.
VANISHED = 24


@pytest.fixture(autouse=True)
def _program() -> None:
    require("rsync", package="rsync")


def back_up(data: Path, backups: Path) -> Path:
    """Run the commands that the manual gives; return the folder of the new copy."""
    found = re.search(r"(?:^    .*\n)*^    copy\(\).*\n(?:^    .*\n)*", RELIABILITY.read_text(), re.MULTILINE)
    assert found
    backups.mkdir(exist_ok=True)
    script = found[0].replace("/var/lib/dualreg", str(data)).replace("/backup", str(backups))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (backups / "latest").resolve()


def rebuilt(copy: Path, restored: Path) -> list[tuple[str, str]]:
    """Make the catalog of a copy of *copy*; return the kind and the place of each finding."""
    shutil.rmtree(restored, ignore_errors=True)
    shutil.copytree(copy, restored)
    for file in restored.glob("catalog.sqlite3*"):
        file.unlink()
    done = CliRunner().invoke(main, ["db", "rebuild", "--json", "--data", str(restored)])
    assert done.exit_code in (0, 1), done.output
    document = json.loads(done.stdout)
    assert document["complete"]
    return [(each["kind"], each["where"]) for each in document["findings"]]


@pytest.mark.slow
@pytest.mark.parametrize("registry", range(REGISTRIES))
def test_the_documented_commands_lose_nothing(tmp_path: Path, registry: int) -> None:
    """Whatever instants they catch, what was pushed before they began is whole, and nothing else comes back.

    Clients push, move and delete meanwhile. Each copy shares files with the one before.
    """
    del registry
    data, restored = tmp_path / "data", tmp_path / "restored"
    with dualreg_server(data, workers=2) as host, load(host) as history:
        for _ in range(ROUNDS):
            with history.window() as allowed:
                copy = back_up(data, tmp_path / "backups")
            findings = rebuilt(copy, restored)
            assert {kind for kind, _ in findings} <= {"missing-link"}, findings
            keys = [key for key in allowed if key[0] != "upload"]
            for key, value in found_in(restored, keys).items():
                assert value in allowed[key], f"{key} is {value}, expected one of {allowed[key]}"


@pytest.mark.slow
@pytest.mark.parametrize("registry", range(REGISTRIES))
def test_one_pass_over_everything(tmp_path: Path, registry: int) -> None:
    """Every tag resolves, every blob verifies, and each one that cannot be pulled is named."""
    del registry
    data, copy, restored = tmp_path / "data", tmp_path / "copy", tmp_path / "restored"
    with dualreg_server(data, workers=2) as host, load(host) as history:
        for _ in range(ROUNDS):
            shutil.rmtree(copy, ignore_errors=True)
            with history.window():
                done = subprocess.run(["rsync", "-a", f"{data}/", f"{copy}/"], check=False)
            assert done.returncode in (0, VANISHED)
            findings = rebuilt(copy, restored)
            found_in(restored, [])
            assert {kind for kind, _ in findings} <= {
                "missing-link", "missing-blob", "missing-manifest", "dangling-tag", "broken-image",
            }, findings  # fmt: skip


@pytest.mark.slow
def test_a_tag_that_moved_within_a_second(tmp_path: Path) -> None:
    """Is copied again: all link files have one size, and rsync compares times by the second by default."""
    data, backups = tmp_path / "data", tmp_path / "backups"
    images = [builders.image(builders.layer({"a": os.urandom(9)})) for _ in range(2)]
    link = "docker/registry/v2/repositories/team/app/_manifests/tags/latest/current/link"
    with dualreg_server(data, workers=1) as host:
        for image in images:
            V2Client(host).push("team/app", "latest", image)
            os.utime(data / link, ns=(1_700_000_000_100_000_000 + images.index(image),) * 2)
            copy = back_up(data, backups).rename(backups / str(images.index(image)))
            (backups / "latest").unlink()
            (backups / "latest").symlink_to(copy)
            assert Digest.parse((copy / link).read_text()) == image.digest


@pytest.mark.slow
def test_a_tag_like_a_folder(tmp_path: Path) -> None:
    """Tags may be named as folders of the tree are."""
    data = tmp_path / "data"
    image = builders.image(builders.layer({"a": b"1"}))
    tags = ["_layers", "_manifests", "_v1", "uploads", "blobs"]
    with dualreg_server(data, workers=1) as host:
        for tag in tags:
            V2Client(host).push("uploads/blobs", tag, image)
        copy = back_up(data, tmp_path / "backups")
    assert rebuilt(copy, tmp_path / "restored") == []
    keys = [("tag", "uploads/blobs", tag) for tag in tags]
    assert found_in(tmp_path / "restored", keys) == dict.fromkeys(keys, str(image.digest))
