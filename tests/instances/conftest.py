"""Fixtures: three instances over what each kind of storage can share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instances.fleet import Fleet, fleet, shared_storage
from tests.nginx.site import make_certificate
from tests.programs import require

#: Kinds of storage, as parameters of a fixture.
STORAGES = ["folder", pytest.param("bucket", marks=pytest.mark.s3)]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1."""
    require("nginx", package="nginx")
    require("openssl", package="openssl")
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module", params=STORAGES)
def three(
    request: pytest.FixtureRequest, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Three instances without accounts."""
    folder = tmp_path_factory.mktemp("fleet")
    with shared_storage(request.param, folder) as settings, fleet(folder, certificate, settings) as made:
        yield made
