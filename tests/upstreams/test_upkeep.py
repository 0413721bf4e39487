"""What keeps a registry in order knows that manifests from upstream may lack what they name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.cli import main
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from tests import builders
from tests.upstreams.world import IMAGE, OTHER, There, here

NAME = RepositoryName("hub/team/app")


@pytest.fixture(scope="module")
def there(there: There) -> There:
    """The reference registry, with an index of its image and another one."""
    there.put("team/app", OTHER)
    there.put_manifest("team/app", "all", builders.index(IMAGE, OTHER), media_types.OCI_INDEX)
    return there


def _run(data: Path, *arguments: str) -> None:
    done = CliRunner().invoke(main, [*arguments, "--data", str(data)])
    assert done.exit_code == 0, done.output


def _collect(data: Path) -> Path:
    _run(data, "gc", "--full")
    return data


def _restore(data: Path) -> Path:
    _run(data, "backup", str(data.parent / "backup"))
    _run(data.parent / "restored", "restore", str(data.parent / "backup"))
    return data.parent / "restored"


def _rebuild(data: Path) -> Path:
    for file in data.glob("catalog.sqlite3*"):
        file.unlink()
    _run(data, "db", "rebuild")
    return data


@pytest.mark.slow
@pytest.mark.parametrize("act", [_collect, _restore, _rebuild])
def test_upkeep(there: There, tmp_path: Path, act: Callable[[Path], Path]) -> None:
    """Nothing is damaged before or after; what was lacking comes when it is asked for, and tags follow."""
    data = tmp_path / "data"
    url = f"http://{there.host}"
    with here(data, url) as opened:
        for reference in ("1", "all"):
            assert opened.get(f"{NAME}/manifests/{reference}").status_code == 200
        assert opened.get(f"{NAME}/blobs/{Digest.of(IMAGE.layers[0])}").status_code == 200
    _run(data, "fsck")
    data = act(data)
    _run(data, "fsck")
    with here(data, url, check_interval="0s") as opened:
        assert opened.registry.repositories.upstream(NAME) == url
        opened.pull(NAME, IMAGE, "1")
        opened.pull(NAME, OTHER, str(OTHER.digest))
        with opened.registry.state.catalog.read() as tx:
            assert not tx.manifests.awaits_any(1)
    _run(data, "fsck")
