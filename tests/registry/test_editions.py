"""Which form of an image a client gets, cell by cell, and what is made for it."""

import re

import pytest

from dualreg.catalog.tables import ManifestViews
from dualreg.image import media_types
from dualreg.image.editions import Edition, Family
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import LINUX_AMD64, Platform
from dualreg.image.schema1 import KIND, kind_for
from dualreg.registry import Registry
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.editions import Form, Nature, suitable
from tests import builders
from tests.properties.registries import push_v2

DOCKER, OCI = media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST
LIST, INDEX, SCHEMA1 = media_types.DOCKER_LIST, media_types.OCI_INDEX, media_types.SCHEMA1_SIGNED
UBUNTU = "go/go1.18 git-commit/5d6db84 kernel/5.15.0 os/linux arch/amd64 UpstreamClient(Docker-Client/20.10)"
AGENTS = {
    "docker/1.9.1 go/go1.4.3 git-commit/a34a1d5 kernel/3.13 os/linux arch/arm": (True, False, "linux/arm"),
    "docker/1.6.2": (True, False, "linux/amd64"),
    "docker/1.10.3 go/go1.5.3 os/linux arch/arm64": (False, False, "linux/arm64"),
    "docker/17.09.1-ce go/go1.8.3 os/windows arch/amd64 UpstreamClient(x)": (False, False, "windows/amd64"),
    f"docker/20.10.24+dfsg1 {UBUNTU}": (False, False, "linux/amd64"),
    "docker/20.10.0-dev": (False, False, "linux/amd64"),
    "docker/22.06.0-beta.0 go/go1.18": (False, False, "linux/amd64"),
    f"docker/23.0.0 {UBUNTU}": (False, True, "linux/amd64"),
    "docker/28.1.1 go/go1.24 os/linux arch/s390x": (False, True, "linux/s390x"),
    "docker/0.0.0-20230301-dev go/go1.20 os/linux arch/amd64": (False, True, "linux/amd64"),
    "docker/library-import go/go1.20 os/linux arch/amd64": (False, True, "linux/amd64"),
    "docker/dev": (False, True, "linux/amd64"),
    "containerd/1.6.4": (False, True, "linux/amd64"),
    "containerd/v1.5.0": (False, True, "linux/amd64"),
    "containerd/v1.4.13-k3s1": (False, False, "linux/amd64"),
    "containerd/1.4.0+unknown": (False, False, "linux/amd64"),
    "containerd/0.0.0+unknown": (False, True, "linux/amd64"),
    "Docker-Client/20.10.24 (linux)": (False, True, "linux/amd64"),
    "": (False, True, "linux/amd64"),
}


@pytest.mark.parametrize("user_agent", AGENTS)
def test_what_a_user_agent_tells(user_agent: str) -> None:
    """Docker says its release and system. Before 23.0, and containerd before 1.5, they read no zstd."""
    agent = Agent.of(user_agent)
    found = agent.schema1_by_default, agent.zstd, str(agent.platform)
    assert found == AGENTS[user_agent]
    assert agent.names_platform is bool(re.match(r"docker/\d.* os/", user_agent))


def accept(*types: str, agent: str = "", wildcard: bool = False, as_stored: bool = False) -> Accept:
    """Return what a client accepts that names *types*."""
    return Accept(frozenset(types), wildcard=wildcard, as_stored=as_stored, agent=Agent.of(agent))


BOTH = (DOCKER, OCI, LIST, INDEX)
CLIENTS = {
    "curl": accept(),
    "no-transform": accept(DOCKER, as_stored=True),
    "1.9": accept(agent="docker/1.9.1"),
    "schema 1": accept(SCHEMA1, "application/json"),
    "1.10": accept(SCHEMA1, DOCKER, LIST, "application/json", agent="docker/1.10.3"),
    "docker types": accept(DOCKER, LIST),
    "20.10": accept(SCHEMA1, *BOTH, agent="docker/20.10.24"),
    "23": accept(SCHEMA1, *BOTH, agent="docker/23.0.1"),
    "28": accept(*BOTH, agent="docker/28.0.0"),
    "containerd 1.4": accept(*BOTH, wildcard=True, agent="containerd/1.4.0+unknown"),
    "containerd": accept(DOCKER, LIST, OCI, INDEX, wildcard=True, agent="containerd/2.1"),
    "oci types": accept(OCI, INDEX),
    "images": accept(DOCKER, OCI),
    "docker images": accept(DOCKER),
    "list beside images": accept(DOCKER, OCI, LIST),
    "indexes": accept(INDEX),
    "schema 1 and indexes": accept(SCHEMA1, INDEX),
    "html": accept("text/html"),
}


def nature(media_type: str, *families: Family, zstd: bool = False, artifact: bool = False) -> Nature:
    """Return what a manifest asks of a client."""
    return Nature(media_type, frozenset(families), zstd=zstd, artifact=artifact)


IMAGES = {
    "schema 1": nature(SCHEMA1),
    "docker": nature(DOCKER, Family.DOCKER),
    "docker zstd": nature(DOCKER, Family.DOCKER, zstd=True),
    "oci": nature(OCI, Family.OCI),
    "oci zstd": nature(OCI, Family.OCI, zstd=True),
    "list": nature(LIST, Family.DOCKER),
    "list zstd": nature(LIST, Family.DOCKER, zstd=True),
    "list of oci": nature(LIST, Family.OCI),
    "index": nature(INDEX, Family.OCI),
    "index zstd": nature(INDEX, Family.OCI, zstd=True),
    "index of docker": nature(INDEX, Family.DOCKER),
    "mixed index": nature(INDEX, Family.DOCKER, Family.OCI),
    "artifact": nature(OCI, artifact=True),
    "plugin": nature(DOCKER, artifact=True),
    "index of artifacts": nature(INDEX, artifact=True),
    "unknown": nature("application/vnd.example+json"),
}
_ = Form.AS_STORED
V, P, G, S, O = Form.SCHEMA1, Form.PLATFORM, Form.GZIP, Form.SCHEMA2, Form.OCI  # noqa: E741 -- a column of one letter each
#: What each client gets of each image, in the order of IMAGES.
TABLE: dict[str, list[Form]] = {
    #                s1 d  dz o  oz l  lz lo i  iz id m  a  p  ia u
    "curl":         [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _],
    "no-transform": [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _],
    "1.9":          [_, V, V, V, V, V, V, V, V, V, V, V, V, V, V, _],
    "schema 1":     [_, V, V, V, V, V, V, V, V, V, V, V, V, V, V, _],
    "1.10":         [S, _, G, S, S, _, G, S, S, S, S, S, S, _, S, _],
    "docker types": [S, _, _, S, S, _, _, S, S, S, S, S, S, _, S, _],
    "20.10":        [S, _, G, _, G, _, G, _, _, G, _, _, _, _, _, _],
    "23":           [S, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _],
    "28":           [S, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _],
    "containerd 1.4": [S, _, G, _, G, _, G, _, _, G, _, _, _, _, _, _],
    "containerd":   [S, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _],
    "oci types":    [O, O, O, _, _, O, O, O, _, _, O, O, _, _, _, _],
    "images":       [S, _, _, _, _, P, P, P, P, P, P, P, _, _, P, _],
    "docker images": [S, _, _, S, S, P, P, P, P, P, P, P, S, _, P, _],
    "list beside images": [S, _, _, _, _, _, _, _, S, S, S, S, _, _, _, _],
    "indexes":      [_, _, _, _, _, O, O, O, _, _, _, _, _, _, _, _],
    "schema 1 and indexes": [_, V, V, V, V, O, O, O, _, _, _, _, V, V, _, _],
    "html":         [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _],
}  # fmt: skip


CELLS = [
    (client, image, form)
    for client, forms in TABLE.items()
    for image, form in zip(IMAGES, forms, strict=True)
]


@pytest.mark.parametrize(("client", "image", "form"), CELLS)
def test_every_cell(client: str, image: str, form: Form) -> None:
    """A client gets what is stored if it reads that, else an edition that it reads."""
    assert suitable(CLIENTS[client], IMAGES[image]) is form


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_reads_everything_gets_what_is_stored(client: str) -> None:
    """What an image asks of a client is found out only for those that may not read it."""
    accepted = CLIENTS[client]
    if accepted.newest and not accepted.only_schema1:
        bare = [Nature(each.media_type) for each in IMAGES.values()]
        assert [suitable(accepted, each) for each in bare] == [
            suitable(accepted, each) for each in IMAGES.values()
        ]


def test_what_editions_are_recorded_as() -> None:
    """Names that the catalog has room for, each of one edition."""
    column = ManifestViews.__table__.c.kind
    tags = [kind_for(Tag(tag)) for tag in ("v1", "a", "A", "1", "x" * 128, "latest")]
    platforms = [Platform(), Platform("windows"), Platform("linux", "arm64"), Platform("x" * 99, "y" * 99)]
    named = [each.kind_for(platform) for each in Edition for platform in platforms]
    kinds = [*Edition, *(kind for each in Edition for kind in (each.kind, each.partial_kind)), *tags, *named]
    assert len({*map(str.casefold, kinds)}) == len(kinds)
    assert max(map(len, kinds)) <= column.type.length
    assert [kind for kind in kinds if kind.startswith(KIND)] == tags
    assert kind_for(Tag("latest")) == "s1-jms6srmohzsn7"  # what is recorded is found by later releases
    assert Edition.GZIP.kind_for(LINUX_AMD64) == "p-fwaowt3nqb7zn"


def test_what_is_counted_has_few_names(registry: Registry) -> None:
    """However many tags of an image clients of schema 1 pull."""
    name = RepositoryName("team/app")
    image, made = (builders.image(builders.layer({tag: b""})) for tag in "ab")
    for tag, each in (("a", image), ("b", made)):
        push_v2(registry, name, Tag(tag), each)
    row = registry.manifests.find(name, image.digest)
    for tag in "ab":
        registry.editions.store(name, row, kind_for(Tag(tag)), made.media_type, made.manifest)
    assert registry.editions.made == {"schema1": 2}
