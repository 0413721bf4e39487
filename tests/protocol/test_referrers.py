"""The referrers API over HTTP.  Source: OCI distribution-spec v1.1, "Listing Referrers"."""

import json
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Manifests
from dualreg.image import media_types
from dualreg.image.digest import Digest
from tests.builders import descriptor, image, layer
from tests.conftest import Clock
from tests.documents import ARTIFACTS, IMAGE
from tests.protocol.exchange import push_blob

SUBJECT = image(layer({"a": b"1"}), oci=True)
EMPTY = b"{}"


def attach(client: FlaskClient, artifact_type: str, **members: Any) -> Digest:
    """Push an artifact that is about SUBJECT, and return its digest."""
    digest = Digest.of(EMPTY)
    assert client.post(f"/v2/team/app/blobs/uploads/?digest={digest}", data=EMPTY).status_code == 201
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor("application/vnd.oci.empty.v1+json", EMPTY),
        "layers": [],
        "subject": descriptor(SUBJECT.media_type, SUBJECT.manifest),
        **members,
    }
    payload = json.dumps(document).encode()
    answer = client.put(
        f"/v2/team/app/manifests/{Digest.of(payload)}", data=payload, content_type=media_types.OCI_MANIFEST
    )
    assert (answer.status_code, answer.headers["OCI-Subject"]) == (201, str(SUBJECT.digest))
    return Digest.of(payload)


def test_a_manifest_that_was_pushed_as_something_else(client: FlaskClient) -> None:
    """Becomes what it is with the next push: a referrer, whose blobs cannot be deleted."""
    digest = Digest.of(EMPTY)
    assert client.post(f"/v2/team/app/blobs/uploads/?digest={digest}", data=EMPTY).status_code == 201
    subject = descriptor(SUBJECT.media_type, SUBJECT.manifest)
    config = descriptor("application/vnd.oci.empty.v1+json", EMPTY)
    payload = json.dumps({"schemaVersion": 2, "config": config, "layers": [], "subject": subject}).encode()
    path = f"/v2/team/app/manifests/{Digest.of(payload)}"
    for media_type in ("application/x", media_types.OCI_MANIFEST, "application/x"):
        assert client.put(path, data=payload, content_type=media_type).status_code == 201
    assert client.get(path).content_type == media_types.OCI_MANIFEST
    assert len(client.get(f"/v2/team/app/referrers/{SUBJECT.digest}").json["manifests"]) == 1
    assert client.delete(f"/v2/team/app/blobs/{digest}").status_code == 405


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_artifact_manifests(client: FlaskClient, kind: str) -> None:
    """Those of the time before OCI 1.1 are referrers of their subject, and hold their blobs."""
    document, layer_digest = ARTIFACTS[kind], Digest.of(IMAGE.layers[0])
    path = f"/v2/team/app/manifests/{Digest.of(document.payload)}"
    missing = client.put(path, data=document.payload, content_type=document.media_type)
    assert missing.json["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    push_blob(client, "team/app", IMAGE.layers[0])
    for _ in range(2):
        pushed = client.put(path, data=document.payload, content_type=document.media_type)
        assert (pushed.status_code, pushed.headers["OCI-Subject"]) == (201, str(IMAGE.digest))
    (listed,) = client.get(f"/v2/team/app/referrers/{IMAGE.digest}").json["manifests"]
    assert listed == {
        "mediaType": document.media_type,
        "digest": str(Digest.of(document.payload)),
        "size": len(document.payload),
        "artifactType": "application/x.test",
        "annotations": {"a": "b"},
    }
    got = client.get(path, headers={"Accept": media_types.OCI_MANIFEST})
    assert (got.data, got.content_type) == (document.payload, document.media_type)
    assert client.delete(f"/v2/team/app/blobs/{layer_digest}").status_code == 405
    assert client.delete(path).status_code == 202
    assert client.delete(f"/v2/team/app/blobs/{layer_digest}").status_code == 202


@pytest.mark.slow
def test_an_artifact_manifest_of_an_earlier_release(client: FlaskClient, catalog: Catalog) -> None:
    """What was stored before its format was known is a referrer as soon as it is pushed again."""
    document = ARTIFACTS["ORAS"]
    path = f"/v2/team/app/manifests/{Digest.of(document.payload)}"
    push_blob(client, "team/app", IMAGE.layers[0])
    assert client.put(path, data=document.payload, content_type=document.media_type).status_code == 201
    unknown = {"subject": None, "artifact_type": "", "annotations": {}}
    with catalog.engine.begin() as connection:
        connection.execute(update(Manifests).values(unknown))
    assert client.put(path, data=document.payload, content_type=document.media_type).status_code == 201
    (found,) = client.get(f"/v2/team/app/referrers/{IMAGE.digest}").json["manifests"]
    assert (found["artifactType"], found["annotations"]) == ("application/x.test", {"a": "b"})


@pytest.mark.parametrize("member", ["config", "Layers", "manifests", "fsLayers"])
def test_an_artifact_is_nothing_else(client: FlaskClient, member: str) -> None:
    """A document that could be read as another format is refused."""
    document = json.loads(ARTIFACTS["OCI"].payload) | {"blobs": [], member: []}
    answer = client.put("/v2/team/app/manifests/1", json=document, content_type=media_types.OCI_ARTIFACT)
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize("repository", ["team/app", "never/seen"])
def test_nothing_refers(client: FlaskClient, repository: str) -> None:
    """A subject without referrers, even in an unknown repository, gets an empty index, never an error."""
    answer = client.get(f"/v2/{repository}/referrers/{SUBJECT.digest}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == media_types.OCI_INDEX
    assert answer.json == {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}


def test_referrers_are_listed_in_the_order_of_pushes(client: FlaskClient, clock: Clock) -> None:
    """Also if pushed before their subject, with type and annotations; the answer names a filter."""
    signature = attach(client, "application/vnd.example.signature+json", annotations={"who": "me"})
    clock.advance(timedelta(seconds=1))
    sbom = attach(client, "application/vnd.example.sbom")
    listed = client.get(f"/v2/team/app/referrers/{SUBJECT.digest}").json
    assert [entry["digest"] for entry in listed["manifests"]] == [str(signature), str(sbom)]
    assert listed["manifests"][0]["annotations"] == {"who": "me"}
    assert "annotations" not in listed["manifests"][1]
    for spelling in ("signature%2Bjson", "signature+json"):
        path = f"/v2/team/app/referrers/{SUBJECT.digest}?artifactType=application/vnd.example.{spelling}"
        answer = client.get(path)
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
        assert [entry["digest"] for entry in answer.json["manifests"]] == [str(signature)]


def test_pages_are_linked(client: FlaskClient) -> None:
    """Referrers that do not fit into one page follow by Link, each exactly once."""
    pushed = {
        str(
            attach(
                client, f"application/vnd.example.{number % 2}", annotations={"note": str(number) * 900_000}
            )
        )
        for number in range(5)
    }
    path, seen, pages = f"/v2/team/app/referrers/{SUBJECT.digest}", [], 0
    while path:
        answer = client.get(path)
        assert len(answer.data) < 4 << 20
        seen += [entry["digest"] for entry in answer.json["manifests"]]
        link = answer.headers.get("Link", "")
        path, pages = link.partition(">")[0].lstrip("<"), pages + 1
    assert (sorted(seen), pages) == (sorted(pushed), 3)


@pytest.mark.parametrize(
    ("query", "code"), [("after=x", "PAGINATION_NUMBER_INVALID"), ("after=1-sha256:ab", "DIGEST_INVALID")]
)
def test_a_cursor_of_nobody_is_refused(client: FlaskClient, query: str, code: str) -> None:
    """Only places that a Link named can be asked for."""
    answer = client.get(f"/v2/team/app/referrers/{SUBJECT.digest}?{query}")
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, code)


def test_fallback_tags_are_honoured(client: FlaskClient) -> None:
    """Of what a client listed under a fallback tag before, all with a subject are listed; the tag stays."""
    attached = attach(client, "application/vnd.example.signature+json")
    stranger = image(layer({"b": b"2"}), oci=True)
    for blob in stranger.blobs.values():
        client.post(f"/v2/team/app/blobs/uploads/?digest={Digest.of(blob)}", data=blob)
    path = f"/v2/team/app/manifests/{stranger.digest}"
    assert client.put(path, data=stranger.manifest, content_type=stranger.media_type).status_code == 201
    held = client.get(f"/v2/team/app/manifests/{attached}").data
    entries = [descriptor(media_types.OCI_MANIFEST, payload) for payload in (held, stranger.manifest)]
    fallback = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries})
    path = f"/v2/team/app/manifests/{SUBJECT.digest.algorithm}-{SUBJECT.digest.hex}"
    assert client.put(path, data=fallback, content_type=media_types.OCI_INDEX).status_code == 201
    listed = client.get(f"/v2/team/app/referrers/{SUBJECT.digest}").json["manifests"]
    assert [entry["digest"] for entry in listed] == [str(attached)]
    assert client.get(path).data == fallback.encode()
