"""skopeo: what it pushes it pulls again, byte for byte."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

from dualreg.image import media_types
from tests import builders
from tests.clients.tools import Tools, digests, layout_manifest, verified
from tests.programs import require
from tests.soak import short_or_long

pytestmark = pytest.mark.client


@pytest.mark.parametrize("tag", ["base", "app", "opaque"])
def test_oci_images_come_back_unchanged(tools: Tools, layout: Path, tmp_path: Path, tag: str) -> None:
    """An OCI image keeps its digest on the way there and back, and every blob its bytes."""
    digest, manifest = layout_manifest(layout, tag)
    tools.push("--format=oci", f"oci:{layout}:{tag}", name=f"skopeo/oci:{tag}")
    tools.pull(f"skopeo/oci:{tag}", f"dir:{tmp_path / 'out'}")
    assert verified(tmp_path / "out") == (digest, manifest)


@pytest.mark.parametrize("tag", ["base", "app", "opaque"])
def test_schema_2_images_come_back_unchanged(tools: Tools, layout: Path, tmp_path: Path, tag: str) -> None:
    """Converted to Docker's format by skopeo, an image has the same layers and the digest that was pushed."""
    note = tmp_path / "digest"
    tools.push("--format=v2s2", f"--digestfile={note}", f"oci:{layout}:{tag}", name=f"skopeo/v2s2:{tag}")
    tools.pull(f"skopeo/v2s2:{tag}", f"dir:{tmp_path / 'out'}")
    digest, manifest = verified(tmp_path / "out")
    assert (digest, manifest["mediaType"]) == (note.read_text(), media_types.DOCKER_MANIFEST)
    assert digests(manifest) == digests(layout_manifest(layout, tag)[1])


@pytest.mark.slow
def test_a_large_layer(tools: Tools, tmp_path: Path) -> None:
    """A layer that cannot be compressed is pushed and pulled whole."""
    require("skopeo", package="skopeo")
    layer = gzip.compress(
        builders.tar({"noise": os.urandom(short_or_long(32, 200) << 20)}), compresslevel=0, mtime=0
    )
    image = builders.image(layer)
    source = builders.skopeo_folder(tmp_path / "in", image)
    tools.push(f"dir:{source}", name="skopeo/large:1")
    tools.pull("skopeo/large:1", f"dir:{tmp_path / 'out'}")
    assert verified(tmp_path / "out")[0] == str(image.digest)
    shutil.rmtree(tmp_path)


def test_by_digest_and_with_other_formats(tools: Tools, layout: Path, tmp_path: Path) -> None:
    """An image is found by its digest, and can be pulled into an archive for ``docker load``."""
    tools.push("--format=oci", f"oci:{layout}:app", name="skopeo/formats:1")
    digest, manifest = layout_manifest(layout, "app")
    tools.pull(f"skopeo/formats@{digest}", f"oci:{tmp_path / 'out'}:copy")
    assert layout_manifest(tmp_path / "out", "copy") == (digest, manifest)
    tools.pull("skopeo/formats:1", f"docker-archive:{tmp_path / 'archive.tar'}:formats:1")
    inside = tools.skopeo("inspect", "--config", f"docker-archive:{tmp_path / 'archive.tar'}")
    assert len(json.loads(inside)["rootfs"]["diff_ids"]) == len(manifest["layers"])


@pytest.mark.slow
def test_listing_and_deleting(tools: Tools, layout: Path) -> None:
    """Tags are listed, and ``skopeo delete`` removes the manifest with them."""
    for tag in ("1", "2"):
        tools.push(f"oci:{layout}:base", name=f"skopeo/listed:{tag}")
    tools.push(f"oci:{layout}:app", name="skopeo/listed:3")
    command = ["list-tags", "--tls-verify=false", f"docker://{tools.host}/skopeo/listed"]
    assert json.loads(tools.skopeo(*command))["Tags"] == ["1", "2", "3"]
    tools.skopeo("delete", "--tls-verify=false", f"docker://{tools.host}/skopeo/listed:1")
    assert json.loads(tools.skopeo(*command))["Tags"] == ["3"]


@pytest.mark.slow
def test_syncing_repositories(tools: Tools, layout: Path, tmp_path: Path) -> None:
    """``skopeo sync`` carries every tag, indexes with all their images, to another place and to a folder."""
    images = [builders.image(builders.layer({"arch": name.encode()})) for name in ("amd64", "arm64")]
    for tag in ("base", "app"):
        tools.push("--format=oci", f"oci:{layout}:{tag}", name=f"skopeo/synced:{tag}")
    source = builders.skopeo_folder(tmp_path / "index", images[0])
    (source / "manifest.json").write_bytes(builders.index(*images))
    for image in images:
        (source / f"{image.digest.hex}.manifest.json").write_bytes(image.manifest)
        for digest, content in image.blobs.items():
            (source / digest.hex).write_bytes(content)
    tools.push("--all", f"dir:{source}", name="skopeo/synced:multi")
    place = f"{tools.host}/skopeo/synced"
    common = ("sync", "--all", "--src-tls-verify=false", "--src", "docker")
    tools.skopeo(*common, "--dest-tls-verify=false", "--dest", "docker", place, f"{tools.host}/mirror")
    for tag in ("base", "app", "multi"):
        assert tools.raw(f"mirror/synced:{tag}") == tools.raw(f"skopeo/synced:{tag}")
    for image in images:
        tools.pull(f"mirror/synced@{image.digest}", f"dir:{tmp_path / image.digest.hex}")
        assert verified(tmp_path / image.digest.hex)[0] == str(image.digest)
    tools.skopeo(*common, "--dest", "dir", place, str(tmp_path / "out"))
    assert len([*(tmp_path / "out").glob("*/version")]) == 3
