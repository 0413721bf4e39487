"""Fixtures: real images, built once without a network, and a registry to push them to."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from tests.clients.tools import Tools
from tests.programs import dualreg_process, require, running, wait_for
from tests.quick import memory_folder

_APPLETS = ("sh", "ls", "cat", "rm", "mkdir", "echo")


class Served(NamedTuple):
    """A running registry: HOST:PORT, its data folder, and the log of its accesses."""

    host: str
    data: Path
    log: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``dualreg serve``, as anybody would start it."""
    data = tmp_path_factory.mktemp("registry") / "data"
    with dualreg_process(data) as (host, _, log):
        yield Served(host, data, log)
    shutil.rmtree(data)


@pytest.fixture(scope="session")
def tools(served: Served) -> Iterator[Tools]:
    """The clients, speaking to that registry; what they stored is deleted afterwards."""
    # Short: podman takes no more than 50 characters for a run folder, and a socket's path has a limit too.
    with TemporaryDirectory(prefix="dualreg-", dir=memory_folder()) as home:
        yield Tools(Path(home), served.host)


@pytest.fixture(scope="session")
def layout(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout of runnable images.

    ``base`` has busybox with hard links for its applets; ``app`` two layers more, with files removed and
    replaced; ``opaque`` one more, that hides a folder of the layers below; ``arm64`` says so.
    """
    require("buildah", package="buildah")
    require("skopeo", package="skopeo")
    require("umoci", package="umoci")
    require("busybox", package="busybox-static")
    folder = tmp_path_factory.mktemp("images")
    _make_rootfs(folder / "rootfs")
    layout = folder / "layout"
    isolated = ("run", "--isolation", "chroot")

    container = tools.buildah("from", "scratch")
    tools.buildah("copy", container, folder / "rootfs", "/")
    tools.buildah("config", "--cmd", '["/bin/cat", "/greeting"]', container)
    tools.buildah("commit", "-q", container, "base")
    arm = tools.buildah("from", "base")
    tools.buildah("config", "--arch", "arm64", arm)
    tools.buildah("commit", "-q", arm, "arm64")

    container = tools.buildah("from", "base")
    tools.buildah(*isolated, container, "rm", "/removed")
    tools.buildah("commit", "-q", container, "removed")
    container = tools.buildah("from", "removed")
    script = "echo hello from $0 > /greeting; rm -r /data/old; mkdir /data/old; echo 2 > /data/old/new"
    tools.buildah(*isolated, container, "sh", "-c", script, "layers")
    tools.buildah("commit", "-q", container, "app")
    for name in ("base", "app", "arm64"):
        tools.buildah("push", name, f"oci:{layout}:{name}")

    (folder / "hiding").mkdir()
    (folder / "hiding/only").write_text("this\n")
    command = ["umoci", "insert", "--opaque", "--tag", "opaque", "--image", f"{layout}:app"]
    tools.run(*command, folder / "hiding", "/data")
    return layout


def _make_rootfs(rootfs: Path) -> None:
    for name in ("bin", "data/old", "tmp"):
        (rootfs / name).mkdir(parents=True)
    busybox = rootfs / "bin/busybox"
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    busybox.chmod(0o755)
    for applet in _APPLETS:
        os.link(busybox, rootfs / "bin" / applet)
    (rootfs / "greeting").write_text("hello from base\n")
    (rootfs / "removed").write_text("soon\n")
    (rootfs / "data/old/a").write_text("1\n")


@pytest.fixture(scope="session")
def docker(tools: Tools) -> Iterator[Tools]:
    """The clients, with a Docker daemon to talk to."""
    with dockerd(tools.home):
        yield tools


@contextmanager
def dockerd(home: Path, *options: str) -> Iterator[None]:
    """Run a daemon, whose socket and data are in *home*."""
    require("dockerd", "docker", package="docker.io")
    log = home / "dockerd.log"
    place = ["--data-root", home / "docker", "--exec-root", home / "docker-run", "-p", home / "docker.pid"]
    plain = ["--storage-driver", "vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    command = ["dockerd", *place, *plain, *options, "-H", f"unix://{home}/docker.sock"]
    with running(command, log, {"AWS_CA_BUNDLE": ""}) as process:
        wait_for((home / "docker.sock").exists, process, log)
        yield
