"""Who moved a tag: the account of the request, as in the audit log; shown to those who may push."""

from dualreg.image.names import RepositoryName, Tag
from tests.auth.conftest import Guarded
from tests.builders import image, layer, v1_chain
from tests.protocol.exchange import payload_checksum

ONE = image(layer({"a": b"1"}))
CHAIN = v1_chain(layer({"a": b"2"}))
PATH = "/v2/team/app/_oci/tag-history/1"
ACTOR = "io.dualreg.tag.actor"


def test_actors(guarded: Guarded) -> None:
    """Over both APIs, with a password or a token; requests that move nothing leave nothing behind."""
    alice, bob = (guarded.account(name, ("team/*", "pull,push,delete")) for name in ("alice", "bob"))
    reader = guarded.account("reader", ("team/*", "pull"))
    guarded.accounts.grant("anonymous", "team/app", "pull")
    client = guarded.client
    for digest, data in ONE.blobs.items():
        client.post(f"/v2/team/app/blobs/uploads/?digest={digest}", data=data, headers=alice)
    manifest = {"data": ONE.manifest, "content_type": ONE.media_type}
    assert client.put("/v2/team/app/manifests/1", headers=alice, **manifest).status_code == 201
    assert client.get("/v2/team/app/manifests/1", headers=reader).status_code == 200
    token = guarded.token("repository:team/app:pull,push,delete", headers=bob)
    bearer = {"Authorization": f"Bearer {token}"}
    assert client.delete("/v2/team/app/manifests/1", headers=bearer).status_code == 202
    begun = client.put("/v1/repositories/team/app/", json=[], headers=alice)
    session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
    for each in CHAIN:
        path = f"/v1/images/{each.id}"
        client.put(f"{path}/json", data=each.json, headers=session)
        client.put(f"{path}/layer", data=each.layer, headers=session)
        client.put(
            f"{path}/checksum", headers=session | {"X-Docker-Checksum-Payload": payload_checksum(each)}
        )
    tagged = client.put("/v1/repositories/team/app/tags/1", json=CHAIN[-1].id, headers=session)
    assert tagged.status_code == 200
    rows = guarded.registry.history.page(RepositoryName("team/app"), Tag("1"), limit=9).rows
    assert [(row.actor, row.api) for row in rows] == [("alice", "v1"), ("bob", "v2"), ("alice", "v2")]
    for headers, shown in ((bob, True), (bearer, True), (reader, False), ({}, False)):
        entries = client.get(PATH, headers=headers).json["manifests"]
        assert len(entries) == 3
        expected = ["alice", "bob", "alice"] if shown else [None] * 3
        assert [each["annotations"].get(ACTOR) for each in entries] == expected
    assert client.get("/v2/secret/_oci/tag-history/1", headers=reader).status_code == 403
