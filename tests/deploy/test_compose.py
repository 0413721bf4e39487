"""Docker Compose starts each shape from the shipped files."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import builders
from tests.clients.tools import Tools, verified
from tests.deploy.compose import compose, free_network
from tests.deploy.images import make_nginx, make_postgresql
from tests.nginx.site import make_certificate
from tests.programs import free_port, require

pytestmark = [pytest.mark.client, pytest.mark.slow]

#: Of each shape, the files that start it, and the number of instances.
SHAPES = {
    "one process": (["compose.yaml"], 1),
    "nginx and gunicorn": (["compose.yaml", "compose.nginx.yaml"], 1),
    "many instances": (["compose.yaml", "compose.instances.yaml"], 3),
}


@pytest.fixture(scope="module")
def beside(built: Tools) -> Mapping[str, str]:
    """The variables that choose images of nginx and PostgreSQL, which are beside ours."""
    require("nginx", package="nginx")
    require("/usr/lib/podman/aardvark-dns", package="aardvark-dns")
    make_nginx(built, "nginx")
    make_postgresql(built, "postgresql")
    return {"NGINX_IMAGE": "localhost/nginx", "POSTGRES_IMAGE": "localhost/postgresql"}


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """A folder with a certificate, as nginx expects it."""
    folder = tmp_path / "tls"
    folder.mkdir()
    make_certificate(folder).rename(folder / "fullchain.pem")
    (folder / "key.pem").rename(folder / "privkey.pem")
    (folder / "privkey.pem").chmod(0o644)
    return folder


def test_compose_starts_each_shape(
    built: Tools, beside: Mapping[str, str], tls: Path, tmp_path: Path
) -> None:
    """Images are pushed and pulled where the files publish a port; of many instances, each does a part."""
    pushed = builders.skopeo_folder(tmp_path / "image", builders.image(builders.layer({"a": b"a"})))
    given = {"DUALREG_AUTH": "none", "TLS_DIRECTORY": str(tls), "POSTGRES_PASSWORD": "secret", **beside}
    given["DUALREG_NETWORK"] = free_network()
    for files, instances in SHAPES.values():
        host, plain = (f"127.0.0.1:{free_port()}" for _ in range(2))
        with compose(built, *files, DUALREG_PORT=host, HTTPS_PORT=host, HTTP_PORT=plain, **given):
            there = Tools(built.home, host, built.driver)
            for tag in range(4):
                there.push(f"dir:{pushed}", name=f"team/app:{tag}")
            there.pull("team/app:3", f"dir:{tmp_path / files[-1]}")
            verified(tmp_path / files[-1])
            containers = built.podman("ps", "--quiet", "--filter", "name=dualreg-dualreg").split()
            assert len(containers) == instances
            for container in containers:
                assert "/v2/team/app/" in built.podman("logs", container)
