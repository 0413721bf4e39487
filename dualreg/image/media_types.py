"""The media types of manifests, configs and layers, and what each of them implies."""

from collections.abc import Mapping
from types import MappingProxyType

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_PLUGIN_CONFIG = "application/vnd.docker.plugin.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
#: Manifests of artifacts in the release candidates of OCI 1.1, and before that in ORAS.
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
ORAS_ARTIFACT = "application/vnd.cncf.oras.artifact.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

OCI_LAYER_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OCI_LAYER_FOREIGN_TAR = "application/vnd.oci.image.layer.nondistributable.v1.tar"

#: Docker's media types, and OCI's for the same format.
#: Source: OCI image-spec v1.1, media-types.md, "Compatibility Matrix".
DOCKER_TO_OCI: Mapping[str, str] = MappingProxyType(
    {
        DOCKER_MANIFEST: OCI_MANIFEST,
        DOCKER_LIST: OCI_INDEX,
        DOCKER_CONFIG: OCI_CONFIG,
        DOCKER_LAYER: OCI_LAYER,
        DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
        DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD,
        DOCKER_LAYER_FOREIGN: OCI_LAYER_FOREIGN,
    }
)
#: Layers compressed with zstd, and what they are compressed with gzip. Docker reads zstd since 23.0.
#: Source: OCI image-spec v1.1, layer.md, "+zstd Media Types"; containers/image for Docker's.
ZSTD_TO_GZIP: Mapping[str, str] = MappingProxyType(
    {DOCKER_LAYER_ZSTD: DOCKER_LAYER_GZIP, OCI_LAYER_ZSTD: OCI_LAYER_GZIP}
)
#: What Docker 1.6 to 1.9 push and pull; always stored signed.
SCHEMA1_TYPES = frozenset({SCHEMA1, SCHEMA1_SIGNED})
#: Manifests of one image: a config and layers.
IMAGES = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
#: Manifests that list other manifests.
INDEXES = frozenset({DOCKER_LIST, OCI_INDEX})
#: Configs that describe a runnable image, as opposed to an artifact.
IMAGE_CONFIGS = frozenset({DOCKER_CONFIG, OCI_CONFIG})
#: Layers that every V1 client can unpack: tar, plain or gzip. (Clients sniff the compression, so a layer of a
#: plain type may be gzip; zstd never works.)
V1_LAYERS = frozenset({DOCKER_LAYER, DOCKER_LAYER_GZIP, OCI_LAYER, OCI_LAYER_GZIP})
#: For bytes whose media type is not known.
OCTET_STREAM = "application/octet-stream"
#: Media types that say nothing about a config.
#: Source: moby, ``distribution/pull_v2.go`` (defaultImageTypes), which takes such configs for images.
VAGUE_CONFIGS = frozenset({"", OCTET_STREAM, "application/json", "text/html"})


def may_be_image(manifest: str, config: str) -> bool:
    """Return whether a manifest and config of these types may be those of a runnable image.

    In OCI, the type of the config tells images from artifacts. In Docker schema 2, only its content does:
    Docker 1.10 and 1.11 push images whose config is ``application/octet-stream``, or has no type.
    """
    if manifest == DOCKER_MANIFEST:
        return config != DOCKER_PLUGIN_CONFIG
    return manifest == OCI_MANIFEST and config in IMAGE_CONFIGS


def is_distributable(media_type: str) -> bool:
    """Return whether a layer of this type must be in the registry; "foreign" ones stay with their vendor.

    Source: OCI image-spec v1.1, layer.md, "Non-Distributable Layers".
    """
    return media_type != DOCKER_LAYER_FOREIGN and "layer.nondistributable." not in media_type


def strip_parameters(content_type: str) -> str:
    """Return the media type of a ``Content-Type`` value, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()
