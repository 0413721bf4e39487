"""Chains: manifests read as chains of V1 images, from their documents and layers; nothing is stored."""

from collections.abc import Iterable
from dataclasses import dataclass

from dualreg.catalog.rows import ManifestRow, RepositoryRow, V1ImageRow
from dualreg.errors import ImageInvalid
from dualreg.image import media_types
from dualreg.image.convert import CONFIG_LIMIT, Link, chain_from_manifest
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role, schema1
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.schema1 import chain_from_schema1
from dualreg.image.v1_image import CHAIN_LIMIT
from dualreg.registry.layers import Layers
from dualreg.registry.manifests import Manifests
from dualreg.registry.v1_layers import V1Layers


@dataclass(frozen=True, slots=True)
class Chains:
    """Reads manifests as chains of V1 images."""

    manifests: Manifests
    layers: Layers
    v1_layers: V1Layers

    def of(self, image: ManifestRow) -> tuple[Link, ...] | None:
        """Return an image manifest as a chain, base first; None if V1 clients cannot use it."""
        if image.media_type in media_types.SCHEMA1_TYPES:
            return self.of_schema1(image)
        return (
            self.of_manifest(self.manifests.load(image)) if image.media_type in media_types.IMAGES else None
        )

    def of_manifest(self, manifest: Manifest) -> tuple[Link, ...] | None:
        """Return an image manifest as ``of``; it is not schema 1, and has the sizes that its content has."""
        read = self._with_config(manifest)
        return read and chain_from_manifest(*read, empty_layer())

    def of_schema1(self, row: ManifestRow) -> tuple[Link, ...] | None:
        """Return the chain in a schema 1 manifest, whose layers are read; None if one cannot be read."""
        payload = self.manifests.payload(row)
        document = parse_object(payload)
        if len(document["history"]) > CHAIN_LIMIT:
            return None
        named = {child.descriptor.digest for child in schema1.contents(document).children}
        state = self.manifests.state
        with state.catalog.read() as tx:
            sizes = tx.blobs.linked(row.repository_id, named)
        try:
            layers = self.layers.with_diff_ids(sizes)
        except ImageInvalid:
            return None  # zstd, or pushed damaged
        return chain_from_schema1(payload, layers)

    def read_image(self, row: ManifestRow) -> tuple[Manifest, bytes] | None:
        """Return a manifest that may be an image's, with its config; None if it is of another kind.

        None too if the config is too large to be read into memory.
        """
        if row.media_type not in media_types.IMAGES:
            return None
        return self._with_config(self.manifests.load(row))

    def _with_config(self, manifest: Manifest) -> tuple[Manifest, bytes] | None:
        """Return a manifest with its config, as ``read_image``."""
        (config,) = manifest.described(Role.CONFIG)
        possible = media_types.may_be_image(manifest.media_type, config.media_type)
        if not possible or (config.size or 0) > CONFIG_LIMIT:
            return None
        return manifest, self.manifests.documents.read(config.digest)


def derived_rows(repository: RepositoryRow, chain: Iterable[Link]) -> list[V1ImageRow]:
    """Return a derived chain as the catalog records it: complete, without checksums."""
    return [
        V1ImageRow(
            repository.id,
            link.image.id,
            link.image.parent,
            Digest.of(link.image.json),
            link.layer.digest,
            link.layer.size,
            link.layer.diff_id,
            checksum=None,
            complete=True,
        )
        for link in chain
    ]
