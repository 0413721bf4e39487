"""A registry with content of every kind, pushed over both APIs, converted, moved and deleted."""

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import Connection, select

from dualreg.auth.accounts import Accounts
from dualreg.auth.keyring import Keyring
from dualreg.auth.secrets import SecretKind
from dualreg.catalog.database import Catalog
from dualreg.catalog.retention import RetentionRule
from dualreg.catalog.tables import Repositories, Table
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.layer import EMPTY_LAYER
from dualreg.maintenance.rebuild import Rebuild
from dualreg.storage import Store
from tests import builders
from tests.databases import empty_database
from tests.documents import ARTIFACTS, IMAGE
from tests.protocol.clients.libtrust import signed
from tests.protocol.clients.v2 import DOCKER, DOCKER_1_10
from tests.protocol.exchange import push_blob, push_image, push_v1
from tests.protocol.test_schema1 import KEY, LAYER, payload

ONE = builders.image(builders.layer({"a": b"1"}), builders.layer({"b": b"2"}))
TWO = builders.image(builders.layer({"a": b"1"}), builders.layer({"c": b"3"}), oci=True)
ZSTD = builders.zstd_image(builders.layer({"g": b"7"}), builders.layer({"h": b"8"}))
OTHER = builders.zstd_image(builders.layer({"g": b"7"}), architecture="arm64")
CHAIN = builders.v1_chain(builders.layer({"d": b"4"}), EMPTY_LAYER, builders.layer({"e": b"5"}))
OLDER = builders.v1_chain(builders.layer({"d": b"4"}), builders.layer({"f": b"6"}), seed="older")


def put(client: FlaskClient, name: str, reference: object, body: bytes, media_type: str | None) -> Digest:
    """Push a manifest, and return its digest."""
    headers = {"Content-Type": media_type} if media_type else None
    answer = client.put(f"/v2/{name}/manifests/{reference}", data=body, headers=headers)
    assert answer.status_code == 201, answer.data
    return Digest.parse(answer.headers["Docker-Content-Digest"])


def fill(client: FlaskClient) -> None:
    """Fill an empty registry, which may have sparse indexes."""
    _images(client)
    _documents(client)
    _v1(client)
    _schema1(client)
    _editions(client)
    _changes(client)


def _images(client: FlaskClient) -> None:
    push_image(client, "team/app", ONE, "one", "moved", "deleted")
    push_image(client, "team/app", TWO, "two", "moved")
    index = builders.index(ONE, TWO)
    put(client, "team/app", "index", index, media_types.OCI_INDEX)
    nested = builders.descriptor(media_types.OCI_INDEX, index)
    absent = builders.descriptor(media_types.OCI_MANIFEST, b"absent")
    late = builders.image(ONE.layers[0], oci=True, comment="late")
    entries = [absent, builders.descriptor(late.media_type, late.manifest), nested]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
    put(client, "team/app", "sparse", json.dumps(document).encode(), media_types.OCI_INDEX)
    push_image(client, "team/app", late, str(late.digest))
    mount = f"/v2/team/app/sub/blobs/uploads/?mount={Digest.of(ONE.layers[0])}&from=team/app"
    assert client.post(mount).status_code == 201
    push_image(client, "team/app-extra", ONE, "one")
    push_image(client, "0", ONE, "_")


def _documents(client: FlaskClient) -> None:
    """Push manifests that say little of themselves, artifacts, and one under sha512."""
    push_image(client, "team/art", IMAGE, "subject")
    for artifact in ARTIFACTS.values():
        put(client, "team/art", Digest.of(artifact.payload), artifact.payload, artifact.media_type)
    push_blob(client, "team/art", b"{}")
    config = builders.descriptor("application/vnd.oci.empty.v1+json", b"{}")
    bare: dict[str, Any] = {"schemaVersion": 2, "config": config, "layers": []}
    put(client, "team/art", "bare", json.dumps(bare).encode(), media_types.OCI_MANIFEST)
    put(client, "team/art", "docker", json.dumps(bare | {"a": 1}).encode(), media_types.DOCKER_MANIFEST)
    put(client, "team/art", "other", b'{"any": "thing"}', "application/vnd.example+json")
    subject = bare | {"subject": builders.descriptor(IMAGE.media_type, IMAGE.manifest)}
    for media_type in ("application/x", media_types.OCI_MANIFEST, "application/x"):
        put(client, "team/art", "late", json.dumps(subject).encode(), media_type)
    body = json.dumps(subject | {"annotations": {"a": "é"}, "artifactType": "a/b"}).encode()
    put(client, "team/art", Digest.of(body, "sha512"), body, media_types.OCI_MANIFEST)


def _v1(client: FlaskClient) -> None:
    push_v1(client, "library/old", CHAIN, "latest")
    push_v1(client, "library/old", OLDER, "older")
    base = {"path": "/v1/repositories/library/old/tags/base", "json": CHAIN[0].id}
    assert client.put(**base, headers={"User-Agent": "docker/0.9.1"}).status_code == 200
    for name in ("team/app", "library/old"):
        assert client.get(f"/v1/repositories/{name}/tags").status_code == 200
        assert client.get(f"/v1/repositories/{name}/images").status_code == 200
    manifest = client.get("/v2/library/old/manifests/latest")
    put(client, "library/old", "again", manifest.data, manifest.content_type)
    put(client, "library/old", "base", manifest.data, manifest.content_type)
    push_image(client, "library/old", ONE, "latest2", "older")


def _schema1(client: FlaskClient) -> None:
    """Push schema 1, and have it converted for modern clients and for V1."""
    push_blob(client, "old/app", LAYER)
    put(client, "old/app", "one", signed(payload(), KEY), None)
    for accept in (media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST):
        answer = client.get("/v2/old/app/manifests/one", headers={"Accept": accept})
        assert answer.content_type == accept
    assert client.get("/v1/repositories/old/app/tags").status_code == 200


def _editions(client: FlaskClient) -> None:
    """Push an index of zstd images, and have editions made for clients that cannot read it."""
    for image in (ZSTD, OTHER):
        push_image(client, "team/zstd", image, str(image.digest))
    put(client, "team/zstd", "index", builders.index(ZSTD, OTHER), media_types.OCI_INDEX)
    pull_editions(client)


def pull_editions(client: FlaskClient) -> None:
    """Pull the index of zstd images as clients that read other media types, no zstd, or only schema 1."""
    for accept, agent, media_type in (
        (DOCKER_1_10, "docker/1.10.3", media_types.DOCKER_LIST),
        (DOCKER, "docker/20.10.24", media_types.OCI_INDEX),
        ((), "docker/1.9.1", media_types.SCHEMA1_SIGNED),
    ):
        headers = {"Accept": ", ".join(accept), "User-Agent": agent}
        answer = client.get("/v2/team/zstd/manifests/index", headers=headers)
        assert answer.content_type == media_type


def _changes(client: FlaskClient) -> None:
    push_image(client, "gone", TWO, "one")
    assert client.delete("/v2/gone/_dualreg/repository").status_code == 202
    push_image(client, "team/del", TWO, "one", "two")
    assert client.delete("/v2/team/app/manifests/deleted").status_code == 202
    assert client.delete(f"/v2/team/del/manifests/{TWO.digest}").status_code == 202
    assert client.delete(f"/v2/team/del/blobs/{Digest.of(TWO.config)}").status_code == 202
    assert client.delete("/v1/repositories/library/old/tags/older").status_code == 200


WEBHOOK = WebhookRow("ci", "https://ci.example/?token=x", "docker", ("team/*:v*",), ("push",), "/s")


def administer(accounts: Accounts) -> None:
    """Make, change and remove accounts, rules and keys."""
    for name in ("alice", "bob", "gone"):
        accounts.add(name, f"the password of {name}")
    accounts.add("ci", None)
    accounts.join("team", "alice")
    accounts.join("team", "gone")
    accounts.grant("@team", "team/*", "pull,push")
    accounts.grant("bob", "*", "pull")
    accounts.ungrant("bob", "*", "pull")
    accounts.add_key("ci", limits="repository:team/*:pull", note="é", lifetime=timedelta(days=3))
    revoked = accounts.add_key("ci", limits="", note="", lifetime=None)
    accounts.revoke(SecretKind.KEY, revoked.id)
    accounts.set_password("alice", "another password")
    accounts.remove("gone")
    with accounts.catalog.begin() as tx:
        tx.accounts.add_subject("https://login.example", "4711", "dora")
        tx.accounts.renew("dora", tx.now + timedelta(days=30), ["team"])
        tx.retention.add(RetentionRule("team/*", "*", 100, timedelta(days=30), None, ("v*", "latest")))
        tx.webhooks.add(WEBHOOK)
        outbox = tx.webhooks.outbox
        outbox.queue(WEBHOOK.name, outbox.moves(0, outbox.last(), 3))
    Keyring(accounts.catalog).rotate(timedelta(hours=1))


#: What the tree does not say: work in progress, counters of visits, and what other files keep.
UNKNOWN = {"tag_history", "deleted_repositories", "deleted_manifests", "deleted_images", "deleted_blobs"} | {
    "uploads",
    "v1_sent_layers",
    "v1_clients",
    "login_failures",
    "login_successes",
    "key_uses",
    "forgotten",
    "service_state",
    "transcoded_layers",
    "tasks",
    "daily_figures",
    "webhook_events",
    "webhook_queues",
    "webhook_states",
}
#: Columns that the tree does not say, or only nearly: a blob may be linked again.
_COLUMNS = {"repositories.id", "repositories.created_at", "blobs.created_at", "blobs.verified_at"}
_COLUMNS |= {
    "repository_blobs.linked_at",
    "repository_blobs.candidate_since",
    "tags.pulled_at",
    "v1_images.touched_at",
}


def known_rows(catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that the tree says, with repositories by name.

    Not those of repositories that contain nothing, of incomplete V1 images, and of views that cannot exist.
    """
    with catalog.engine.connect() as connection:
        names = dict([*connection.execute(select(Repositories.id, Repositories.name))])
        found = {
            name: sorted(_rows(connection, name, names), key=repr)
            for name in Table.metadata.tables
            if name not in UNKNOWN
        }
    filled = {row["repository"] for row in found["repository_blobs"]}
    found["repositories"] = [row for row in found["repositories"] if row["name"] in filled]
    found["v1_images"] = [row for row in found["v1_images"] if row["complete"]]
    found["manifest_views"] = [row for row in found["manifest_views"] if row["view"] is not None]
    return found


def rebuilt_rows(store: Store, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a catalog in *folder* that is made from the store, without findings."""
    with empty_database(folder / "rebuilt") as url, closing(Catalog(url)) as catalog:
        rebuild = Rebuild(catalog, store)
        rebuild.begin()
        assert rebuild.run().findings == []
        return known_rows(catalog)


def _rows(connection: Connection, name: str, names: dict[int, str]) -> list[dict[str, Any]]:
    rows = []
    for row in connection.execute(select(Table.metadata.tables[name])).mappings():
        known = {key: value for key, value in row.items() if f"{name}.{key}" not in _COLUMNS}
        if "repository_id" in known:
            known["repository"] = names[known.pop("repository_id")]
        rows.append(known)
    return rows
