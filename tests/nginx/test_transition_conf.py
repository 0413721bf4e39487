"""transition.conf: /v1/ is another registry, everything else is dualreg."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import builders
from tests.nginx.site import Site, nginx_site
from tests.programs import dualreg_server
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire
from tests.protocol.everyone import OLD_PULLERS

pytestmark = pytest.mark.client


class Transition(NamedTuple):
    """nginx in front of two registries; *old* and *new* are where they listen themselves, HOST:PORT."""

    site: Site
    old: str
    new: str


@pytest.fixture(scope="module")
def transition(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transition]:
    """A second dualreg plays the old registry: like it, it speaks V1."""
    folder = tmp_path_factory.mktemp("transition")
    new_data = folder / "new"
    with (
        dualreg_server(folder / "old") as old,
        dualreg_server(new_data, x_accel_prefix="/_blobs") as new,
        nginx_site("transition.conf", folder / "nginx", certificate, new, new_data, old=old) as site,
    ):
        yield Transition(site, old, new)


@pytest.mark.slow
def test_v1_goes_to_the_old_registry(transition: Transition) -> None:
    """A V1 push through nginx is in the old registry, whole, and not in dualreg."""
    chain = builders.v1_chain(builders.layer({"a": b"old"}))
    V1Client(transition.site.plain).push("team/app", "1", chain)
    assert [image.layer for image in V1Client(transition.old).pull("team/app", "1")] == [chain[0].layer]
    assert Wire(transition.new).send("GET", "/v1/repositories/team/app/tags").status == 404
    assert V1Client(transition.site.plain).pull("team/app", "1")[0].json == chain[0].json


def test_v2_goes_to_dualreg(transition: Transition) -> None:
    """A V2 push through nginx is in dualreg, and not in the old registry; nginx sends its blobs."""
    image = builders.image(builders.layer({"a": b"new"}))
    V2Client(transition.site.plain).push("team/next", "1", image)
    assert V2Client(transition.site.plain).pull("team/next", "1").layers == [*image.layers]
    assert Wire(transition.new).send("GET", "/v2/team/next/tags/list").status == 200
    assert Wire(transition.old).send("GET", "/v2/team/next/tags/list").status == 404


@pytest.mark.parametrize("release", OLD_PULLERS)
def test_clients_of_v2_find_what_only_the_old_registry_has(transition: Transition, release: str) -> None:
    """Docker 1.6 to 1.10 fall back to V1, though dualreg does not know the repository at all."""
    layers = [builders.layer({"a": release.encode()})]
    name = f"old/r{release.replace('.', '')}"
    V1Client(transition.old).push(name, "1", builders.v1_chain(*layers, seed=name))
    assert [*OLD_PULLERS[release](transition.site.plain, name, "1")] == layers


def test_both_are_behind_the_same_tls_name(transition: Transition) -> None:
    """Both APIs answer their pings over TLS; the old health check, /_ping, is the old registry's as well."""
    site = transition.site
    assert site.send("GET", "/v1/_ping").headers["x-docker-registry-version"]
    assert site.send("GET", "/v2/").headers["docker-distribution-api-version"] == "registry/2.0"
    asked = [Wire(host).send("GET", "/_ping").body for host in (site.plain, transition.old)]
    assert asked[0] == asked[1]
