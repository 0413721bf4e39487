"""A follower behind nginx, which sends the blobs of the copy itself."""

import json
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.maintenance.pulls import pull_everything
from tests.maintenance.test_following import following, rsync
from tests.nginx.site import nginx_site
from tests.programs import dualreg_server, require
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire

pytestmark = pytest.mark.client


@pytest.mark.slow
def test_pulls_through_nginx(certificate: Path, tmp_path: Path) -> None:
    """By digest from the copy; what the follower has derived, which is not in the copy, comes from itself."""
    require("rsync", package="rsync")
    data, tree, own = tmp_path / "data", tmp_path / "copy", tmp_path / "own"
    image = builders.image(builders.layer({"a": b"1"}), oci=True)
    with dualreg_server(data, workers=1) as primary:
        V2Client(primary).push("team/app", "latest", image)
        V1Client(primary).push("team/old", "1", builders.v1_chain(builders.layer({"n": b"new"})))
    rsync(data, tree)
    with (
        following(tree, own, x_accel_prefix="/_blobs") as (host, _),
        nginx_site("dualreg.conf", tmp_path / "nginx", certificate, host, tree) as site,
    ):
        for _ in range(2):
            assert len(pull_everything(Wire(site.plain))) == 2
        tags = json.loads(Wire(host).send("GET", "/v1/repositories/team/app/tags").body)
        begun = Wire(host).send("GET", "/v1/repositories/team/app/images", {"X-Docker-Token": "true"})
        session = {"Authorization": f"Token {begun.headers['x-docker-token']}"}
        derived = Wire(host).send("GET", f"/v1/images/{tags['latest']}/json", session).body
        digest = Digest.of(derived)
        assert not (tree / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}").exists()
        assert Wire(site.plain).send("GET", f"/v2/team/app/blobs/{digest}").body == derived
