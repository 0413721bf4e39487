"""An installed package finds its migrations: beside the package in a checkout, inside it in a wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.programs import STRICT

CHECKOUT = Path(__file__).parents[2]
#: What pip says when the package index cannot be reached, or has not what the build needs.
_OFFLINE = ("No matching distribution found", "Could not find a version", "Failed to establish")


def _pip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments)], check=False, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout; its build backend comes from the package index."""
    folder = tmp_path_factory.mktemp("wheel")
    built = _pip("wheel", "--no-deps", "--wheel-dir", folder, CHECKOUT)
    output = built.stdout + built.stderr
    if built.returncode and any(sign in output for sign in _OFFLINE) and not os.environ.get(STRICT):
        pytest.skip("needs the package index, for the build backend")
    assert built.returncode == 0, output[-4000:]
    (made,) = folder.glob("dualreg-*.whl")
    return made


@pytest.mark.slow
def test_a_wheel_carries_every_migration(wheel: Path) -> None:
    """The environment script and each version are inside the package, and nothing is beside it."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    migrations = {
        f"dualreg/{path.relative_to(CHECKOUT)}": path.read_bytes()
        for path in (CHECKOUT / "migrations").rglob("*.py")
    }
    assert len(migrations) > 1
    assert {name: packed.get(name) for name in migrations} == migrations
    assert {name.partition("/")[0].partition("-")[0] for name in packed} == {"dualreg"}


@pytest.mark.slow
def test_a_wheel_is_marked_as_typed(wheel: Path) -> None:
    """So that type checkers of other projects read our annotations (PEP 561)."""
    with zipfile.ZipFile(wheel) as archive:
        assert "dualreg/py.typed" in archive.namelist()


@pytest.mark.slow
def test_an_installed_package_upgrades_a_catalog(wheel: Path, tmp_path: Path) -> None:
    """Installed into a folder of its own, the command upgrades a catalog with its own migrations."""
    target = tmp_path / "installed"
    installed = _pip("install", "--no-deps", "--no-index", "--target", target, wheel)
    assert installed.returncode == 0, installed.stderr
    env = {"PYTHONPATH": str(target)}
    where = subprocess.run(
        [sys.executable, "-c", "from dualreg.catalog import upgrade as u; print(u._migrations())"],
        check=True, capture_output=True, text=True, cwd=tmp_path, env=env,
    )  # fmt: skip
    assert where.stdout.strip() == str(target / "dualreg" / "migrations")
    upgraded = subprocess.run(
        [sys.executable, "-m", "dualreg", "db", "upgrade", "--data", str(tmp_path / "data")],
        check=False, capture_output=True, text=True, cwd=tmp_path, env=env,
    )  # fmt: skip
    assert (upgraded.returncode, upgraded.stderr) == (0, f"Registry: {tmp_path / 'data'} (--data)\n")
    assert upgraded.stdout.startswith("Upgraded None to ")
    assert (tmp_path / "data" / "catalog.sqlite3").is_file()
