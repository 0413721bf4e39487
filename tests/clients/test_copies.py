"""Copies that are only read: a follower, and a static tree that nginx serves."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests import builders
from tests.clients.test_migrate import exported
from tests.clients.tools import Failed, Tools, verified
from tests.maintenance.test_following import following, rsync
from tests.nginx.static import static_server
from tests.programs import dualreg_server, require
from tests.protocol.clients.v1 import V1Client

pytestmark = [pytest.mark.client, pytest.mark.slow]


@contextmanager
def follower(data: Path, home: Path) -> Iterator[str]:
    """Follow a copy of the registry; yield HOST:PORT."""
    require("rsync", package="rsync")
    rsync(data, home / "copy")
    with following(home / "copy", home / "own") as (host, _):
        yield host


@contextmanager
def static_tree(data: Path, home: Path) -> Iterator[str]:
    """Serve an export of the registry by nginx alone; yield HOST:PORT."""
    exported(data, f"static-tree:{home / 'static'}")
    with static_server(home / "static", home) as host:
        yield host


@pytest.mark.parametrize("copied", [follower, static_tree])
def test_every_client_pulls(
    copied: Callable[[Path, Path], AbstractContextManager[str]], layout: Path, docker: Tools, tmp_path: Path
) -> None:
    """skopeo, podman, docker with its daemon, and Docker with V1; none of them can push."""
    data = tmp_path / "data"
    chain = builders.v1_chain(builders.layer({"n": b"new"}))
    with dualreg_server(data) as host:
        pusher = Tools(tmp_path / "pusher", host)
        pusher.push("--format=oci", f"oci:{layout}:app", name="team/oci:1")
        pusher.push("--format=v2s2", f"oci:{layout}:app", name="team/v2s2:1")
        V1Client(host).push("team/old", "1", chain)
    with copied(data, tmp_path) as host:
        client = Tools(tmp_path / "home", host)
        for number, name in enumerate(("team/oci:1", "team/v2s2:1", "team/old:1")):
            client.pull(name, f"dir:{tmp_path / str(number)}")
            _, manifest = verified(tmp_path / str(number))
            config = manifest["config"]["digest"]
            reference = f"{host}/{name}"
            pulled = docker.podman("pull", "-q", "--tls-verify=false", reference, store="copies")
            assert f"sha256:{pulled}" == config
            docker.docker("pull", "-q", reference)
            assert docker.docker("image", "inspect", "-f", "{{.Id}}", reference) == config
            docker.docker("rmi", "-f", reference)
        assert [each.id for each in V1Client(host).pull("team/old", "1")] == [each.id for each in chain]
        with pytest.raises(Failed, match="read-only"):
            client.push(f"oci:{layout}:base", name="team/new:1")
