"""The oras client for Python: artifacts that are no images, and what is attached to them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oras.client import OrasClient
from oras.oci import Subject

from dualreg.image import media_types
from dualreg.image.digest import Digest
from tests.clients.conftest import Served

pytestmark = pytest.mark.xdist_group("clients")

TYPE = "application/vnd.example.sbom"


@pytest.fixture
def oras(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OrasClient]:
    """The client, in a folder of its own, without anybody's credentials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    client = OrasClient(hostname=served.host, insecure=True)
    client.session.trust_env = False
    yield client
    client.session.close()


def push(oras: OrasClient, name: str, content: bytes, media_type: str, **options: Any) -> Digest:
    """Push a file as an artifact, and return the digest of its manifest."""
    file = Path(f"{name.replace('/', '-').replace(':', '-')}.txt")
    file.write_bytes(content)
    target = f"{oras.hostname}/{name}"
    answer = oras.push(target=target, files=[f"{file}:{media_type}"], quiet=True, **options)
    assert answer.status_code == 201
    return Digest.parse(answer.headers["Docker-Content-Digest"])


def subject(oras: OrasClient, name: str, digest: Digest) -> Subject:
    """Return the descriptor of a manifest."""
    answer = oras.do_request(f"http://{oras.hostname}/v2/{name}/manifests/{digest}", "HEAD")
    return Subject(
        mediaType=answer.headers["Content-Type"],
        digest=str(digest),
        size=int(answer.headers["Content-Length"]),
    )


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("content", [b"hello artifact\n", bytes(range(256)) * 4000])
def test_an_artifact_comes_back(oras: OrasClient, content: bytes, chunked: bool) -> None:  # noqa: FBT001 -- a table's column
    """Pushed whole or in chunks, it is pulled byte for byte, with its annotations."""
    name = f"oras/file{len(content)}:{chunked}"
    push(
        oras,
        name,
        content,
        "text/plain",
        do_chunked=chunked,
        chunk_size=300_001,
        manifest_annotations={"who": "me"},
    )
    target = f"{oras.hostname}/{name}"
    (pulled,) = oras.pull(target=target, outdir="out")
    assert Path(pulled).read_bytes() == content
    manifest = oras.get_manifest(target)
    assert (manifest["annotations"], manifest["layers"][0]["mediaType"]) == ({"who": "me"}, "text/plain")


def test_what_is_attached_is_listed(oras: OrasClient) -> None:
    """An artifact about another is among its referrers, until it is deleted."""
    about = push(oras, "oras/app:1", b"the thing", "text/plain")
    bill = push(oras, "oras/app:sbom", b"{}", TYPE, subject=subject(oras, "oras/app", about))
    path = f"http://{oras.hostname}/v2/oras/app/referrers/{about}"
    answer = oras.do_request(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_types.OCI_INDEX)
    assert [entry["digest"] for entry in answer.json()["manifests"]] == [str(bill)]
    assert oras.do_request(f"{path}?artifactType=application/vnd.example.other").json()["manifests"] == []
    assert oras.delete_tag(f"{oras.hostname}/oras/app:sbom", "sbom")  # which deletes the manifest
    assert oras.do_request(path).json()["manifests"] == []


def test_tags_are_listed_and_deleted(oras: OrasClient) -> None:
    """In byte order; a tag that was deleted is not among them."""
    for tag in ("b", "a", "c"):
        push(oras, f"oras/listed:{tag}", tag.encode(), "text/plain")
    target = f"{oras.hostname}/oras/listed"
    assert oras.get_tags(target) == ["a", "b", "c"]
    assert oras.delete_tags(target, ["b"]) == ["b"]
    assert oras.get_tags(target) == ["a", "c"]
