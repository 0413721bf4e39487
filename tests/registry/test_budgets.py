"""Statement budgets: how often each request may ask the database."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import QuotaRow
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.editions import images_only
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry, index_entries
from dualreg.registry.keys import Keys
from tests import builders
from tests.protocol.exchange import (
    REPOSITORY,
    TOKEN,
    World,
    make_world,
    payload_checksum,
    push_image,
)

pytestmark = pytest.mark.usefixtures("lasting_v1_switch")


@pytest.fixture
def world(client: FlaskClient) -> World:
    """A registry with a little of everything."""
    return make_world(client)


@pytest.fixture
def statements(catalog: Catalog) -> Iterator[list[str]]:
    """Every statement that is executed, but for those that begin one, lock names, or look at the version."""
    seen: list[str] = []
    others = ("BEGIN", "SELECT pg_advisory_xact_lock", "SELECT pg_current_snapshot")

    def note(*event_: Any) -> None:
        statement = event_[2]
        if not statement.startswith(others):
            seen.append(statement)

    event.listen(catalog.engine, "before_cursor_execute", note)
    yield seen
    event.remove(catalog.engine, "before_cursor_execute", note)


EXACT: dict[str, tuple[str, str, int]] = {
    "V2 base": ("GET", "/v2/", 0),
    "V1 ping": ("GET", "/v1/_ping", 0),
    "HEAD blob": ("HEAD", "{repo}/blobs/{layer}", 1),
    "GET blob": ("GET", "{repo}/blobs/{layer}", 1),
    "GET manifest by tag": ("GET", "{repo}/manifests/one", 1),
    "GET manifest by digest": ("GET", "{repo}/manifests/{image}", 1),
    "HEAD manifest": ("HEAD", "{repo}/manifests/one", 1),
    "tags/list": ("GET", "{repo}/tags/list", 1),
    "tags/list, a page": ("GET", "{repo}/tags/list?n=2&last=a", 1),
    "_catalog": ("GET", "/v2/_catalog", 1),
    "upload status": ("GET", "{upload}", 1),
    "V1 json": ("GET", "/v1/images/{top}/json", 1),
    "V1 layer": ("GET", "/v1/images/{top}/layer", 1),
    "V1 ancestry": ("GET", "/v1/images/{top}/ancestry", 1),
}


@pytest.mark.parametrize("name", EXACT)
def test_reads(world: World, statements: list[str], name: str) -> None:
    """One question each, and no writing: not even that a tag was pulled."""
    method, path, budget = EXACT[name]
    statements.clear()
    response = world.client.open(world.fill(path), method=method, headers=TOKEN)
    assert response.status_code in (200, 204)
    assert len(statements) == budget, "\n".join(statements)


def test_schema_1_is_stored_once(world: World, catalog: Catalog, statements: list[str]) -> None:
    """By the first HEAD or GET of an old client, in one transaction; after that, by tag or digest, never."""
    Keys(catalog).schema1.sign(b"")  # which makes the key
    note = statements.append
    event.listen(catalog.engine, "commit", lambda _: note("COMMIT"))

    def ask(method: str, reference: str) -> str:
        statements.clear()
        path = world.fill(f"{{repo}}/manifests/{reference}")
        answer = world.client.open(path, method=method, headers={"User-Agent": "docker/1.9.1", **TOKEN})
        assert (answer.status_code, answer.content_type) == (200, media_types.SCHEMA1_SIGNED)
        return answer.headers["Docker-Content-Digest"]

    changes = ("INSERT", "UPDATE", "DELETE")
    digest = ask("HEAD", "one")
    assert sum("INTO manifest_views" in each for each in statements) == 1, "\n".join(statements)
    first, *_, last = (at for at, each in enumerate(statements) if each.startswith(changes))
    assert "COMMIT" not in statements[first:last]
    for reference, budget in (("one", 3), (digest, 2)):
        for method in ("GET", "HEAD"):
            assert ask(method, reference) == digest
            selects = [each for each in statements if each != "COMMIT"]
            assert len(selects) <= budget, "\n".join(selects)
            assert not any(each.startswith(changes) for each in selects)


def test_many_manifests_are_one_question(world: World, catalog: Catalog, statements: list[str]) -> None:
    """Of those that a repository may have. A rollback asks so for all that it reached."""
    one, name = Digest.parse(world.fill("{image}")), RepositoryName(REPOSITORY)
    absent = [Digest.of(bytes([number])) for number in range(50)]
    statements.clear()
    with catalog.read() as tx:
        found = tx.manifests.find_all(name, [*absent, one])
        assert len(statements) == 1, "\n".join(statements)
        assert found == {one: tx.manifests.find(name, one)}


@pytest.mark.slow
def test_an_index_is_searched_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all clients that cannot read it, whether it has an entry for them or not."""
    image, read = builders.image(builders.layer({"a": b"1"})), []
    push_image(client, REPOSITORY, image, "one")
    monkeypatch.setattr(index_entries, "images_only", lambda given: read.append(given) or images_only(given))
    accepts = ({"Accept": media_types.DOCKER_MANIFEST}, {"Accept": media_types.SCHEMA1_SIGNED})
    for architecture, statuses in (("amd64", [200, 200]), ("s390x", [406, 406])):
        path = f"/v2/{REPOSITORY}/manifests/{architecture}"
        payload = builders.index(image, architectures=(architecture,))
        assert client.put(path, data=payload, content_type=media_types.OCI_INDEX).status_code == 201
        read.clear()
        for _ in range(3):
            assert [client.get(path, headers=accept).status_code for accept in accepts] == statuses
        assert len(read) == 2  # once for what its images ask of clients, once for their platforms


@pytest.mark.parametrize("count", [0, 1, 300])
def test_the_end_of_a_v1_push(world: World, statements: list[str], count: int) -> None:
    """However many images a client lists, one question finds those that are unknown, or tagged already."""
    listed = [{"id": f"{number:064x}", "Tag": f"t{number}"} for number in range(count)]
    tags = world.client.get(world.fill("{v1}/tags"), headers=TOKEN).json
    listed += [{"id": image, "Tag": tag} for tag, image in tags.items()] * count
    statements.clear()
    ended = world.client.put(world.fill("{v1}/images"), json=listed, headers=TOKEN)
    assert ended.status_code == 204
    assert len(statements) <= 9, "\n".join(statements)


def test_v1_pull(world: World, statements: list[str]) -> None:
    """Nothing is derived twice: what begins a pull asks a handful of questions."""
    for path, budget in (("{v1}/images", 4), ("{v1}/tags", 4), ("{v1}/tags/one", 2)):
        statements.clear()
        assert world.client.get(world.fill(path)).status_code == 200
        assert 0 < len(statements) <= budget, "\n".join(statements)


@pytest.mark.parametrize("layers", [1, 20])
def test_put_of_a_manifest(world: World, statements: list[str], layers: int) -> None:
    """However many layers it has."""
    image = builders.image(*(builders.layer({"f": bytes([number])}) for number in range(layers)))
    push_image(world.client, REPOSITORY, image)
    statements.clear()
    path = world.fill("{repo}/manifests/new")
    put = world.client.put(path, data=image.manifest, content_type=image.media_type)
    assert put.status_code == 201
    assert 0 < len(statements) <= 10, "\n".join(statements)


def test_finish_of_an_upload(world: World, statements: list[str]) -> None:
    """Lease, remove, claim, link: and nothing a piece."""
    data = bytes(3 << 20)
    location = world.client.post(world.fill("{repo}/blobs/uploads/")).headers["Location"]
    statements.clear()
    assert world.client.patch(location, data=data).status_code == 202
    assert 0 < len(statements) <= 2, "\n".join(statements)
    statements.clear()
    assert world.client.put(f"{location}?digest={Digest.of(data)}").status_code == 201
    assert 0 < len(statements) <= 5, "\n".join(statements)


@pytest.mark.slow
def test_v1_push(world: World, statements: list[str]) -> None:
    """Each of the three requests for an image, whatever the length of its chain."""
    chain = builders.v1_chain(*(builders.layer({"f": bytes([number])}) for number in range(9)), seed="long")
    for image in chain:
        path, sums = f"/v1/images/{image.id}", {"X-Docker-Checksum-Payload": payload_checksum(image)}
        for url, body, headers, budget in (
            (f"{path}/json", image.json, TOKEN, 9),
            (f"{path}/layer", image.layer, TOKEN, 8),
            (f"{path}/checksum", b"", TOKEN | sums, 4),
        ):
            statements.clear()
            assert world.client.put(url, data=body, headers=headers).status_code == 200
            assert 0 < len(statements) <= budget, "\n".join(statements)


@pytest.mark.parametrize("size", [None, 1 << 30])
def test_quotas_cost_those_who_have_one(
    client: FlaskClient, registry: Registry, statements: list[str], size: int | None
) -> None:
    """Two statements more for each request that links something new, and one for what counts already."""
    image = builders.image(builders.layer({"quota": b"1"}))
    push_image(client, REPOSITORY, image)
    registry.quotas.set(QuotaRow("elsewhere/*", 1))
    if size:
        registry.quotas.set(QuotaRow("team/*", size))
    client.post(f"/v2/{REPOSITORY}/blobs/uploads/")  # which reads the policies
    data, costs = b"new blob", list[int]()
    path = f"/v2/{REPOSITORY}/manifests/quota"

    def cost(method: str, path: str, **given: Any) -> None:
        statements.clear()
        assert client.open(path, method=method, **given).status_code == 201
        costs.append(sum("quota" in each.lower() for each in statements))

    for _ in range(2):
        cost("PUT", path, data=image.manifest, content_type=image.media_type)
    cost("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(data)}", data=data)
    assert costs == ([2, 1, 3] if size else [0, 0, 0])  # with one before the bytes of a blob are sent
