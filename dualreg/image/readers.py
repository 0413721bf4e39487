"""Readers: the clients that operators name, what each can read, and what of an image it cannot.

A reader stands for releases that read the same. ``obstacles`` says what keeps a reader from the bytes as they
are stored, as any registry would serve them; ``unsolved`` what is left of that where editions are made.

Sources: moby 0.6 to 28 (``distribution/pull_v2.go``, ``layer/layer_store.go``, ``graph/graph.go``),
containerd 1.5 to 2.1 (``docs/containerd-2.0.md``, ``core/remotes/docker``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dualreg.image import media_types
from dualreg.image.facts import V1_IMAGE, ZSTD, Facts, Obstacle

#: Layers that readers know; those compressed with zstd are known, too.
_LAYERS = media_types.V1_LAYERS | {
    media_types.DOCKER_LAYER_FOREIGN,
    media_types.OCI_LAYER_FOREIGN,
    media_types.OCI_LAYER_FOREIGN_TAR,
}
#: What editions solve: a client gets, by tag, one without the obstacle.
SOLVED = frozenset(
    {
        Obstacle.V1,
        Obstacle.SCHEMA1,
        Obstacle.SCHEMA2,
        Obstacle.OCI,
        Obstacle.INDEX,
        Obstacle.ATTESTATIONS,
        Obstacle.ZSTD,
        Obstacle.HISTORY,
    }
)


@dataclass(frozen=True, slots=True)
class Reader:
    """Releases of a client that read the same.

    Attributes:
        name: What operators call it.
        releases: Which ones it stands for.
        manifests: The media types of manifests that it reads.
        zstd: Whether it reads layers compressed with zstd.
        fetches_foreign: Whether it fetches non-distributable layers from their vendor on every system.
        depth: How many layers an image may have; None: as many as the machine can mount.
    """

    name: str
    releases: str
    manifests: frozenset[str]
    zstd: bool = False
    fetches_foreign: bool = False
    depth: int | None = None

    @property
    def reads_configs(self) -> bool:
        """Whether it reads the config itself; others get V1 JSONs that are made of it."""
        return media_types.DOCKER_MANIFEST in self.manifests


_SCHEMA1 = media_types.SCHEMA1_TYPES
_SCHEMA2 = frozenset({media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST})
_OCI = frozenset({media_types.OCI_MANIFEST, media_types.OCI_INDEX})
#: Docker takes 125 layers since 1.10 (``maxLayerDepth``), before that 127 (``MaxImageDepth``), at first 42.
_READERS = (
    Reader(
        "containerd-2.1", "containerd 2.0 and newer, crane, syft, trivy", _SCHEMA2 | _OCI,
        zstd=True, fetches_foreign=True,
    ),
    Reader(
        "containerd-1.7", "containerd 1.5 to 1.7", _SCHEMA1 | _SCHEMA2 | _OCI,
        zstd=True, fetches_foreign=True,
    ),
    Reader("docker-26", "Docker 26 and newer", _SCHEMA2 | _OCI, zstd=True, depth=125),
    Reader("docker-23", "Docker 23 to 25", _SCHEMA1 | _SCHEMA2 | _OCI, zstd=True, depth=125),
    Reader("docker-20.10", "Docker 17.10 to 20.10", _SCHEMA1 | _SCHEMA2 | _OCI, depth=125),
    Reader("docker-1.13", "Docker 1.10 to 17.09", _SCHEMA1 | _SCHEMA2, depth=125),
    Reader("docker-1.9", "Docker 1.6 to 1.9", _SCHEMA1, depth=127),
    Reader("v1", "Docker 0.7.2 to 1.5", frozenset({V1_IMAGE}), depth=127),
    Reader("docker-0.6", "Docker 0.6 to 0.7.1", frozenset({V1_IMAGE}), depth=42),
)  # fmt: skip
#: The readers by name, newest first.
READERS: Mapping[str, Reader] = MappingProxyType({reader.name: reader for reader in _READERS})


def obstacles(reader: Reader, facts: Facts) -> tuple[Obstacle, ...]:
    """Return what keeps a reader from an image as it is stored; nothing: it can read it."""
    if Obstacle.ARTIFACT in facts.obstacles:
        return facts.obstacles
    found = dict.fromkeys(_of_index(reader, facts))
    if facts.image_type:
        found |= dict.fromkeys((*_of_format(reader, facts), *_of_layers(reader, facts)))
    return (*found, *facts.obstacles)


def unsolved(found: Iterable[Obstacle]) -> tuple[Obstacle, ...]:
    """Return those of a reader's obstacles that remain by tag, where editions are made."""
    return tuple(each for each in found if each not in SOLVED)


def _of_index(reader: Reader, facts: Facts) -> Iterable[Obstacle]:
    if facts.media_type not in media_types.INDEXES or facts.media_type in reader.manifests:
        return
    yield Obstacle.OCI if media_types.DOCKER_LIST in reader.manifests else Obstacle.INDEX
    if facts.attestations:
        yield Obstacle.ATTESTATIONS


def _of_format(reader: Reader, facts: Facts) -> Iterable[Obstacle]:
    if facts.image_type not in reader.manifests:
        yield _FORMATS.get(facts.image_type, Obstacle.ARTIFACT)
    if facts.lacks_history and not reader.reads_configs:
        yield Obstacle.HISTORY


_FORMATS = {
    V1_IMAGE: Obstacle.V1,
    media_types.SCHEMA1: Obstacle.SCHEMA1,
    media_types.SCHEMA1_SIGNED: Obstacle.SCHEMA1,
    media_types.DOCKER_MANIFEST: Obstacle.SCHEMA2,
    media_types.OCI_MANIFEST: Obstacle.OCI,
}


def _of_layers(reader: Reader, facts: Facts) -> Iterable[Obstacle]:
    if facts.has_zstd and not reader.zstd:
        yield Obstacle.ZSTD
    if facts.foreign and (not reader.reads_configs or (facts.lacks_foreign and not reader.fetches_foreign)):
        yield Obstacle.FOREIGN
    if any(not (each in _LAYERS or each.endswith(ZSTD)) for each in facts.layer_types):
        yield Obstacle.UNKNOWN_LAYERS
    depth = facts.layers if reader.reads_configs else facts.steps
    if reader.depth is not None and depth > reader.depth:
        yield Obstacle.DEPTH
