"""Tiny makers of real content: layers, configs, manifests, V1 chains.

The same arguments give the same bytes.
"""

import gzip
import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId

if sys.version_info >= (3, 14):
    from compression.zstd import compress as zstd_compress
else:
    from backports.zstd import compress as zstd_compress


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return an uncompressed layer that holds *files*, all owned by root and without times."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def layer(files: Mapping[str, bytes]) -> bytes:
    """Return a gzip layer that holds *files*."""
    return gzip.compress(tar(files), mtime=0)


def descriptor(media_type: str, data: bytes, **members: Any) -> dict[str, Any]:
    """Return the descriptor of *data*."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **members}


@dataclass(frozen=True)
class Image:
    """An image ready to push.

    Attributes:
        blobs: Everything but the manifest, by digest.
        layers: As stored, base first.
    """

    media_type: str
    manifest: bytes
    config: bytes
    layers: Sequence[bytes]

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest.of(self.manifest)

    @property
    def blobs(self) -> dict[Digest, bytes]:
        """Everything the manifest names, by digest."""
        return {Digest.of(blob): blob for blob in (*self.layers, self.config)}


def image(*layers: bytes, oci: bool = False, **config: Any) -> Image:
    """Return an image of gzip *layers*, base first; *config* adds to or replaces members of its config."""
    diff_ids = [str(Digest.of(gzip.decompress(data))) for data in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"step {number}"} for number, _ in enumerate(layers)],
        **config,
    }
    config_bytes = json.dumps(document).encode()
    media_type = media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST
    config_type = media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG
    layer_type = media_types.OCI_LAYER_GZIP if oci else media_types.DOCKER_LAYER_GZIP
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config_type, config_bytes),
        "layers": [descriptor(layer_type, data) for data in layers],
    }
    return Image(media_type, json.dumps(manifest).encode(), config_bytes, layers)


def zstd_image(*layers: bytes, **config: Any) -> Image:
    """Return the OCI image that ``image`` returns of *layers*, with these compressed with zstd instead."""
    made = image(*layers, oci=True, **config)
    packed = [zstd_compress(gzip.decompress(data)) for data in layers]
    document = json.loads(made.manifest)
    document["layers"] = [descriptor(media_types.OCI_LAYER_ZSTD, data) for data in packed]
    return replace(made, manifest=json.dumps(document).encode(), layers=packed)


def relabelled(image: Image, config_type: str | None) -> Image:
    """Return *image* with another media type for its config; None: with none, as old Docker left it."""
    document = json.loads(image.manifest)
    document["config"]["mediaType"] = config_type
    if config_type is None:
        del document["config"]["mediaType"]
    return replace(image, manifest=json.dumps(document).encode())


def retyped(image: Image, layer_type: str) -> Image:
    """Return *image* with another media type for its layers."""
    document = json.loads(image.manifest)
    for entry in document["layers"]:
        entry["mediaType"] = layer_type
    return replace(image, manifest=json.dumps(document).encode())


def artifact(config_type: str, config: bytes) -> Image:
    """Return an OCI manifest of something that is no image, without layers."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor(config_type, config),
        "layers": [],
    }
    return Image(media_types.OCI_MANIFEST, json.dumps(manifest).encode(), config, ())


def skopeo_folder(folder: Path, image: Image) -> Path:
    """Write *image* the way skopeo's ``dir:`` transport does: every blob under its hex; return *folder*."""
    folder.mkdir(parents=True)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(image.manifest)
    for digest, content in image.blobs.items():
        (folder / digest.hex).write_bytes(content)
    return folder


def index(*images: Image, oci: bool = True, architectures: Sequence[str] = ("amd64", "arm64")) -> bytes:
    """Return an index of *images*, one an architecture, in order."""
    entries = [
        descriptor(child.media_type, child.manifest, platform={"os": "linux", "architecture": architecture})
        for child, architecture in zip(images, architectures, strict=False)
    ]
    return index_of(*entries, oci=oci)


def index_of(*entries: Mapping[str, Any], oci: bool = True) -> bytes:
    """Return an index of *entries*, which are descriptors."""
    media_type = media_types.OCI_INDEX if oci else media_types.DOCKER_LIST
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode()


@dataclass(frozen=True)
class V1Pushed:
    """A V1 image as a client would push it."""

    id: ImageId
    json: bytes
    layer: bytes


def v1_chain(*layers: bytes, seed: str = "image") -> list[V1Pushed]:
    """Return a chain of V1 images over *layers*, base first, with the random-looking ids of an old daemon."""
    chain: list[V1Pushed] = []
    for number, data in enumerate(layers):
        image_id = ImageId(Digest.of(f"{seed} {number}".encode()).hex)
        document = {
            "id": image_id,
            "created": f"2014-01-0{number + 1}T00:00:00.000000001Z",
            "container_config": {"Cmd": ["/bin/sh", "-c", f"#(nop) step <{number}>"]},
            "docker_version": "1.5.0",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "architecture": "amd64",
            "os": "linux",
            "Size": len(data),
        }
        if chain:
            document["parent"] = chain[-1].id
        # Old daemons end the document with a newline, which belongs to it.
        chain.append(V1Pushed(image_id, json.dumps(document).encode() + b"\n", data))
    return chain
