"""Fixtures: dualreg behind the repository's nginx configuration."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.nginx.site import Site, make_certificate, nginx_site
from tests.programs import dualreg_server, require


class Front(NamedTuple):
    """nginx in front of dualreg; *direct* is where dualreg itself listens, HOST:PORT."""

    site: Site
    direct: str
    data: Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, which is its own authority."""
    require("nginx", package="nginx")
    require("openssl", package="openssl")
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def front(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """dualreg.conf, with nginx sending the blobs."""
    folder = tmp_path_factory.mktemp("front")
    data = folder / "data"
    with (
        dualreg_server(data, x_accel_prefix="/_blobs") as direct,
        nginx_site("dualreg.conf", folder / "nginx", certificate, direct, data) as site,
    ):
        yield Front(site, direct, data)
    shutil.rmtree(data)
