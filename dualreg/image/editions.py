"""Editions: the same image in another form, for clients that cannot read the one that is stored.

Configs and layers stay what they are, byte for byte, so IDs of images do; only layers compressed with zstd
are replaced by their gzip editions. All functions are deterministic: the same input gives the same bytes, in
every release with the same RULES. Digests that clients were given depend on every byte written by this
module.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import takewhile
from typing import Any, NamedTuple

from dualreg.errors import ImageUnreadable
from dualreg.image import media_types, schema1
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import dump, parse_object, without
from dualreg.image.formats import Role
from dualreg.image.manifest import Manifest
from dualreg.image.media_types import DOCKER_TO_OCI, ZSTD_TO_GZIP
from dualreg.image.platform import Platform

#: The version of these rules; editions are recorded with it, and those of other versions are kept.
RULES = 1
#: What ends the kind of an edition of an index that lacks images which may be available later.
_PARTIAL = "-part"
#: What begins the kind of one that lists images for one platform only, and letters that follow: for 65 bits.
_FOR_PLATFORM, _LETTERS = "p-", 13
#: What begins kinds of which there is one for each tag or platform, and what these are called together.
MANY_KINDS = {schema1.KIND: "schema1", _FOR_PLATFORM: "platform"}
#: The annotation by which BuildKit marks attestations in an index, and the platform that it gives them.
#: Source: BuildKit, docs/attestations/attestation-storage.md.
_REFERENCE_TYPE, _ATTESTATION, _UNKNOWN = "vnd.docker.reference.type", "attestation-manifest", "unknown"
#: Annotations of a layer that describe its compressed bytes.
#: Source: containers/storage, pkg/chunked/internal/minimal/compression.go.
_OF_ZSTD = "io.github.containers.zstd-chunked."
#: How programs of each family indent documents.
_INDENT = {"docker": 3, "oci": None}
#: Members of a descriptor that Docker's formats have.
_DOCKER_MEMBERS = ("mediaType", "size", "digest", "urls", "platform")


class Family(StrEnum):
    """The two families of media types for one format."""

    DOCKER = "docker"
    OCI = "oci"

    @classmethod
    def of(cls, media_type: str) -> "Family":
        """Return the family of a manifest or an index."""
        return cls.DOCKER if media_type in (media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST) else cls.OCI


class Edition(StrEnum):
    """The editions of an image; those of an index list the same editions of its images.

    None of them has zstd layers, attestations, nested indexes or a subject.
    """

    #: With the media types that the image has.
    GZIP = "gzip"
    #: With Docker's media types.
    SCHEMA2 = "schema2"
    #: With OCI's media types.
    OCI = "oci"

    @classmethod
    def in_family(cls, family: Family) -> "Edition":
        """Return the edition with the media types of a family."""
        return cls.SCHEMA2 if family is Family.DOCKER else cls.OCI

    @property
    def kind(self) -> str:
        """What it is recorded as."""
        return f"{self}-r{RULES}"

    @property
    def partial_kind(self) -> str:
        """What that of an index is recorded as while some of its images are not available."""
        return f"{self.kind}{_PARTIAL}"

    def kind_for(self, platform: Platform) -> str:
        """What that of an index is recorded as which lists only its images for a platform.

        The name of a platform is longer than a kind may be.
        """
        hashed = base64.b32encode(hashlib.sha256(f"{self.kind} {platform}".encode()).digest()).decode()
        return f"{_FOR_PLATFORM}{hashed[:_LETTERS].lower()}"

    @staticmethod
    def common_kind(kind: str) -> str:
        """Return what a kind is counted as: clients choose how many of some there are."""
        return next((name for start, name in MANY_KINDS.items() if kind.startswith(start)), kind)

    def family(self, media_type: str) -> Family:
        """Return the family of its media types, given the one of what it is made of."""
        return {Edition.SCHEMA2: Family.DOCKER, Edition.OCI: Family.OCI}.get(self) or Family.of(media_type)

    def of(self, media_type: str) -> "Edition":
        """Return the same edition by the name under which those of this media type are recorded."""
        return Edition.GZIP if self.family(media_type) is Family.of(media_type) else self


class Entry(NamedTuple):
    """An entry of an index, as its JSON *document* has it, and the manifest that an edition lists for it."""

    document: Mapping[str, Any]
    media_type: str
    digest: Digest
    size: int


def is_image(manifest: Manifest) -> bool:
    """Return whether a manifest, which is no index, is that of a runnable image."""
    configs = manifest.described(Role.CONFIG)
    return bool(configs) and media_types.may_be_image(manifest.media_type, configs[0].media_type)


def has_zstd(manifest: Manifest) -> bool:
    """Return whether a layer is compressed with zstd, by its media type."""
    return any("zstd" in layer.media_type for layer in manifest.described(Role.LAYER))


def zstd_layers(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Return the layers that gzip editions replace."""
    return tuple(layer for layer in manifest.described(Role.LAYER) if layer.media_type in ZSTD_TO_GZIP)


def is_attestation(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry of an index is about another entry, and no image."""
    platform = entry.get("platform") or {}
    unknown = platform.get("os") == platform.get("architecture") == _UNKNOWN
    return unknown or _annotations(entry).get(_REFERENCE_TYPE) == _ATTESTATION


def check_convertible(manifest: Manifest, edition: Edition) -> None:
    """Raise ImageUnreadable, with the reason, if a manifest has no such edition."""
    if not is_image(manifest):
        configs = manifest.described(Role.CONFIG)
        found = configs[0].media_type if configs else manifest.media_type
        raise ImageUnreadable(reason=f"it is an artifact, not an image: {found[:200]}")
    family = edition.family(manifest.media_type)
    for layer in manifest.described(Role.LAYER):
        _layer_type(layer.media_type, family)


def check_for_v1(manifest: Manifest) -> None:
    """Raise ImageUnreadable, with the reason, if it is the manifest that V1 and schema 1 cannot express.

    Its config is not looked at.
    """
    check_convertible(manifest, Edition.SCHEMA2)
    for layer in manifest.described(Role.LAYER):
        if not media_types.is_distributable(layer.media_type):
            raise ImageUnreadable(reason=_why(layer.media_type))


def image_edition(
    manifest: Manifest, edition: Edition, gzipped: Mapping[Digest, Descriptor]
) -> tuple[str, bytes]:
    """Return the media type and payload of an edition of an image.

    Args:
        gzipped: The gzip editions of its zstd layers, by the digests of these.

    Raises:
        ImageUnreadable: there is none.
    """
    check_convertible(manifest, edition)
    family, document = edition.family(manifest.media_type), parse_object(manifest.payload)
    layers = [_layer(layer, family, gzipped) for layer in document.get("layers") or ()]
    return _image(manifest.media_type, document, edition, layers)


def index_edition(
    media_type: str, payload: bytes, edition: Edition, entries: Sequence[Entry]
) -> tuple[str, bytes]:
    """Return the media type and payload of an edition of an index, given the *entries* that it lists."""
    listed = [
        without(entry.document, ["data"])
        | {"mediaType": entry.media_type, "digest": str(entry.digest), "size": entry.size}
        for entry in entries
    ]
    return _index(media_type, parse_object(payload), edition, listed)


def outline(media_type: str, payload: bytes, edition: Edition) -> tuple[str, bytes]:
    """Return what is known of an edition before its layers are: the media type, and its first bytes."""
    make, document = _index if media_type in media_types.INDEXES else _image, parse_object(payload)
    made, without_any = make(media_type, document, edition, [])
    _, with_one = make(media_type, document, edition, [{}])
    same = takewhile(lambda pair: pair[0] == pair[1], zip(without_any, with_one, strict=False))
    return made, bytes(byte for byte, _ in same)


def _image(
    media_type: str, document: Mapping[str, Any], edition: Edition, layers: Sequence[Mapping[str, Any]]
) -> tuple[str, bytes]:
    """Return the media type and payload of an edition of an image with *layers*."""
    family, config = edition.family(media_type), document["config"]
    if family is not Family.of(media_type):
        config = config | {"mediaType": _in_family(media_types.DOCKER_CONFIG, family)}
    made = _in_family(media_types.DOCKER_MANIFEST, family)
    return made, _document(document, edition, made, {"config": config, "layers": layers})


def _index(
    media_type: str, document: Mapping[str, Any], edition: Edition, listed: Sequence[Mapping[str, Any]]
) -> tuple[str, bytes]:
    """Return the media type and payload of an edition of an index that lists *listed*."""
    made = _in_family(media_types.DOCKER_LIST, edition.family(media_type))
    return made, _document(document, edition, made, {"manifests": listed})


def _in_family(docker: str, family: Family) -> str:
    """Return one of Docker's media types, or OCI's for the same format."""
    return docker if family is Family.DOCKER else DOCKER_TO_OCI[docker]


def _document(
    document: Mapping[str, Any], edition: Edition, media_type: str, content: Mapping[str, Any]
) -> bytes:
    """Return *document* with *content*, without a subject, as programs of the family write it."""
    family = Family.of(media_type)
    if edition is Edition.GZIP:
        made = without(document, ["subject"]) | {**content}
        return dump(made, indent=_INDENT[family])
    made = {"schemaVersion": 2, "mediaType": media_type, **content}
    if family is Family.DOCKER:
        made = {key: _docker_members(value) for key, value in made.items()}
    elif document.get("annotations"):
        made["annotations"] = document["annotations"]
    return dump(made, indent=_INDENT[family])


def _docker_members(value: object) -> object:
    """Return descriptors without members that Docker's formats do not have."""
    if isinstance(value, list):
        return [_docker_members(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: value[name] for name in _DOCKER_MEMBERS if name in value}


def _layer(layer: Mapping[str, Any], family: Family, gzipped: Mapping[Digest, Descriptor]) -> dict[str, Any]:
    """Return the descriptor of a layer in an edition."""
    media_type = layer.get("mediaType") or ""
    made = {**layer, "mediaType": _layer_type(media_type, family)}
    if media_type not in ZSTD_TO_GZIP:
        return made
    replacement = gzipped[Digest.parse(layer["digest"])]
    kept = {key: text for key, text in _annotations(layer).items() if not key.startswith(_OF_ZSTD)}
    made = without(made, ["data", "annotations"]) | ({"annotations": kept} if kept else {})
    return made | {"digest": str(replacement.digest), "size": replacement.size}


def _annotations(descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the annotations of a descriptor; none if they are no object: no push is refused for that."""
    annotations = descriptor.get("annotations")
    return annotations if isinstance(annotations, dict) else {}


def _layer_type(media_type: str, family: Family) -> str:
    """Return the media type of a layer in an edition with the media types of a family.

    Raises:
        ImageUnreadable: there is none: only some newer clients read such layers.
    """
    wanted = ZSTD_TO_GZIP.get(media_type, media_type)
    for docker, oci in DOCKER_TO_OCI.items():
        if wanted in (docker, oci):
            return _in_family(docker, family)
    raise ImageUnreadable(reason=_why(media_type))


def _why(media_type: str) -> str:
    """Return why there is no edition with layers of a type."""
    shown = media_type[:200]
    if "encrypted" in media_type:
        return f"its layers are encrypted: {shown}"
    if not media_types.is_distributable(media_type):
        return f"it has foreign layers that only newer clients read: {shown}"
    return f"it has layers of another type than tar: {shown or 'none given'}"


def images_only(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those entries of an index that may be images or nested indexes."""
    known = media_types.IMAGES | media_types.INDEXES | media_types.SCHEMA1_TYPES
    return [entry for entry in entries if entry.get("mediaType") in known and not is_attestation(entry)]
