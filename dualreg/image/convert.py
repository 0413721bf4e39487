"""Conversions between the generations: a V1 chain to a manifest, a manifest to a V1 chain.

All functions are deterministic: the same input gives the same bytes, in every release. IDs and digests that
clients already know depend on every byte written by this module.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualreg.errors import DigestInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import dump, is_time, parse_object, respelt, without
from dualreg.image.formats import Role
from dualreg.image.inflater import Compression
from dualreg.image.layer import empty_diff_ids
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId
from dualreg.image.v1_image import CHAIN_LIMIT, V1Image, chain_id

#: The largest config, in bytes, that is read into memory; no daemon writes one near this size.
CONFIG_LIMIT = 4 << 20
#: The annotation of a manifest that names the V1 image it was made from.
V1_ID = "dualreg.v1.id"
#: Members of a V1 JSON that locate the image in its chain; a manifest expresses that by its layers.
_V1_MEMBERS = frozenset({"id", "parent", "Size", "parent_id", "layer_id", "throwaway"})
#: Members of a config that describe the layers; a V1 chain expresses that by its images.
_CONFIG_MEMBERS = frozenset({"rootfs", "history"})
#: Members that are read, of V1 JSONs and of configs, as daemons do.
_READ_MEMBERS = _CONFIG_MEMBERS | {
    *("architecture", "author", "comment", "config", "container_config", "created", "os"),
}
#: Architectures as old daemons wrote them, after ``uname -m``, and as Go calls them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}
_LAYER_TYPES = {
    Compression.GZIP: (media_types.DOCKER_LAYER_GZIP, media_types.OCI_LAYER_GZIP),
    Compression.NONE: (media_types.DOCKER_LAYER, media_types.OCI_LAYER),
}


@dataclass(frozen=True, slots=True)
class V1Layer:
    """The layer of one V1 image.

    Attributes:
        size: In bytes, as stored.
        diff_id: The digest of the uncompressed stream.
        compression: GZIP or NONE; layers of any other compression are converted by ``layer.regzip`` first.
    """

    digest: Digest
    size: int
    diff_id: Digest
    compression: Compression = Compression.GZIP


@dataclass(frozen=True, slots=True)
class Link:
    """A V1 image and its layer. A chain is a sequence of links, base first."""

    image: V1Image
    layer: V1Layer


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image manifest that old clients can use: its config, and the layers with their diff IDs."""

    document: dict[str, Any]
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Converted:
    """A manifest made from a V1 chain, and its config."""

    media_type: str
    payload: bytes
    config: bytes


def manifest_from_chain(
    chain: Sequence[Link], *, keep_empty: bool = False, media_type: str | None = None, named: bool = False
) -> Converted:
    """Return the manifest and config of the topmost image of *chain*.

    Layers without files are left out of the manifest and marked as empty in the history, as Docker does; one
    stays if all of them are empty.

    Args:
        chain: Base first; at least one link.
        keep_empty: Keep layers without files.
        media_type: ``DOCKER_MANIFEST`` or ``OCI_MANIFEST``. Default: Docker schema 2, which every V2 client
            reads, if all layers are gzip; else OCI, whose media type for plain tars is more widely known.
        named: Annotate the manifest with the ID of the image, to tell it from that of an image that differs
            in nothing but its ID.

    Source: moby ``image/v1`` (MakeConfigFromV1Config); the rule for empty layers is containerd's, by content.
    """
    links = [*chain]
    empty = [link.layer.diff_id in empty_diff_ids() and not keep_empty for link in links]
    if all(empty):
        empty[0] = False
    layers = [link.layer for link, skipped in zip(links, empty, strict=True) if not skipped]
    if media_type is None:
        plain = any(layer.compression is Compression.NONE for layer in layers)
        media_type = media_types.OCI_MANIFEST if plain else media_types.DOCKER_MANIFEST
    config = _config(links, empty, layers)
    annotations = {V1_ID: str(links[-1].image.id)} if named else {}
    return Converted(media_type, image_manifest(media_type, config, layers, annotations), config)


def image_manifest(
    media_type: str, config: bytes, layers: Iterable[V1Layer], annotations: Mapping[str, str] | None = None
) -> bytes:
    """Return the Docker schema 2 or OCI manifest of an image, given its config and layers, base first.

    Docker does not know *annotations*, and ignores them.
    """
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
        **({"annotations": annotations} if annotations else {}),
    }
    return dump(document, indent=3)


def docker_to_oci(payload: bytes, replaced: Mapping[str, Descriptor]) -> bytes:
    """Return a Docker manifest or manifest list as the equivalent OCI manifest or index.

    An OCI document that names nothing in *replaced* is returned unchanged, byte for byte. A config whose
    type a Docker manifest leaves open gets that of an image, by which OCI clients tell images from artifacts.

    Args:
        replaced: New descriptors of manifests that were converted before, by their old digests: entries of an
            index, or the subject.

    Source: containers/image, ``docker_schema2.go`` (convertToManifestOCI1).
    """
    document, before = parse_object(payload), parse_object(payload)
    config = document.get("config")
    if config and document.get("mediaType") == media_types.DOCKER_MANIFEST:
        vague = config.get("mediaType", "") in media_types.VAGUE_CONFIGS
        config |= {"mediaType": media_types.DOCKER_CONFIG} if vague else {}
    document |= _oci_type(document)
    for entry in (
        document.get("config"),
        *(document.get("layers") or ()),
        *(document.get("manifests") or ()),
    ):
        if entry:
            entry.update(_oci_type(entry))
    for entry in (document.get("subject"), *(document.get("manifests") or ())):
        if entry and (replacement := replaced.get(entry["digest"])):
            entry.update(replacement.to_json())
            entry.pop("data", None)  # embeds the old manifest
    return payload if document == before else dump(document, indent=3)


def _oci_type(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OCI ``mediaType`` of a document or descriptor that has a Docker one; else nothing."""
    media_type = value.get("mediaType", "")
    if media_type not in media_types.DOCKER_TO_OCI:
        return {}
    return {"mediaType": media_types.DOCKER_TO_OCI[media_type]}


def _config(links: Sequence[Link], empty: Sequence[bool], layers: Sequence[V1Layer]) -> bytes:
    documents = [respelt(parse_object(link.image.json), _READ_MEMBERS) for link in links]
    top = without(documents[-1], _V1_MEMBERS | _CONFIG_MEMBERS | {"architecture", "os"})
    architecture = documents[-1].get("architecture") or "amd64"
    top["architecture"] = (
        _ARCHITECTURES.get(architecture, architecture) if isinstance(architecture, str) else "amd64"
    )
    top["os"] = documents[-1].get("os") or "linux"
    _repair(top)
    top["rootfs"] = {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]}
    top["history"] = [
        _history(document, empty=skipped) for document, skipped in zip(documents, empty, strict=True)
    ]
    return dump(dict(sorted(top.items())))


def _repair(config: dict[str, Any]) -> None:
    """Repair members that old clients accept and current ones refuse the image for.

    A command that is a string becomes a list of it; an invalid time is removed.
    """
    if "created" in config and not (config["created"] is None or is_time(config["created"])):
        del config["created"]
    if isinstance(inner := config.get("config"), dict):
        lists = {key: [inner[key]] for key in ("Cmd", "Entrypoint") if isinstance(inner.get(key), str)}
        config["config"] = inner | lists


def _history(document: Mapping[str, Any], *, empty: bool) -> dict[str, Any]:
    """Return the history entry of one V1 JSON, without members that would be empty."""
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
    manifest: Manifest, config: bytes, empty_layer: Descriptor, *, saved: bool = False
) -> tuple[Link, ...] | None:
    """Return the V1 chain, base first, by which V1 clients see an image manifest; None if they cannot use it.

    V1 clients cannot use artifacts, non-distributable layers, images for systems other than Linux, images of
    more than CHAIN_LIMIT layers, and images whose config does not list the diff IDs of the layers. They get
    the gzip editions of zstd layers.

    Args:
        manifest: An image manifest, Docker schema 2 or OCI.
        config: The bytes of its config.
        empty_layer: The layer (the gzip of an empty tar) of the one V1 image that an image without layers
            becomes.
        saved: For an archive of ``docker load``, which needs no V1 client: of any system and compression.

    Source: moby 1.10 ``distribution/push_v1.go``: chain IDs below, the config's digest on top.
    """
    readable = None if saved else {*media_types.V1_LAYERS, *media_types.ZSTD_TO_GZIP}
    read = read_image(manifest, config, readable=readable)
    if read is None or not (saved or read.document.get("os") in ("linux", None, "")):
        return None
    layers, diff_ids = read.layers, read.diff_ids
    if len(layers) > CHAIN_LIMIT:
        return None
    if not layers:
        layers, diff_ids = (empty_layer,), (Digest.of(bytes(1024)),)
    chain: list[Link] = []
    chained: str | None = None
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        chained = chain_id(chained, diff_id)
        image = _bare_image(ImageId.parse(chained.partition(":")[2]), chain[-1].image.id if chain else None)
        chain.append(Link(image, V1Layer(layer.digest, layer.size or 0, diff_id)))
    (described,) = manifest.described(Role.CONFIG)
    top = _top_image(ImageId.parse(described.digest.hex[:64]), chain[-1].image.parent, read.document)
    chain[-1] = replace(chain[-1], image=top)
    return tuple(chain)


def read_image(
    manifest: Manifest, config: bytes, *, readable: Container[str] | None = media_types.V1_LAYERS
) -> ReadImage | None:
    """Return what an image manifest and its config say of the image; None if old clients cannot use it.

    They can if their layers are tars, plain or gzip, and *config* lists the diff IDs of these layers. What
    media type the config is given as does not matter (see ``media_types.may_be_image``).

    Args:
        readable: The media types that layers may have; None: any.
    """
    (described,) = manifest.described(Role.CONFIG)
    layers = manifest.described(Role.LAYER)
    is_readable = readable is None or all(layer.media_type in readable for layer in layers)
    if not is_readable or not media_types.may_be_image(manifest.media_type, described.media_type):
        return None
    try:
        document = respelt(parse_object(config), _READ_MEMBERS)
        listed = respelt(document["rootfs"], ["diff_ids"]).get("diff_ids")
        diff_ids = tuple(Digest.parse(diff_id) for diff_id in listed or ())
    except (ValueError, KeyError, TypeError, AttributeError, DigestInvalid):
        return None
    return ReadImage(document, layers, diff_ids) if len(diff_ids) == len(layers) else None


def _bare_image(image: ImageId, parent: ImageId | None) -> V1Image:
    """Return a V1 image below the top.

    Its JSON has nothing but the ids: the same id must have the same JSON in every image.
    """
    return V1Image(image, parent, dump({"id": image} | ({"parent": parent} if parent else {})))


def _top_image(image: ImageId, parent: ImageId | None, config: Mapping[str, Any]) -> V1Image:
    """Return the topmost V1 image, whose JSON has the members of *config*."""
    members = without(config, _CONFIG_MEMBERS | {"id", "parent"})
    members |= {"id": image} | ({"parent": parent} if parent else {})
    return V1Image(image, parent, dump(dict(sorted(members.items()))))
