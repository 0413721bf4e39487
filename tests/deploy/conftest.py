"""Fixtures: the container image, built as the documents say, without a network."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.tools import Tools
from tests.deploy.base import LIBRARIES, make_base
from tests.deploy.homes import container_home
from tests.programs import environment, free_port, require, require_root

ROOT = Path(__file__).parents[2]
IMAGE, BASE = "localhost/dualreg", "localhost/base"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """The clients, in whose store there is the image ``dualreg``; their host is free for it to serve on."""
    require_root()
    require("buildah", package="buildah")
    require("podman", package="podman")
    require("runc", package="runc")
    require("busybox", package="busybox-static")
    with container_home() as home:
        tools = Tools(home, f"127.0.0.1:{free_port()}", os.environ.get("STORAGE_DRIVER", "overlay"))
        if "PYTEST_XDIST_WORKER" in os.environ:
            _build_once(tools, tmp_path_factory.getbasetemp().parent)
        else:
            _build(tools)
        yield tools


def _build_once(tools: Tools, shared: Path) -> None:
    """Build the image, or load what another process of these tests has built, from the folder *shared*."""
    archive, new = shared / "images.tar", tools.home / "images.tar"
    with (shared / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            tools.podman("load", "--quiet", "--input", archive)
            return
        _build(tools)
        tools.podman("save", "--quiet", "--multi-image-archive", "--output", new, IMAGE, BASE)
        shutil.move(new, archive)


def _build(tools: Tools) -> None:
    base, wheels = tools.home / "base", tools.home / "wheels"
    make_base(base)
    container = tools.buildah("from", "scratch")
    tools.buildah("copy", "-q", container, base, "/")
    tools.buildah("config", "--env", f"LD_LIBRARY_PATH={LIBRARIES}", container)
    tools.buildah("commit", "-q", "--rm", container, "base")
    _download(wheels)
    arguments = {"BASE": BASE, "PIP_FIND_LINKS": "/wheels", "PIP_NO_INDEX": "1", "VERSION": "7"}
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    options += ["--isolation=chroot", "--pull=never", "--format=docker", f"--volume={wheels}:/wheels:ro"]
    tools.buildah("build", *options, "--file", ROOT / "deploy/Containerfile", "--tag", IMAGE, ROOT)


def _download(wheels: Path) -> None:
    """Download what the image installs, from where this machine has its packages."""
    wanted = [f"{ROOT}[postgresql,s3]", "hatchling"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels, *wanted]
    subprocess.run(command, check=True, capture_output=True, env=environment(), timeout=300)
