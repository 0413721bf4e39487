"""The container image: small, confined, served by itself."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.tools import Failed, Tools
from tests.deploy.conftest import BASE, IMAGE
from tests.programs import until

pytestmark = [pytest.mark.client, pytest.mark.slow]

#: The user of the image.
USER = 10001
#: What the image may add to its base, uncompressed; most of it are SQLAlchemy, boto3 and cryptography.
LIMIT = 160 << 20
#: As little as a container can have: not even a temporary folder in memory.
CONFINED = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")


@contextmanager
def container(tools: Tools, data: Path, image: str = IMAGE, store: str = "store") -> Iterator[str]:
    """Run the image over *data*; yield the name of the container, which is healthy."""
    name = f"dualreg-{time.monotonic_ns()}"
    options = [
        f"--env=DUALREG_BIND={tools.host}",
        "--env=DUALREG_AUTH=none",
        f"--volume={data}:/var/lib/dualreg",
    ]
    tools.podman("run", "-d", "--name", name, *CONFINED, *options, image, store=store)
    try:
        assert until(lambda: is_healthy(tools, name, store), 60), tools.podman("logs", name, store=store)
        yield name
    finally:
        tools.podman("stop", "-t", "40", name, store=store)
        ended = tools.podman("inspect", "--format", "{{.State.ExitCode}}", name, store=store)
        tools.podman("rm", name, store=store)
    assert ended == "0"


def is_healthy(tools: Tools, name: str, store: str) -> bool:
    """Run the health check of the image in a container; return whether it succeeds."""
    try:
        tools.podman("healthcheck", "run", name, store=store)
    except Failed:
        return False
    return True


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of a volume."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o750)
    os.chown(folder, USER, USER)
    return folder


def test_the_image_serves_itself(built: Tools, data: Path) -> None:
    """It is pushed into a registry that runs from it, pulled back, and serves the same data again.

    It adds little to its base, and does not serve other machines before access is configured.
    """
    sizes = [int(built.podman("image", "inspect", "--format", "{{.Size}}", image)) for image in (IMAGE, BASE)]
    assert sizes[0] - sizes[1] < LIMIT
    with pytest.raises(Failed, match="without authentication anyone may push"):
        built.podman("run", "--rm", *CONFINED, IMAGE)
    with container(built, data) as name:
        assert built.podman("exec", name, "dualreg", "health").endswith("can serve.")
        _assert_confined(built, name)
        reference = f"{built.host}/dualreg/dualreg:1"
        built.buildah("push", "--tls-verify=false", "--format=v2s2", IMAGE, f"docker://{reference}")
        pulled = built.podman("pull", "-q", "--tls-verify=false", reference, store="other")
        config = json.loads(built.podman("inspect", pulled, store="other"))[0]
    _assert_configured(config["Config"], config["User"])
    with container(built, data, reference, "other") as name:
        assert built.raw("dualreg/dualreg:1")["config"]["digest"] == f"sha256:{pulled}"
        show = ("dualreg", "repository", "show", "dualreg/dualreg")
        listed = built.podman("exec", name, *show, store="other")
        assert listed.splitlines()[-1].startswith("1 ")


def _assert_confined(tools: Tools, name: str) -> None:
    identity = tools.podman("exec", name, "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in identity.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == fields["Gid"].split() == [str(USER)] * 4
    assert int(fields["CapEff"], 16) == 0
    with pytest.raises(Failed, match="Read-only file system"):
        tools.podman("exec", "--user=0", name, "mkdir", "/tmp/x")


def _assert_configured(config: Mapping[str, object], user: str) -> None:
    assert user == f"{USER}:{USER}"
    assert config["ExposedPorts"] == {"5000/tcp": {}}
    assert config["Volumes"] == {"/var/lib/dualreg": {}}
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert config["Labels"]["org.opencontainers.image.version"] == "7"  # type: ignore[index]
