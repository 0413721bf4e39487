"""What ``client-config`` prints makes real clients pull from this server, and through it from others."""

import json
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from tests import builders
from tests.clients.conftest import dockerd
from tests.clients.tools import Tools
from tests.migrate.stock_trees import LAYERS
from tests.programs import dualreg_server, require, running, wait_for
from tests.properties.registries import push_v2
from tests.quick import memory_folder

pytestmark = pytest.mark.client

IMAGE = builders.image(LAYERS["a"])


class Configured(NamedTuple):
    """A server in front of another one; what its clients need is below *root*.

    Attributes:
        home: A folder for clients, whose path is short.
    """

    host: str
    root: Path
    home: Path


@pytest.fixture(scope="module")
def configured() -> Iterator[Configured]:
    """A server that has the other one's content as that of Docker Hub, and of other.example below other/."""
    with TemporaryDirectory(prefix="dualreg-", dir=memory_folder()) as folder:
        home = Path(folder)
        _fill(home / "there", "library/hello", "team/app")
        _fill(home / "data", "own/app")
        with dualreg_server(home / "there") as there:
            config = home / "dualreg.toml"
            config.write_text(
                f'[upstreams."*"]\nurl = "http://{there}"\nnamespaces = ["docker.io"]\n'
                f'[upstreams."other/*"]\nurl = "http://{there}"\nnamespaces = ["other.example"]\n'
            )
            with dualreg_server(home / "data", config=str(config)) as host:
                line = f"client-config --config {config} --url http://{host} --output {home / 'root'}"
                result = CliRunner().invoke(main, line.split(), catch_exceptions=False)
                assert result.exit_code == 0, result.output
                yield Configured(host, home / "root", home)


def _fill(data: Path, *names: str) -> None:
    prepare(Settings(data=data))
    registry = open_registry(Settings(data=data))
    for name in names:
        push_v2(registry, RepositoryName(name), Tag("1"), IMAGE)
    registry.close()


@pytest.mark.slow
def test_podman(configured: Configured) -> None:
    """podman, buildah and skopeo read the drop-in: their library is one."""
    require("skopeo", package="skopeo")
    tools = Tools(configured.home / "podman", configured.host)
    own = tools.home / ".config/containers"  # which is read in place of /etc/containers
    shutil.copytree(configured.root / "etc/containers", own)
    (own / "registries.conf").touch()
    for name in (f"{configured.host}/own/app", "docker.io/library/hello", "other.example/team/app"):
        raw = tools.skopeo("inspect", "--raw", f"docker://{name}:1")
        assert json.loads(raw) == json.loads(IMAGE.manifest)


@pytest.mark.slow
def test_docker(configured: Configured) -> None:
    """The daemon takes the mirror for Docker Hub, and reaches this server without TLS."""
    tools = Tools(configured.home / "docker", configured.host)
    with dockerd(tools.home, f"--config-file={configured.root}/etc/docker/daemon.json"):
        for name in (f"{configured.host}/own/app:1", "hello:1", "team/app:1"):
            tools.docker("pull", "-q", name)
            config = tools.docker("image", "inspect", "-f", "{{.Id}}", name)
            assert config == json.loads(IMAGE.manifest)["config"]["digest"]
        info = json.loads(tools.docker("info", "-f", "{{json .RegistryConfig}}"))
    assert info["Mirrors"] == [f"http://{configured.host}/"]
    assert info["IndexConfigs"][configured.host]["Secure"] is False


@pytest.mark.slow
def test_containerd(configured: Configured) -> None:
    """Ctr reads the same folder as the CRI plugin: it names the registry that it means in ``?ns=``."""
    require("containerd", "ctr", package="containerd")
    home = configured.home / "containerd"
    tools = Tools(home, configured.host)
    place = ["--root", home / "root", "--state", home / "state", "--address", home / "sock"]
    with running(["containerd", *place], home / "log", {"AWS_CA_BUNDLE": ""}) as process:
        wait_for((home / "sock").exists, process, home / "log")
        hosts = ("--hosts-dir", configured.root / "etc/containerd/certs.d")
        for name in (f"{configured.host}/own/app", "docker.io/library/hello", "other.example/team/app"):
            tools.run("ctr", "-a", home / "sock", "content", "fetch", *hosts, f"{name}:1")
        listed = tools.run("ctr", "-a", home / "sock", "images", "ls", "-q")
    assert len(listed.split()) == 3


@pytest.mark.slow
def test_buildkit(configured: Configured) -> None:
    """BuildKit's file, by its parser's language."""
    text = (configured.root / "etc/buildkit/buildkitd.toml").read_text()
    assert tomllib.loads(text) == {
        "registry": {
            configured.host: {"http": True},
            "docker.io": {"mirrors": [configured.host]},
            "other.example": {"mirrors": [configured.host]},
        }
    }
