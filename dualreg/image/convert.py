"""Conversions between the generations: a V1 chain as one manifest, a manifest as a V1 chain.

Pure functions, and functions in the strict sense: the same bytes in give the same bytes out, for ever. Ids
and digests of images that users already know hang on every byte written here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualreg.errors import DigestInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import dump, is_time, parse_object
from dualreg.image.formats import Role
from dualreg.image.layer import Compression, blank_diff_ids
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId
from dualreg.image.v1_image import V1Image, chain_id

#: Members of a V1 JSON that say where the image lies in its chain, which the manifest says instead.
_V1_MEMBERS = frozenset({"id", "parent", "Size", "parent_id", "layer_id", "throwaway"})
#: Members of a config that say what the V1 chain says instead.
_CONFIG_MEMBERS = frozenset({"rootfs", "history"})
#: What ``uname -m`` and old daemons wrote, as GOARCH.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
_LAYER_TYPES = {
    Compression.GZIP: (media_types.DOCKER_LAYER_GZIP, media_types.OCI_LAYER_GZIP),
    Compression.NONE: (media_types.DOCKER_LAYER, media_types.OCI_LAYER),
}


@dataclass(frozen=True, slots=True)
class V1Layer:
    """The layer of one V1 image.

    Attributes:
        size: Bytes, as stored.
        diff_id: Of the uncompressed stream.
        compression: GZIP or NONE; others are made gzip first (``layer.regzip``).
    """

    digest: Digest
    size: int
    diff_id: Digest
    compression: Compression = Compression.GZIP


@dataclass(frozen=True, slots=True)
class Link:
    """A V1 image together with its layer; a chain is a sequence of these, base first."""

    image: V1Image
    layer: V1Layer


@dataclass(frozen=True, slots=True)
class Converted:
    """A manifest made from a V1 chain, and the config it names."""

    media_type: str
    payload: bytes
    config: bytes


def manifest_from_chain(
    chain: Sequence[Link], *, keep_empty: bool = False, media_type: str | None = None
) -> Converted:
    """Write the manifest and config of the image that *chain* (base first, at least one link) ends with.

    All-gzip chains become Docker schema 2, which every V2 client reads; with a plain tar among them it is an
    OCI manifest, whose type for plain tars is read more widely; *media_type* overrules this. Layers without
    files are left out of the manifest and marked in the history, unless *keep_empty*, or unless all are so.

    Source: moby ``image/v1`` (MakeConfigFromV1Config); the rule for empty layers is containerd's, by content.
    """
    links = [*chain]
    blank = [link.layer.diff_id in blank_diff_ids() and not keep_empty for link in links]
    if all(blank):
        blank[0] = False
    layers = [link.layer for link, empty in zip(links, blank, strict=True) if not empty]
    if media_type is None:
        plain = any(layer.compression is Compression.NONE for layer in layers)
        media_type = media_types.OCI_MANIFEST if plain else media_types.DOCKER_MANIFEST
    config = _config(links, blank, layers)
    return Converted(media_type, image_manifest(media_type, config, layers), config)


def image_manifest(media_type: str, config: bytes, layers: Iterable[V1Layer]) -> bytes:
    """Write the manifest of an image, Docker schema 2 or OCI, from its config and layers, base first."""
    oci = media_type == media_types.OCI_MANIFEST
    config_type = media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": Descriptor(config_type, Digest.of(config), len(config)).to_json(),
        "layers": [
            Descriptor(_LAYER_TYPES[layer.compression][oci], layer.digest, layer.size).to_json()
            for layer in layers
        ],
    }
    return dump(document, indent=3)


def as_oci(payload: bytes, renamed: Mapping[str, Descriptor]) -> bytes:
    """Return a Docker manifest or list as the OCI manifest or index of the same config, layers and images.

    What is OCI's already, and names nothing that was renamed, stays as it is, byte for byte.

    Args:
        renamed: Images of a list, or what the manifest is about, that became others, by their digests.
    """
    document, before = parse_object(payload), parse_object(payload)
    document |= _type_of_oci(document)
    for entry in (document.get("config"), *document.get("layers", ()), *document.get("manifests", ())):
        if entry:
            entry.update(_type_of_oci(entry))
    for entry in (document.get("subject"), *document.get("manifests", ())):
        if entry and (other := renamed.get(entry["digest"])):
            entry.update(other.to_json())
            entry.pop("data", None)  # of the other one
    return payload if document == before else dump(document, indent=3)


def _type_of_oci(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return OCI's media type of a document or descriptor, if it has Docker's."""
    stated = value.get("mediaType", "")
    return {"mediaType": media_types.AS_OCI[stated]} if stated in media_types.AS_OCI else {}


def _config(links: Sequence[Link], blank: Sequence[bool], layers: Sequence[V1Layer]) -> bytes:
    documents = [parse_object(link.image.json) for link in links]
    top = {key: value for key, value in documents[-1].items() if key not in _V1_MEMBERS}
    architecture = top.get("architecture") or "amd64"
    top["architecture"] = (
        _ARCHITECTURES.get(architecture, architecture) if isinstance(architecture, str) else "amd64"
    )
    top["os"] = top.get("os") or "linux"
    _put_right(top)
    top["rootfs"] = {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]}
    top["history"] = [
        _history(document, empty=empty) for document, empty in zip(documents, blank, strict=True)
    ]
    return dump(dict(sorted(top.items())))


def _put_right(config: dict[str, Any]) -> None:
    """Change what old clients read in a config, and today's do not: they refuse the image for it.

    A command that is one text stands for a list of it; a time that is none says nothing.
    """
    if "created" in config and not (config["created"] is None or is_time(config["created"])):
        del config["created"]
    if isinstance(inner := config.get("config"), dict):
        texts = {key: [inner[key]] for key in ("Cmd", "Entrypoint") if isinstance(inner.get(key), str)}
        config["config"] = inner | texts


def _history(document: Mapping[str, Any], *, empty: bool) -> dict[str, Any]:
    """Return the history entry of one V1 JSON; members that would be empty are left out."""
    container = document.get("container_config")
    command = container.get("Cmd") if isinstance(container, dict) else None
    if isinstance(command, list):
        command = " ".join(word for word in command if isinstance(word, str))
    created = document.get("created")
    entry = {
        "created": created if is_time(created) else None,
        "author": document.get("author"),
        "created_by": command,
        "comment": document.get("comment"),
    }
    members: dict[str, Any] = {key: value for key, value in entry.items() if isinstance(value, str) and value}
    return members | {"empty_layer": True} if empty else members


def chain_from_manifest(
    manifest: Manifest, config: bytes, empty_layer: Descriptor
) -> tuple[Link, ...] | None:
    """Return the V1 chain, base first, that an image manifest is seen as; None if V1 clients cannot use it.

    An image without layers becomes one V1 image with *empty_layer* (the gzip of an empty tar).

    They cannot use artifacts, layers in zstd or kept elsewhere, other systems' images, nor configs that do
    not list their layers.

    Source: moby 1.10 ``distribution/push_v1.go``: chain ids below, the config's digest on top.
    """
    (config_descriptor,) = manifest.described(Role.CONFIG)
    layers = manifest.described(Role.LAYER)
    if config_descriptor.media_type not in media_types.IMAGE_CONFIGS:
        return None
    if any(layer.media_type not in media_types.V1_LAYERS for layer in layers):
        return None
    read = _read_config(config)
    if read is None or len(read[1]) != len(layers):
        return None
    document, diff_ids = read
    if not layers:
        layers, diff_ids = (empty_layer,), (Digest.of(bytes(1024)),)
    chain: list[Link] = []
    chained: str | None = None
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        chained = chain_id(chained, diff_id)
        image = _bare_image(ImageId.parse(chained.partition(":")[2]), chain[-1].image.id if chain else None)
        chain.append(Link(image, V1Layer(layer.digest, layer.size or 0, diff_id)))
    top = _top_image(ImageId.parse(config_descriptor.digest.hex[:64]), chain[-1].image.parent, document)
    chain[-1] = replace(chain[-1], image=top)
    return tuple(chain)


def _read_config(config: bytes) -> tuple[dict[str, Any], tuple[Digest, ...]] | None:
    """Return a Linux image config and its diff ids; None if it is no such thing."""
    try:
        document = parse_object(config)
        rootfs = document.get("rootfs")
        listed = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        diff_ids = tuple(Digest.parse(diff_id) for diff_id in listed or ())
    except (ValueError, TypeError, DigestInvalid):
        return None
    return (document, diff_ids) if document.get("os") in ("linux", None, "") else None


def _bare_image(image: ImageId, parent: ImageId | None) -> V1Image:
    """Return a V1 image below the top.

    It says nothing but its place, since the same id must always have the same JSON.
    """
    return V1Image(image, parent, dump({"id": image} | ({"parent": parent} if parent else {})))


def _top_image(image: ImageId, parent: ImageId | None, config: Mapping[str, Any]) -> V1Image:
    """Return the V1 image of the config itself."""
    members = {key: value for key, value in config.items() if key not in _CONFIG_MEMBERS}
    members |= {"id": image} | ({"parent": parent} if parent else {})
    return V1Image(image, parent, dump(dict(sorted(members.items()))))
