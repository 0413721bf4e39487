"""Every generation's client, as something that pushes layers and something that pulls them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from uuid import uuid4

from dualreg.image import media_types
from tests import builders
from tests.protocol.clients.generation import FIRST_SCHEMA2, SCHEMA1_RELEASES, V1_RELEASES, Generation
from tests.protocol.clients.schema1 import Schema1Client
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import DOCKER_1_10, V2Client
from tests.protocol.layers import OLD_LAYERS, files

#: Pushes layers, base first: host, repository, tag, layers.
Push = Callable[[str, str, str, Sequence[bytes]], None]
#: Pulls layers, base first: host, repository, tag.
Pull = Callable[[str, str, str], Sequence[bytes]]


def v1_pusher(generation: Generation) -> Push:
    """Return the V1 push of a release; every release makes images of its own."""

    def push(host: str, name: str, tag: str, layers: Sequence[bytes]) -> None:
        chain = builders.v1_chain(*layers, seed=f"{generation.version} {name}")
        sent = V1Client(host, "me", generation).push(name, tag, chain)
        assert sent == [image.id for image in chain]

    return push


def v1_puller(generation: Generation) -> Pull:
    """Return the V1 pull of a release."""

    def pull(host: str, name: str, tag: str) -> Sequence[bytes]:
        return [image.layer for image in V1Client(host, "me", generation).pull(name, tag)]

    return pull


def today_pusher(*, oci: bool) -> Push:
    """Return the push of today's clients."""

    def push(host: str, name: str, tag: str, layers: Sequence[bytes]) -> None:
        V2Client(host).push(name, tag, builders.image(*layers, oci=oci, author=name))

    return push


def today_pull(host: str, name: str, tag: str) -> Sequence[bytes]:
    """Pull as today's Docker."""
    return V2Client(host).pull(name, tag).layers


V1_PUSHERS: dict[str, Push] = {generation.version: v1_pusher(generation) for generation in V1_RELEASES}
V1_PULLERS: dict[str, Pull] = {generation.version: v1_puller(generation) for generation in V1_RELEASES}
TODAY_PUSHERS: dict[str, Push] = {"schema 2": today_pusher(oci=False), "OCI": today_pusher(oci=True)}
TODAY_PULLERS: dict[str, Pull] = {"today": today_pull}


def schema1_pusher(generation: Generation) -> Push:
    """Return the push of a release with signed schema 1."""

    def push(host: str, name: str, tag: str, layers: Sequence[bytes]) -> None:
        chain = builders.v1_chain(*layers, seed=f"{generation.version} {name}")
        Schema1Client(host, generation, "me").push(name, tag, chain)

    return push


def schema1_puller(generation: Generation) -> Pull:
    """Return the pull of a release that reads schema 1."""

    def pull(host: str, name: str, tag: str) -> Sequence[bytes]:
        return Schema1Client(host, generation, "me").pull(name, tag).layers

    return pull


def first_schema2_push(host: str, name: str, tag: str, layers: Sequence[bytes]) -> None:
    """Push as Docker 1.10, which states no media type of its config."""
    client = V2Client(host, DOCKER_1_10, agent=FIRST_SCHEMA2.agent)
    image = builders.image(*layers, author=f"1.10 {name}")
    client.push(name, tag, builders.relabelled(image, media_types.OCTET_STREAM))


def first_schema2_pull(host: str, name: str, tag: str) -> Sequence[bytes]:
    """Pull as Docker 1.10, which reads schema 1 too: over V1, if V2 has neither."""
    client = V2Client(host, DOCKER_1_10, agent=FIRST_SCHEMA2.agent)
    client.ping()
    found = client.find_manifest(name, tag)
    if found.status == 404:
        return v1_puller(FIRST_SCHEMA2)(host, name, tag)
    if found.headers.get("content-type", "").partition(";")[0] in DOCKER_1_10[:2]:
        return Schema1Client(host, FIRST_SCHEMA2).read(name, tag, found).layers
    return client.pull(name, tag).layers


OLD_PUSHERS: dict[str, Push] = {release.version: schema1_pusher(release) for release in SCHEMA1_RELEASES}
OLD_PUSHERS[FIRST_SCHEMA2.version] = first_schema2_push
OLD_PULLERS: dict[str, Pull] = {release.version: schema1_puller(release) for release in SCHEMA1_RELEASES}
OLD_PULLERS[FIRST_SCHEMA2.version] = first_schema2_pull
#: Of each generation, the newest of V1, the oldest of schema 1, and all of today.
SOME_PUSHERS = TODAY_PUSHERS | dict([*V1_PUSHERS.items()][-1:]) | dict([*OLD_PUSHERS.items()][:1])
SOME_PULLERS = TODAY_PULLERS | dict([*V1_PULLERS.items()][-1:]) | dict([*OLD_PULLERS.items()][:1])


def pushing_once(host: str, pushers: Mapping[str, Push]) -> Callable[[str], str]:
    """Return what gives the repository that a pusher has pushed OLD_LAYERS to: once, for all pullers."""

    @cache
    def push(pusher: str) -> str:
        name = f"team/o{uuid4().hex[:12]}"
        pushers[pusher](host, name, "latest", OLD_LAYERS)
        return name

    return push


def assert_same(pulled: Sequence[bytes], pushed: Sequence[bytes], *, exactly: bool) -> None:
    """Assert that the same files are in the same layers, byte for byte.

    Args:
        exactly: Blank layers must be the same, too; otherwise each side may lack them.
    """
    if not exactly:
        pulled, pushed = ([layer for layer in layers if files(layer)] for layers in (pulled, pushed))
    assert [files(layer) for layer in pulled] == [files(layer) for layer in pushed]
    assert [*pulled] == [*pushed]


def push_by_some(host: str) -> None:
    """Push OLD_LAYERS with each of SOME_PUSHERS, to a repository of its own."""
    for pusher, push in SOME_PUSHERS.items():
        push(host, _repository(pusher), "latest", OLD_LAYERS)


def require_some_pull(host: str) -> None:
    """Assert that all of SOME_PULLERS get what all of SOME_PUSHERS have pushed."""
    for pusher in SOME_PUSHERS:
        for pull in SOME_PULLERS.values():
            assert_same(pull(host, _repository(pusher), "latest"), OLD_LAYERS, exactly=False)


def _repository(pusher: str) -> str:
    return f"team/{pusher.replace(' ', '').lower()}"
