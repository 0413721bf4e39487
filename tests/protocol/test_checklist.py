"""What went wrong in other registries: hostile sizes, paths and headers are answered by the contract."""

import json
import sqlite3
from typing import Any

import pytest
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.registry import Registry
from tests import builders
from tests.protocol.exchange import REPOSITORY, World, v2_codes
from tests.state import snapshot

#: As many as fit into a manifest.
MANY = 40_000
#: What SQLite takes unless its packager decided otherwise.
SQLITE_VARIABLES = 32_766


@pytest.mark.parametrize("n", ["2147483647", "9" * 4000, "0" * 4000 + "1", "18446744073709551616"])
@pytest.mark.parametrize("path", ["/v2/_catalog", "{repo}/tags/list", "{repo}/_dualreg/tags"])
def test_a_page_of_any_size(world: World, path: str, n: str) -> None:
    """A number of entries is never more than what a page may have, and nothing is made ready for it."""
    assert world.client.get(world.fill(f"{path}?n={n}")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("variant", "status"),
    [
        ("/v2/_catalog/", 200),
        ("/v2//_catalog", 404),
        ("//v2/_catalog", 404),
        ("/v2/_catalog/.", 404),
        ("/v2/%5fcatalog", 200),
        ("/V2/_catalog", 404),
        ("/v2/_catalog;x=1", 404),
        ("/v2/_catalog%00", 404),
    ],
)
def test_other_spellings_of_a_path(world: World, method: str, variant: str, status: int) -> None:
    """They are the same resource, by the same handler, or none: no way around what guards it."""
    answer = world.client.open(variant, method=method)
    assert answer.status_code == status
    if status == 200:
        assert answer.data == world.client.open("/v2/_catalog", method=method).data


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("PUT {repo}/manifests/{image}?tag=a%0d%0aX-Injected:%201", 400),
        ("PUT {repo}/manifests/{image}?tag=a,b", 400),
        ("GET {repo}/referrers/{image}?artifactType=a%0d%0aX-Injected:%201", 200),
        ("GET {repo}/_dualreg/tags?prefix=a%0d%0aX-Injected:%201", 400),
        ("GET {repo}/tags/list?n=1&last=%0d%0aX-Injected:%201", 200),
        ("GET /v2/_catalog?n=1&last=%0d%0aX-Injected:%201", 200),
        ("POST {repo}/blobs/uploads/?digest-algorithm=sha256%0d%0aX-Injected:%201", 400),
        ("POST {repo}/blobs/uploads/?mount={layer}&from=a%0d%0aX-Injected:%201", 202),
    ],
)
def test_no_query_becomes_a_header(
    world: World, shared_registry: Registry, request_: str, status: int
) -> None:
    """Line breaks of a query are encoded in headers, or left out."""
    before, (method, path) = snapshot(shared_registry), request_.split(" ")
    answer = world.client.open(
        world.fill(path), method=method, data=world.image.manifest, content_type=world.image.media_type
    )
    assert answer.status_code == status
    assert "X-Injected" not in answer.headers
    assert not any("\n" in value or "\r" in value for _, value in answer.headers)
    if status == 202:  # an upload in place of an impossible mount
        assert world.client.delete(answer.headers["Location"]).status_code == 204
    assert snapshot(shared_registry) == before


@pytest.mark.parametrize("accept", ["a/b," * 250_000, ";q=" * 300_000, "*/*;" + "q" * 1_000_000])
def test_an_accept_header_without_end(world: World, accept: str) -> None:
    """It is read once, in order of its length."""
    assert world.client.get(world.fill("{repo}/manifests/one"), headers={"Accept": accept}).status_code == 200


@pytest.fixture
def common_sqlite(catalog: Catalog) -> None:
    """Give the catalog's connections the limits of an SQLite with default settings."""

    @event.listens_for(catalog.engine, "connect")
    def limit(connection: sqlite3.Connection, _: Any) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, SQLITE_VARIABLES)

    catalog.engine.dispose()


@pytest.mark.slow
@pytest.mark.sqlite
@pytest.mark.parametrize("kind", ["layers", "manifests"])
@pytest.mark.usefixtures("common_sqlite")
def test_a_manifest_that_names_as_much_as_it_can(fresh_world: World, registry: Registry, kind: str) -> None:
    """All that is missing is listed, as for any manifest, and nothing was stored."""
    entries = [{"digest": f"sha256:{number:064x}", "size": 1} for number in range(MANY)]
    named: dict[str, Any] = {"schemaVersion": 2, kind: entries}
    if kind == "layers":
        named["config"] = builders.descriptor(media_types.DOCKER_CONFIG, fresh_world.image.config)
    media_type = media_types.OCI_MANIFEST if kind == "layers" else media_types.OCI_INDEX
    before, body = snapshot(registry), json.dumps(named, separators=(",", ":")).encode()
    path = f"/v2/{REPOSITORY}/manifests/many"
    answer = fresh_world.client.put(path, data=body, content_type=media_type)
    assert answer.status_code == 400
    assert v2_codes(answer) == ["MANIFEST_BLOB_UNKNOWN"] * MANY
    assert snapshot(registry) == before


def test_a_refusal_names_some_of_the_reasons(fresh_world: World) -> None:
    """A layer that hundreds of images need stays, and the answer is short."""
    layer, client = fresh_world.image.layers[0], fresh_world.client
    for number in range(110):
        image = builders.image(layer, comment=str(number))
        client.post(f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(image.config)}", data=image.config)
        path = f"/v2/{REPOSITORY}/manifests/t{number}"
        assert client.put(path, data=image.manifest, content_type=image.media_type).status_code == 201
    answer = client.delete(fresh_world.fill("{repo}/blobs/{layer}"))
    assert v2_codes(answer) == ["UNSUPPORTED"]
    assert len(answer.json["errors"][0]["message"]) < 500
    assert 100 <= len(answer.json["errors"][0]["detail"].split()) <= 300
