"""buildah and podman: images and lists of images there and back, and a container of a pulled image."""

import json
from pathlib import Path

import pytest

from dualreg.image import media_types
from tests.clients.tools import Tools, layout_manifest
from tests.programs import require

pytestmark = pytest.mark.client

FORMATS = {"oci": media_types.OCI_MANIFEST, "v2s2": media_types.DOCKER_MANIFEST}
LISTS = {"oci": media_types.OCI_INDEX, "v2s2": media_types.DOCKER_LIST}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.usefixtures("layout")
def test_buildah_pushes_and_pulls(tools: Tools, kind: str) -> None:
    """What buildah pushes from one store, it pulls into another: the same config, so the same image."""
    reference = f"{tools.host}/buildah/{kind}:1"
    tools.buildah("push", "--tls-verify=false", "--format", kind, "app", f"docker://{reference}")
    pulled = tools.buildah("pull", "-q", "--tls-verify=false", reference, store=f"other-{kind}")
    manifest = tools.raw(f"buildah/{kind}:1")
    assert manifest["mediaType"] == FORMATS[kind]
    assert manifest["config"]["digest"] == f"sha256:{pulled}"
    inspected = json.loads(tools.buildah("inspect", "--type", "image", pulled, store=f"other-{kind}"))
    original = json.loads(tools.buildah("inspect", "--type", "image", "app"))
    assert inspected["OCIv1"]["rootfs"] == original["OCIv1"]["rootfs"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("program", ["buildah", "podman"])
@pytest.mark.usefixtures("layout")
def test_lists_of_images(tools: Tools, program: str, kind: str) -> None:
    """A list of two architectures is pushed with its images; a client pulls the one it asks for."""
    require(program, package=program)
    run = tools.buildah if program == "buildah" else tools.podman
    local, name = f"both-{program}-{kind}", f"lists/{program}-{kind}"
    run("manifest", "create", local)
    for image in ("base", "arm64"):
        run("manifest", "add", local, f"containers-storage:localhost/{image}")
    target = f"docker://{tools.host}/{name}:1"
    run("manifest", "push", "--all", "--tls-verify=false", "--format", kind, local, target)
    index = tools.raw(f"{name}:1")
    assert index["mediaType"] == LISTS[kind]
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]
    for entry in index["manifests"]:
        architecture = entry["platform"]["architecture"]
        store = f"{architecture}-{program}-{kind}"
        pull = ("pull", "-q", "--tls-verify=false", "--arch", architecture, f"{tools.host}/{name}:1")
        pulled = run(*pull, store=store)
        child = tools.raw(f"{name}@{entry['digest']}")
        assert child["config"]["digest"] == f"sha256:{pulled}"
        found = json.loads(tools.buildah("inspect", "--type", "image", pulled, store=store))
        assert found["OCIv1"]["architecture"] == architecture


@pytest.mark.slow
def test_podman_pushes_pulls_and_runs(tools: Tools, layout: Path) -> None:
    """What podman pushes runs where it is pulled: replaced files are new, removed ones gone."""
    require("podman", package="podman")
    require("runc", package="runc")
    tools.podman("push", "--tls-verify=false", "app", f"{tools.host}/podman/app:1")
    tools.podman("pull", "-q", "--tls-verify=false", f"{tools.host}/podman/app:1", store="podman")
    run = ("run", "--rm", "--network=host", f"{tools.host}/podman/app:1")
    assert tools.podman(*run, store="podman") == "hello from layers"
    assert tools.podman(*run, "ls", "/data/old", store="podman") == "new"
    assert "removed" not in tools.podman(*run, "ls", "/", store="podman").split()
    assert tools.raw("podman/app:1")["layers"] == layout_manifest(layout, "app")[1]["layers"]


@pytest.mark.slow
def test_podman_search(tools: Tools, layout: Path) -> None:
    """``podman search`` finds repositories by a part of their name."""
    require("podman", package="podman")
    tools.push(f"oci:{layout}:base", name="searched/by-podman:1")
    command = ["search", "--tls-verify=false", "--format", "{{.Name}}", f"{tools.host}/by-pod"]
    assert tools.podman(*command) == f"{tools.host}/searched/by-podman"
