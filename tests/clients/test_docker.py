"""Docker 20.10: push, mount, pull, run, search."""

import re
from pathlib import Path

import pytest

from tests.clients.conftest import Served
from tests.clients.tools import Tools
from tests.programs import until

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def pushed(docker: Tools, layout: Path) -> str:
    """An image that docker loaded and pushed; its reference."""
    archive = docker.home / "app.tar"
    reference = f"{docker.host}/docker/app:1"
    docker.skopeo("copy", f"oci:{layout}:app", f"docker-archive:{archive}:{reference}")
    docker.docker("load", "-q", "-i", archive)
    docker.docker("push", "-q", reference)
    return reference


def test_docker_pulls_what_it_pushed(docker: Tools, pushed: str) -> None:
    """An image that was removed locally comes back with the id it had."""
    before = docker.docker("image", "inspect", "-f", "{{.Id}}", pushed)
    docker.docker("rmi", "-f", before)
    docker.docker("pull", "-q", pushed)
    assert docker.docker("image", "inspect", "-f", "{{.Id}}", pushed) == before
    assert docker.raw("docker/app:1")["config"]["digest"] == before


def test_docker_pulls_what_others_pushed(docker: Tools, layout: Path) -> None:
    """An OCI image of skopeo's is the same image to docker; its files are those of all its layers."""
    docker.push("--format=oci", f"oci:{layout}:opaque", name="docker/opaque:1")
    reference = f"{docker.host}/docker/opaque:1"
    docker.docker("pull", "-q", reference)
    assert (
        docker.docker("image", "inspect", "-f", "{{.Id}}", reference)
        == docker.raw("docker/opaque:1")["config"]["digest"]
    )


def test_docker_runs_what_it_pulled(docker: Tools, layout: Path) -> None:
    """In a container of the pulled image, the opaque folder hides what the layers below had in it."""
    docker.push("--format=oci", f"oci:{layout}:opaque", name="docker/run:1")
    run = ("run", "--rm", "--network=none", "--ulimit=nofile=1024:1024", f"{docker.host}/docker/run:1")
    assert docker.docker(*run) == "hello from layers"
    assert docker.docker(*run, "ls", "/data") == "only"


def test_docker_mounts_layers_of_another_repository(docker: Tools, pushed: str, served: Served) -> None:
    """Pushed to a second repository, an image's layers are mounted from the first instead of sent again."""
    target = f"{docker.host}/docker/second:1"
    docker.docker("tag", pushed, target)
    docker.docker("push", "-q", target)
    mounted = re.compile(r'"POST /v2/docker/second/blobs/uploads/ HTTP/1.1" 201 ')  # an upload gets 202
    layers = len(docker.raw("docker/second:1")["layers"])
    assert until(lambda: len(mounted.findall(served.log.read_text())) == layers)
    assert served.log.read_text().count("PATCH /v2/docker/second/") == 1  # the config, which is no layer
    assert docker.raw("docker/second:1") == docker.raw("docker/app:1")


@pytest.mark.usefixtures("pushed")
def test_docker_search(docker: Tools) -> None:
    """``docker search HOST/TERM`` lists the repositories whose name contains the term."""
    found = docker.docker("search", "--format", "{{.Name}}", f"{docker.host}/ocker/ap")
    assert found.split() == ["docker/app"]
    assert docker.docker("search", "--format", "{{.Name}}", f"{docker.host}/nothing-like-it") == ""
