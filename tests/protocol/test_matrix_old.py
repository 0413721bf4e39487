"""Docker 1.6 to 1.10 among all others: they pull what anybody pushed, and anybody pulls what they did."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests import builders
from tests.protocol.clients.generation import SCHEMA1_RELEASES, Generation
from tests.protocol.clients.schema1 import Schema1Client
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.conftest import Served
from tests.protocol.everyone import (
    OLD_PULLERS,
    OLD_PUSHERS,
    TODAY_PULLERS,
    TODAY_PUSHERS,
    V1_PULLERS,
    V1_PUSHERS,
    assert_same,
    pushing_once,
)
from tests.protocol.layers import AUFS, NO_END, OLD_LAYERS

PUSHERS = V1_PUSHERS | OLD_PUSHERS | TODAY_PUSHERS
PULLERS = V1_PULLERS | OLD_PULLERS | TODAY_PULLERS
#: The cells that have an old client in them.
CELLS = [
    (pusher, puller)
    for pusher in PUSHERS
    for puller in PULLERS
    if pusher in OLD_PUSHERS or puller in OLD_PULLERS
]
every_release = pytest.mark.parametrize("generation", SCHEMA1_RELEASES, ids=lambda release: release.version)


@pytest.fixture(scope="module")
def pushed(served: Served) -> Callable[[str], str]:
    """Give the repository that a pusher has pushed to."""
    return pushing_once(served.host, PUSHERS)


@pytest.fixture
def name() -> str:
    """A repository that no other test uses, of the kind old clients can name."""
    return f"team/s{uuid4().hex[:12]}"


@pytest.mark.parametrize(("pusher", "puller"), CELLS)
def test_every_release_pulls_what_any_release_pushed(
    served: Served, pushed: Callable[[str], str], pusher: str, puller: str
) -> None:
    """The same files in the same layers, byte for byte; blank layers may be added or left out."""
    layers = PULLERS[puller](served.host, pushed(pusher), "latest")
    assert_same(layers, OLD_LAYERS, exactly=False)


@every_release
@pytest.mark.parametrize("pusher", ["0.9.1", "1.6.2", "1.9.1", "1.10.3", "schema 2"])
def test_old_clients_pull_over_v2(
    served: Served, pushed: Callable[[str], str], pusher: str, generation: Generation
) -> None:
    """Schema 1 is written for them; they need not fall back to V1 for what has only gzip layers."""
    pulled = Schema1Client(served.host, generation).pull(pushed(pusher), "latest")
    assert pulled.dialect == "V2"


@every_release
@pytest.mark.parametrize("pusher", ["0.9.1", "1.6.2", "1.9.1", "1.10.3", "schema 2", "OCI"])
def test_old_clients_pull_by_the_digest_that_they_print(
    served: Served, pushed: Callable[[str], str], pusher: str, generation: Generation
) -> None:
    """They verify that it is the digest of what was signed; the same image, also for every other release."""
    client, name = Schema1Client(served.host, generation), pushed(pusher)
    digest, by_tag = client.find_digest(name, "latest"), client.pull(name, "latest")
    for release in SCHEMA1_RELEASES:
        pulled = Schema1Client(served.host, release).pull_digest(name, digest, "latest")
        assert (pulled.ids, pulled.layers) == (by_tag.ids, by_tag.layers)


@every_release
def test_a_digest_outlives_its_tag(served: Served, name: str, generation: Generation) -> None:
    """The image that a release has pulled can be pulled again when the tag is another one, or gone."""
    client = Schema1Client(served.host, generation)
    V2Client(served.host).push(name, "latest", builders.image(NO_END))
    digest = client.find_digest(name, "latest")
    V2Client(served.host).push(name, "latest", builders.image(AUFS))
    assert [*client.pull(name, "latest").layers] == [AUFS]
    assert client.find_digest(name, "latest") != digest
    assert [*client.pull_digest(name, digest, "latest").layers] == [NO_END]


@every_release
def test_ids_stay_what_v1_clients_know(served: Served, name: str, generation: Generation) -> None:
    """A V1 image has its ids in schema 1 too, and an image of schema 1 has them in V1."""
    chain = builders.v1_chain(NO_END, AUFS, seed=name)
    ids = [image.id for image in chain]
    V1Client(served.host).push(name, "latest", chain)
    assert Schema1Client(served.host, generation).pull(name, "latest").ids == ids
    other = f"{name}2"
    Schema1Client(served.host, generation).push(other, "latest", chain)
    assert Schema1Client(served.host, generation).pull(other, "latest").ids == ids
    assert [image.id for image in V1Client(served.host).pull(other, "latest")] == ids


@every_release
def test_what_was_signed_has_one_digest(served: Served, name: str, generation: Generation) -> None:
    """Without signatures, stated on PUT and GET alike; asked for by that digest, it is the same."""
    client = Schema1Client(served.host, generation)
    digest = client.push(name, "latest", builders.v1_chain(NO_END, AUFS, seed=name))
    headers = {"User-Agent": generation.agent}
    for reference in ("latest", digest):
        answer = client.wire.send("GET", f"/v2/{name}/manifests/{reference}", headers)
        assert answer.status == 200
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["content-type"] == "application/vnd.docker.distribution.manifest.v1+prettyjws"


def test_an_old_push_replaces_a_new_one_and_back(served: Served, name: str) -> None:
    """One tag, pushed in turn by clients eleven years apart, is always what the last one pushed."""
    old = Schema1Client(served.host, SCHEMA1_RELEASES[0])
    V2Client(served.host).push(name, "latest", builders.image(NO_END))
    assert [*old.pull(name, "latest").layers] == [NO_END]
    old.push(name, "latest", builders.v1_chain(AUFS, NO_END, seed=name))
    assert [*V2Client(served.host).pull(name, "latest").layers] == [AUFS, NO_END]
    V2Client(served.host).push(name, "latest", builders.image(AUFS))
    assert [*old.pull(name, "latest").layers] == [AUFS]
