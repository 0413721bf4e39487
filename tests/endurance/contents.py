"""What clients push: images of either generation and indexes, made by chance, which can be read back."""

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dualreg.image import media_types
from tests import builders
from tests.builders import Image, V1Pushed
from tests.cuts.client import V1, V2

#: Layers that all clients push, so that repositories share their bytes.
_COMMON = 24


class WrongBytes(Exception):
    """What was pulled is not what was pushed."""


def same(pulled: object, pushed: object, what: str) -> None:
    """Raise WrongBytes, naming *what*, unless both are equal."""
    if pulled != pushed:
        raise WrongBytes(what)


class Content(Protocol):
    """What a tag names."""

    def push(self, v1: V1, v2: V2, repository: str, tag: str) -> None:
        """Push it as a tag, over its own API."""

    def read_v1(self, v1: V1, repository: str, tag: str) -> list[bytes]:
        """Pull it over V1, and return every document and layer.

        Raises:
            WrongBytes: it is something else.
        """

    def read_v2(self, v2: V2, repository: str, tag: str) -> list[bytes]:
        """Pull it over V2, as ``read_v1``."""


@dataclass(frozen=True)
class V2Image:
    """An image that is pushed over V2."""

    image: Image

    def push(self, v1: V1, v2: V2, repository: str, tag: str) -> None:  # noqa: ARG002 -- not of this API
        v2.push(repository, tag, self.image)

    def read_v1(self, v1: V1, repository: str, tag: str) -> list[bytes]:
        pulled = v1.pull(repository, tag)
        same([each.layer for each in pulled], [*self.image.layers], f"layers of {repository}:{tag} over V1")
        return [data for each in pulled for data in (each.json, each.layer)]

    def read_v2(self, v2: V2, repository: str, tag: str) -> list[bytes]:
        pulled, image = v2.pull(repository, tag), self.image
        same(pulled.manifest, image.manifest, f"manifest of {repository}:{tag}")
        same((pulled.config, [*pulled.layers]), (image.config, [*image.layers]), f"{repository}:{tag}")
        return [pulled.manifest, pulled.config, *pulled.layers]


@dataclass(frozen=True)
class Chain:
    """An image that is pushed over V1."""

    images: Sequence[V1Pushed]

    def push(self, v1: V1, v2: V2, repository: str, tag: str) -> None:  # noqa: ARG002 -- not of this API
        v1.push(repository, tag, self.images)

    def read_v1(self, v1: V1, repository: str, tag: str) -> list[bytes]:
        pulled = v1.pull(repository, tag)
        found = [(each.id, each.json, each.layer) for each in pulled]
        same(found, [(each.id, each.json, each.layer) for each in self.images], f"{repository}:{tag} over V1")
        return [data for each in pulled for data in (each.json, each.layer)]

    def read_v2(self, v2: V2, repository: str, tag: str) -> list[bytes]:
        pulled = v2.pull(repository, tag)
        same([*pulled.layers], [each.layer for each in self.images], f"layers of {repository}:{tag} over V2")
        return [pulled.manifest, pulled.config, *pulled.layers]


@dataclass(frozen=True)
class Index:
    """An index of images, the first one of which V1 clients see."""

    images: Sequence[Image]

    @property
    def payload(self) -> bytes:
        """The document."""
        return builders.index(*self.images)

    def push(self, v1: V1, v2: V2, repository: str, tag: str) -> None:  # noqa: ARG002 -- not of this API
        for image in self.images:
            v2.push(repository, str(image.digest), image)
        v2.push_manifest(repository, tag, media_types.OCI_INDEX, self.payload)

    def read_v1(self, v1: V1, repository: str, tag: str) -> list[bytes]:
        return V2Image(self.images[0]).read_v1(v1, repository, tag)

    def read_v2(self, v2: V2, repository: str, tag: str) -> list[bytes]:
        _, payload = v2.pull_manifest(repository, tag)
        same(payload, self.payload, f"index {repository}:{tag}")
        children = [V2Image(image).read_v2(v2, repository, str(image.digest)) for image in self.images]
        return [payload, *(data for child in children for data in child)]


class Maker:
    """Makes contents by chance; equal seeds make equal contents."""

    def __init__(self, seed: str, chance: random.Random) -> None:
        """Make the layers that are common to all makers of *seed*."""
        self._chance, self._made = chance, 0
        common = random.Random(seed)  # noqa: S311 -- to be repeatable
        self._common = [_layer(common, common.choice((100, 5_000, 100_000))) for _ in range(_COMMON)]
        self._chains = [self._seeded(f"{seed} {number}", common) for number in range(_COMMON // 4)]

    def image(self, size: int = 40_000) -> Image:
        """Return an image of one to four layers; those that are not common have up to *size* bytes."""
        layers = dict.fromkeys(self._layer(size) for _ in range(self._chance.randint(1, 4)))
        return builders.image(*layers, oci=self._chance.random() < 0.5)

    def chain(self, size: int = 40_000) -> Chain:
        """Return a V1 image of its own, or one that others push too."""
        if self._chance.random() < 0.3:
            return self._chance.choice(self._chains)
        self._made += 1
        layers = [self._layer(size) for _ in range(self._chance.randint(1, 4))]
        return Chain(builders.v1_chain(*layers, seed=f"{self._chance.random()} {self._made}"))

    def index(self, size: int = 40_000) -> Index:
        """Return an index of one or two images."""
        return Index([self.image(size) for _ in range(self._chance.randint(1, 2))])

    def bytes(self, size: int) -> bytes:
        """Return up to *size* bytes that nothing else has."""
        return self._chance.randbytes(self._chance.randint(100, size))

    def about(self, subject: Image) -> Image:
        """Return an artifact whose subject is *subject*."""
        artifact = builders.image(self._layer(2_000), oci=True)
        document = json.loads(artifact.manifest) | {
            "artifactType": "application/x.test",
            "subject": builders.descriptor(subject.media_type, subject.manifest),
        }
        return replace(artifact, manifest=json.dumps(document).encode())

    def _layer(self, size: int) -> bytes:
        if self._chance.random() < 0.4:
            return self._chance.choice(self._common)
        return _layer(self._chance, self._chance.randint(100, size))

    def _seeded(self, seed: str, common: random.Random) -> Chain:
        return Chain(builders.v1_chain(*common.sample(self._common, 2), seed=seed))


def _layer(chance: random.Random, size: int) -> bytes:
    """Return a gzip layer of one file that cannot be compressed."""
    return gzip.compress(builders.tar({"file": chance.randbytes(size)}), 1, mtime=0)
