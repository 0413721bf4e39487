"""Docker Compose starts each shape from the shipped files."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import builders
from tests.clients.tools import Tools, verified
from tests.deploy.compose import compose
from tests.deploy.images import make_nginx, make_postgresql
from tests.nginx.site import make_certificate
from tests.programs import free_port, require

pytestmark = [pytest.mark.client, pytest.mark.slow]

SHAPES = {
    "one process": ("compose.yaml",),
    "nginx": ("compose.yaml", "compose.nginx.yaml"),
    "many instances": ("compose.yaml", "compose.instances.yaml"),
}


@pytest.fixture(scope="module")
def beside(built: Tools) -> Mapping[str, str]:
    """The variables that choose images of nginx and PostgreSQL, which are beside ours."""
    require("nginx", package="nginx")
    require("/usr/lib/podman/aardvark-dns", package="aardvark-dns")
    make_nginx(built, "nginx")
    make_postgresql(built, "postgresql")
    return {"NGINX_IMAGE": "localhost/nginx", "POSTGRES_IMAGE": "localhost/postgresql"}


@pytest.mark.parametrize("shape", SHAPES)
def test_compose_starts_each_shape(
    built: Tools, beside: Mapping[str, str], tmp_path: Path, shape: str
) -> None:
    """Images are pushed and pulled where the files publish a port; of many instances, each does a part."""
    port, plain = free_port(), free_port()
    certificate = make_certificate(tmp_path)
    certificate.rename(tmp_path / "fullchain.pem")
    (tmp_path / "key.pem").rename(tmp_path / "privkey.pem")
    (tmp_path / "privkey.pem").chmod(0o644)
    tmp_path.chmod(0o755)
    variables = {"DUALREG_AUTH": "none", "TLS_DIRECTORY": str(tmp_path), "POSTGRES_PASSWORD": "secret"}
    variables |= beside
    for name in ("DUALREG_PORT", "HTTPS_PORT"):
        variables[name] = f"127.0.0.1:{port}"
    folder = builders.skopeo_folder(tmp_path / "image", builders.image(builders.layer({"a": b"a"})))
    with compose(built, *SHAPES[shape], HTTP_PORT=f"127.0.0.1:{plain}", **variables):
        there = Tools(built.home, f"127.0.0.1:{port}", built.driver)
        for tag in range(4):
            there.push(f"dir:{folder}", name=f"team/app:{tag}")
        there.pull("team/app:3", f"dir:{tmp_path / 'out'}")
        verified(tmp_path / "out")
        containers = built.podman("ps", "--quiet", "--filter", "name=dualreg-dualreg").split()
        assert len(containers) == (3 if shape == "many instances" else 1)
        for container in containers:
            assert "/v2/team/app/" in built.podman("logs", container)
