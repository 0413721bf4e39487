"""An image that one generation of clients pushed is pushed again by another, as the daemon has stored it."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from dualreg.cli import main
from dualreg.errors import ChecksumMismatch, ImageExists
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.v1_image import payload_hasher
from dualreg.registry import Registry
from tests import builders
from tests.builders import V1Pushed
from tests.protocol.clients import graph
from tests.protocol.clients.generation import SCHEMA1_RELEASES, V1_RELEASES, Generation
from tests.protocol.clients.schema1 import Schema1Client, digest_of, push_chain
from tests.protocol.clients.tarsum import unpacked
from tests.protocol.clients.v1 import V1Client
from tests.protocol.conftest import Served
from tests.protocol.everyone import first_schema2_push

LAYERS = [builders.layer({name: name.encode() * 90}) for name in "abc"]
every_release = pytest.mark.parametrize("generation", SCHEMA1_RELEASES, ids=lambda release: release.version)


@pytest.fixture
def name() -> str:
    """A repository that no other test uses, of the kind old clients can name."""
    return f"team/r{uuid4().hex[:12]}"


def chain_of(seed: str) -> list[V1Pushed]:
    """Return a chain with what daemons since 1.8 drop, add, and write differently."""
    chain = []
    for image in builders.v1_chain(*LAYERS, seed=seed):
        document = json.loads(image.json)
        document["created"] = "2014-01-02T03:04:05.120000000Z"
        document["config"] |= {"Memory": 1 << 28, "CpuShares": 0, "PortSpecs": None, "Entrypoint": "/run"}
        document["config"] |= {"ExposedPorts": {"80/tcp": {}}, "Labels": {"empty": ""}, "Tty": False}
        document["container_config"] |= {"Cpuset": "0-1", "Hostname": "", "OnBuild": []}
        chain.append(replace(image, json=json.dumps(document, indent=1).encode()))
    return chain


def v1_ids(served: Served, name: str, tag: str) -> list[str]:
    """Return what a V1 client pulls, base first."""
    return [image.id for image in V1Client(served.host).pull(name, tag)]


@every_release
def test_what_v1_pushed_stays_visible(
    served: Served, name: str, behind: Registry, generation: Generation
) -> None:
    """V1 clients find the same ids, JSONs and layers after Docker 1.6 to 1.9 pushed the image again."""
    chain = chain_of(name)
    V1Client(served.host).push(name, "latest", chain)
    again = graph.stored_chain(chain)
    assert all(one.json != two.json and one.layer != two.layer for one, two in zip(chain, again, strict=True))
    Schema1Client(served.host, generation).push(name, "latest", again)
    pulled = V1Client(served.host).pull(name, "latest")
    assert [(image.id, image.json, image.layer) for image in pulled] == [
        (image.id, image.json, image.layer) for image in chain
    ]
    assert behind.bridge.unseen(RepositoryName(name)) == ()
    assert V1Client(served.host).push(name, "other", chain) == []


@every_release
def test_a_v1_push_over_what_came_by_v2(served: Served, name: str, generation: Generation) -> None:
    """Nothing is sent again, and both tags are the one image to either generation."""
    chain = graph.stored_chain(chain_of(name))
    digest = Schema1Client(served.host, generation).push(name, "new", chain)
    assert V1Client(served.host).push(name, "old", chain_of(name)) == []
    ids = [image.id for image in chain]
    assert v1_ids(served, name, "old") == v1_ids(served, name, "new") == ids
    headers = {"User-Agent": generation.agent}
    answer = Schema1Client(served.host, generation).wire.send("GET", f"/v2/{name}/manifests/old", headers)
    assert answer.headers["docker-content-digest"] == digest


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(4))
def test_both_at_once(served: Served, name: str, round_: int) -> None:
    """A V1 push, and a V2 push of what another daemon made of the image: neither fails, both are seen."""
    chain, host = chain_of(name), served.host
    old, new = V1_RELEASES[2 + round_], SCHEMA1_RELEASES[round_]

    def look() -> None:
        for _ in range(10):
            V1Client(host).wire.send("GET", f"/v1/repositories/{name}/images", {})

    with ThreadPoolExecutor(3) as pool:
        pushes = [
            pool.submit(V1Client(host, generation=old).push, name, "one", chain),
            pool.submit(Schema1Client(host, new).push, name, "two", graph.stored_chain(chain)),
            pool.submit(look),
        ]
        for push in pushes:
            push.result()
    ids = [image.id for image in chain]
    assert v1_ids(served, name, "one") == v1_ids(served, name, "two") == ids


def test_a_push_that_a_derived_image_overtakes(registry: Registry) -> None:
    """It arrives over V2 while a V1 client sends it: the checksum of that client covers its own JSON."""
    name, chain = RepositoryName("team/app"), chain_of("overtaken")
    for image in chain:
        registry.v1_images.begin(name, image.id, image.json)
    push_chain(registry, name, "new", graph.stored_chain(chain))
    assert registry.bridge.tags(name) == {"new": chain[-1].id}
    for image in chain:
        checksum = payload_hasher(image.json)
        checksum.update(image.layer)
        with pytest.raises(ImageExists):
            registry.v1_images.put_layer(name, image.id, [builders.layer({"other": b"files"})])
        registry.v1_images.put_layer(name, image.id, [image.layer])
        registry.v1_images.put_checksum(name, image.id, checksum.digest())
    registry.bridge.tag(name, Tag("old"), chain[-1].id)
    assert registry.bridge.tags(name) == dict.fromkeys(("new", "old"), chain[-1].id)


def test_a_push_that_is_overtaken_before_its_checksums(registry: Registry) -> None:
    """The layers that a V1 client has sent are found by its checksums, though the images are others now."""
    name, chain = RepositoryName("team/app"), chain_of("overtaken")
    for image in chain:
        registry.v1_images.begin(name, image.id, image.json)
        registry.v1_images.put_layer(name, image.id, [image.layer])
    push_chain(registry, name, "new", graph.stored_chain(chain))
    assert registry.bridge.tags(name) == {"new": chain[-1].id}
    for image in chain:
        checksum = payload_hasher(image.json)
        checksum.update(image.layer)
        with pytest.raises(ChecksumMismatch):
            registry.v1_images.put_checksum(name, image.id, payload_hasher(b"{}").digest())
        registry.v1_images.put_checksum(name, image.id, checksum.digest())
    registry.bridge.tag(name, Tag("old"), chain[-1].id)
    assert registry.bridge.tags(name) == dict.fromkeys(("new", "old"), chain[-1].id)


def _change(member: str, value: Any) -> Callable[[list[V1Pushed]], list[V1Pushed]]:
    """Return what changes a member of the configuration of the top."""

    def change(chain: list[V1Pushed]) -> list[V1Pushed]:
        document = json.loads(chain[-1].json)
        document["config"][member] = value
        return [*chain[:-1], replace(chain[-1], json=json.dumps(document).encode())]

    return change


def _files(chain: list[V1Pushed]) -> list[V1Pushed]:
    return [*chain[:-1], replace(chain[-1], layer=builders.layer({"other": b"files"}))]


def _parent(chain: list[V1Pushed]) -> list[V1Pushed]:
    document = json.loads(chain[-1].json)
    document["parent"] = chain[0].id
    return [chain[0], replace(chain[-1], json=json.dumps(document).encode())]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        _change("Cmd", ["/bin/evil"]),
        _change("Cmd", []),
        _change("Env", ["PATH=/bin", ""]),
        _change("ExposedPorts", {"80/tcp": {}, "22/tcp": {}}),
        _change("Labels", {}),
        _change("Tty", value=True),
        _files,
        _parent,
    ],
)
def test_what_has_another_meaning_is_not_shown(
    served: Served, name: str, behind: Registry, change: Callable[[list[V1Pushed]], list[V1Pushed]]
) -> None:
    """Its tag is not seen over V1, which commands say; other tags stay what they were."""
    chain = chain_of(name)
    V1Client(served.host).push(name, "good", chain)
    Schema1Client(served.host, SCHEMA1_RELEASES[2]).push(name, "evil", graph.stored_chain(change(chain)))
    tags = V1Client(served.host).wire.send("GET", f"/v1/repositories/{name}/tags", {})
    assert json.loads(tags.body) == {"good": chain[-1].id}
    assert v1_ids(served, name, "good") == [image.id for image in chain]
    assert behind.bridge.unseen(RepositoryName(name)) == ("evil",)
    runner = CliRunner(env={"DUALREG_DATABASE": served.database})
    shown = runner.invoke(main, ["repository", "show", name, "--data", str(served.data)])
    assert shown.output.splitlines()[-1] == "V1 clients do not see evil."


def test_the_log_says_that_a_tag_is_not_seen(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """It names the repository, the tags and the ID."""
    name, chain = RepositoryName("team/app"), builders.v1_chain(LAYERS[0])
    push_chain(registry, name, "a", chain)
    push_chain(registry, name, "b", _change("Cmd", ["x"])(chain))
    assert registry.bridge.tags(name) == {"a": chain[-1].id}
    expected = "team/app: V1 clients do not see b: the repository has another image with the ID "
    assert [record.message for record in caplog.records] == [expected + chain[-1].id]


def test_computed_ids_do_not_depend_on_the_history(registry: Registry) -> None:
    """Docker 1.10 computes ids for schema 1 from layers alone: images on the same ones are both seen."""
    name, layer = RepositoryName("team/app"), LAYERS[0]
    base = digest_of(f"{digest_of(layer).partition(':')[2]} ".encode()).partition(":")[2]
    for tag in ("a", "b"):
        top = digest_of(tag.encode()).partition(":")[2]
        documents: list[dict[str, Any]] = [
            {
                "id": base,
                "created": f"2016-01-0{ord(tag) - 96}T00:00:00Z",
                "container_config": {"Cmd": [tag]},
            },
            {"id": top, "parent": base, "created": "2016-02-01T00:00:00Z", "config": {"Cmd": [tag]}},
        ]
        chain = [
            V1Pushed(document["id"], json.dumps(document).encode(), data)
            for document, data in zip(documents, (layer, LAYERS[1]), strict=True)
        ]
        push_chain(registry, name, tag, chain)
    assert [*registry.bridge.tags(name)] == ["a", "b"]


def test_what_docker_1_10_pulled_over_v1(served: Served, name: str) -> None:
    """It pushes schema 2 with a config without a type: V1 clients see the ids that it would push itself."""
    V1Client(served.host).push(name, "latest", chain_of(name))
    layers = [graph.compressed(unpacked(layer)) for layer in LAYERS]
    first_schema2_push(served.host, name, "latest", layers)
    image = builders.image(*layers, author=f"1.10 {name}")
    pulled = V1Client(served.host).pull(name, "latest")
    assert pulled[-1].id == Digest.of(image.config).hex
    assert [each.layer for each in pulled] == layers
