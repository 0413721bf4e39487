"""Facts: what decides which clients can read the image of a tag, found in its documents alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from dualreg.image import media_types
from dualreg.image.convert import CONFIG_LIMIT
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.editions import is_attestation
from dualreg.image.formats import Role
from dualreg.image.manifest import stored_contents
from dualreg.image.platform import Platform, choose

#: The media type by which ``Facts`` call a V1 image, which has no manifest.
V1_IMAGE = "v1"
#: How the media types of layers end that are compressed with zstd.
ZSTD = ("+zstd", ".zstd")


class Obstacle(StrEnum):
    """Why a client cannot read an image."""

    V1 = "V1 image"
    SCHEMA1 = "schema 1"
    SCHEMA2 = "schema 2"
    OCI = "OCI"
    INDEX = "index"
    ATTESTATIONS = "attestations"
    ZSTD = "zstd layers"
    HISTORY = "no history in the config"
    FOREIGN = "foreign layers"
    UNKNOWN_LAYERS = "layers of an unknown type"
    DEPTH = "too many layers"
    PLATFORM = "not for the platform"
    SPARSE = "sparse index"
    ARTIFACT = "artifact"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides which clients can read the image of a tag.

    Attributes:
        media_type: Of the manifest that the tag points at; ``V1_IMAGE``: there is only a V1 image.
        image_type: Of the manifest of the image, which an index names; empty: there is none.
        layer_types: Of its layers.
        layers: How many layers with files it has.
        steps: How many V1 images Docker 1.6 to 1.9 sees it as.
        attestations: Whether the index lists attestations.
        foreign: Its non-distributable layers.
        lacks_foreign: Whether one of them is neither stored nor fetched from its vendor by Docker's daemon.
        lacks_history: Whether its config has no history.
        obstacles: Those of every reader.
    """

    media_type: str
    image_type: str = ""
    layer_types: frozenset[str] = frozenset()
    layers: int = 0
    steps: int = 0
    attestations: bool = False
    foreign: frozenset[Digest] = frozenset()
    lacks_foreign: bool = False
    lacks_history: bool = False
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def has_zstd(self) -> bool:
        """Whether a layer is compressed with zstd."""
        return any(each.endswith(ZSTD) for each in self.layer_types)


#: Of an image whose documents cannot be read.
DAMAGED = Facts("", obstacles=(Obstacle.DAMAGED,))


class Documents(Protocol):
    """Where the documents of an image are read."""

    def manifest(self, entry: Descriptor) -> tuple[str, bytes] | None:
        """Return media type and payload of the manifest that an index lists; None: it is not there."""

    def config(self, digest: Digest) -> bytes:
        """Return a config."""


def facts_of(media_type: str, payload: bytes, documents: Documents, platform: Platform) -> Facts:
    """Return what decides who can read the image of a tag, given the manifest that it points at.

    Args:
        platform: Of an index, the image for this platform counts.

    Raises:
        ManifestInvalid, ValueError: a document is invalid; and what *documents* raise.
    """
    if media_type not in media_types.INDEXES:
        return _manifest_facts(media_type, payload, documents, platform)
    entries = [child.descriptor for child in stored_contents(media_type, payload).children]
    index = Facts(media_type, attestations=_lists_attestations(parse_object(payload)))
    entry = choose(platform, ((each.platform, each) for each in entries))
    if entry is None:
        return replace(index, obstacles=(Obstacle.PLATFORM,))
    found = documents.manifest(entry)
    if found is None:
        return replace(index, obstacles=(Obstacle.SPARSE,))
    image = _manifest_facts(*found, documents, platform)
    return replace(image, media_type=media_type, attestations=index.attestations)


def _manifest_facts(media_type: str, payload: bytes, documents: Documents, platform: Platform) -> Facts:
    contents = stored_contents(media_type, payload)
    layers = [child.descriptor for child in contents.children if child.role is Role.LAYER]
    if media_type in media_types.SCHEMA1_TYPES:
        return Facts(media_type, media_type, layers=len(layers), steps=len(layers))
    config = next((child.descriptor for child in contents.children if child.role is Role.CONFIG), None)
    if config is None or not media_types.may_be_image(media_type, config.media_type):
        return Facts(media_type, media_type, obstacles=(Obstacle.ARTIFACT,))
    document = {} if (config.size or 0) > CONFIG_LIMIT else parse_object(documents.config(config.digest))
    return image_facts(media_type, layers, document, platform)


def image_facts(
    media_type: str, layers: Sequence[Descriptor], config: Mapping[str, Any], platform: Platform
) -> Facts:
    """Return what decides who can read an image, given its layers, and its config; empty: it is not known."""
    history = config.get("history")
    foreign = (each.digest for each in layers if not media_types.is_distributable(each.media_type))
    return Facts(
        media_type,
        media_type,
        frozenset(layer.media_type for layer in layers),
        len(layers),
        len(history) if isinstance(history, list) and history else len(layers),
        foreign=frozenset(foreign),
        lacks_history=bool(config) and not history,
        obstacles=() if config.get("os") in (platform.os, None, "") else (Obstacle.PLATFORM,),
    )


def _lists_attestations(document: Mapping[str, Any]) -> bool:
    """Return whether an index, whose entries are valid, lists attestations beside images."""
    return any(map(is_attestation, document.get("manifests") or ()))
