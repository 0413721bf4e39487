"""Real clients pull through a registry what a reference registry has."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.clients.conftest import dockerd
from tests.clients.stock import stock_registry
from tests.clients.tools import Tools, verified
from tests.programs import dualreg_server
from tests.quick import memory_folder

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def through(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """Clients of a registry that serves another one under ``hub/``, and under all names.

    There, ``library/today`` is OCI, with layers that are compressed with zstd.
    """
    folder = tmp_path_factory.mktemp("upstream")
    with stock_registry(folder / "there", folder) as there:
        archive = folder / "app.tar"
        there.skopeo("copy", f"oci:{layout}:app", f"docker-archive:{archive}:today:1")
        oci = ("--format=oci", "--dest-compress-format=zstd")
        there.push(*oci, f"docker-archive:{archive}", name="library/today:1")
        url = f"http://{there.host}"
        tables = f"hub/*={url}, *=http://localhost:{there.host.rpartition(':')[2]}"
        with (
            dualreg_server(folder / "data", upstreams=tables) as host,
            TemporaryDirectory(prefix="dualreg-", dir=memory_folder()) as home,
        ):
            yield Tools(Path(home), host)


@pytest.mark.slow
def test_skopeo_pulls_through(through: Tools, tmp_path: Path) -> None:
    """By tag and by digest; every blob is as the manifest says."""
    through.pull("hub/library/today:1", f"dir:{tmp_path / 'by-tag'}")
    digest, _ = verified(tmp_path / "by-tag")
    through.pull(f"hub/library/today@{digest}", f"dir:{tmp_path / 'by-digest'}")
    assert verified(tmp_path / "by-digest")[0] == digest


@pytest.mark.slow
def test_one_line_lets_docker_20_10_run_an_image_of_today(through: Tools) -> None:
    """It asks its mirror for the name on Docker Hub, and gets layers that it can read."""
    with dockerd(through.home, f"--registry-mirror=http://{through.host}"):
        through.docker("pull", "-q", "today:1")
        run = ("run", "--rm", "--network=none", "--ulimit=nofile=1024:1024", "today:1")
        assert through.docker(*run) == "hello from layers"
