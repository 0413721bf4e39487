"""Content of a reference registry, pulled through this one; a proxy between them counts, fails and stalls."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from dualreg import proxies
from dualreg.acting import Api
from dualreg.assembly import writes_of
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.remote.transport import PROMPT
from dualreg.upstreams import breaker, checked
from tests import builders
from tests.clients.stock import stock_registry
from tests.migrate import stock_trees
from tests.migrate.fronts import Front, Step, cut, hostile, status
from tests.upstreams.world import ACCEPT, IMAGE, OTHER, Here, There, errors_of, here, requests

NAME = RepositoryName("hub/team/app")


@pytest.fixture
def hub(between: Front, tmp_path: Path) -> Iterator[Here]:
    """A registry that serves it as ``hub/*``, and looks at every request whether tags have changed."""
    with here(tmp_path / "data", between.url, check_interval="0s") as opened:
        yield opened


@pytest.mark.slow
def test_a_pull_fetches_everything_once(hub: Here, between: Front) -> None:
    """Bytes and digests are those of the other registry; what is here is not asked for again."""
    hub.again(check_interval="1h")
    for _ in range(2):
        hub.pull(NAME, IMAGE, "1")
        hub.pull(NAME, IMAGE, str(IMAGE.digest))
    assert requests(between, "manifests/1") == ["GET"]
    assert requests(between, str(IMAGE.digest)) == []
    for digest in IMAGE.blobs:
        assert requests(between, str(digest)) == ["HEAD", "GET"]
    hub.again()  # what was asked is known to the next process, too
    hub.pull(NAME, IMAGE, "1")
    assert requests(between, "manifests/1") == ["GET"]


@pytest.mark.slow
def test_blobs_are_asked_for_first(hub: Here) -> None:
    """By clients that have the manifest from elsewhere: the repository is upstream's from then on, too."""
    for _ in range(2):
        for digest, content in IMAGE.blobs.items():
            assert hub.get(f"{NAME}/blobs/{digest}").data == content
        assert hub.registry.repositories.upstream(NAME) == hub.settings.upstreams["hub/*"].url
        hub.pull(NAME, IMAGE, "1")
        hub.registry.repositories.delete(NAME)


def test_what_clients_pushed_is_not_mixed(hub: Here, there: There) -> None:
    """A repository that had content before it was upstream's gets none from there."""
    there.put("team/mixed", IMAGE, "1")
    hub.pull(NAME, IMAGE, "1")
    hub.registry.blobs.share(RepositoryName("hub/team/mixed"), hub.registry.blobs.stat(NAME, IMAGE.digest))
    for path in ("manifests/1", f"blobs/{Digest.of(IMAGE.config)}"):
        assert hub.get(f"hub/team/mixed/{path}").status_code == 404


@pytest.mark.slow
def test_a_blob_that_cannot_be_read_there(hub: Here, between: Front, there: There) -> None:
    """Its error is passed on. The registry is asked for everything else at once."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        status(200 if handler.command == "HEAD" else 404, IMAGE.config)(handler)

    between.answer = lambda path, _: answer if "/blobs/" in path else None
    assert hub.get(f"{NAME}/blobs/{Digest.of(IMAGE.config)}").status_code == 404
    there.put("team/readable", IMAGE, "1")
    assert hub.get("hub/team/readable/manifests/1").status_code == 200


def test_a_registry_without_ranges(tmp_path: Path) -> None:
    """It sends a blob again from its first byte when the connection has broken, and the rest is taken."""
    content = os.urandom(300_000)
    path = f"/v2/app/blobs/{Digest.of(content)}"
    with hostile() as far, here(tmp_path / "data", far.url) as opened:
        far.answers = {
            f"HEAD {path}": [status(200, content)],
            f"GET {path}": [cut(content, 200_000), status(200, content)],
        }
        assert opened.get(f"hub/app/blobs/{Digest.of(content)}").data == content


@pytest.mark.slow
def test_a_tag_is_compared_and_follows(hub: Here, between: Front, there: There) -> None:
    """A HEAD finds out that it has moved, was deleted, or is the same; by digest, the old image stays."""
    there.put("team/moving", IMAGE, "1")
    hub.pull("hub/team/moving", IMAGE, "1")
    hub.pull("hub/team/moving", IMAGE, "1")
    assert requests(between, "manifests/1") == ["GET", "HEAD"]
    there.put("team/moving", OTHER, "1")
    hub.pull("hub/team/moving", OTHER, "1")
    assert requests(between, "manifests/1") == ["GET", "HEAD", "HEAD", "GET"]
    between.answer = lambda path, _: 404 if path.endswith("/manifests/1") else None
    assert errors_of(hub.get("hub/team/moving/manifests/1"))[:2] == (404, "MANIFEST_UNKNOWN")
    for image in (IMAGE, OTHER):
        hub.pull("hub/team/moving", image, str(image.digest))
    moves = hub.registry.history.page(RepositoryName("hub/team/moving"), Tag("1"), limit=9).rows
    assert [each.new for each in moves] == [None, OTHER.digest, IMAGE.digest]
    assert {(each.api, each.actor) for each in moves} == {(Api.UPSTREAM, between.url)}


def test_an_immutable_tag_does_not_follow(hub: Here, between: Front, there: There) -> None:
    """Clients get what it was first, whether it is moved there or deleted."""
    there.put("team/immutable", IMAGE, "1")
    hub.pull("hub/team/immutable", IMAGE, "1")
    hub.registry.immutability.add("hub/*:1")
    there.put("team/immutable", OTHER, "1")
    hub.pull("hub/team/immutable", IMAGE, "1")
    between.answer = lambda path, _: 404 if path.endswith("/manifests/1") else None
    hub.pull("hub/team/immutable", IMAGE, "1")


def test_an_index_and_what_it_lists(hub: Here, between: Front, there: There) -> None:
    """Children come when they are asked for; clients that read no index get their image of it."""
    for image in (IMAGE, OTHER):
        there.put("team/index", image)
    there.put_manifest("team/index", "1", builders.index(IMAGE, OTHER), media_types.OCI_INDEX)
    assert hub.get("hub/team/index/manifests/1").data == builders.index(IMAGE, OTHER)
    assert requests(between, str(IMAGE.digest)) == []
    accept = {"Accept": media_types.OCI_MANIFEST}
    assert hub.client.get("/v2/hub/team/index/manifests/1", headers=accept).data == IMAGE.manifest
    hub.pull("hub/team/index", OTHER, str(OTHER.digest))
    hub.again(platforms=["linux/amd64"])
    assert hub.get(f"hub/team/index/manifests/{OTHER.digest}").status_code == 200  # it is here


def test_an_image_of_an_index_outlives_failures(hub: Here, between: Front, there: There) -> None:
    """Clients that read no index get theirs, although others cannot be looked at."""
    for image in (IMAGE, OTHER):
        there.put("team/half", image)
    there.put_manifest("team/half", "1", builders.index(IMAGE, OTHER), media_types.OCI_INDEX)
    assert hub.get("hub/team/half/manifests/1").status_code == 200
    accept = {"Accept": media_types.OCI_MANIFEST}
    between.answer = lambda _path, _said: status(503, '{"errors": [{"code": "\u00fcber"}]}'.encode())
    response = hub.client.get("/v2/hub/team/half/manifests/1", headers=accept)
    assert errors_of(response)[:2] == (503, "UNKNOWN")
    hub.again()
    between.answer = lambda _path, _said: None
    hub.pull("hub/team/half", IMAGE, str(IMAGE.digest))
    between.answer = lambda _path, _said: status(503, '{"errors": [{"code": "\u00fcber"}]}'.encode())
    response = hub.client.get("/v2/hub/team/half/manifests/1", headers=accept)
    assert response.data == IMAGE.manifest
    assert "(503)" in response.headers["Warning"]


def test_only_some_platforms_and_repositories(hub: Here, there: There) -> None:
    """Others are not fetched, and the error says so."""
    for image in (IMAGE, OTHER):
        there.put("team/only", image)
    there.put_manifest("team/only", "1", builders.index(IMAGE, OTHER), media_types.OCI_INDEX)
    hub.again(platforms=["linux/amd64"], repositories=["team/on*"])
    assert hub.get("hub/team/only/manifests/1").status_code == 200
    hub.pull("hub/team/only", IMAGE, str(IMAGE.digest))
    url = hub.settings.upstreams["hub/*"].url
    refused = errors_of(hub.get(f"hub/team/only/manifests/{OTHER.digest}"))
    assert refused[:2] == (404, "MANIFEST_UNKNOWN")
    assert f"serves only linux/amd64 of {url}" in refused[2]
    assert f"does not serve team/app of {url}" in errors_of(hub.get(f"{NAME}/manifests/1"))[2]
    assert errors_of(hub.get(f"{NAME}/blobs/{Digest.of(IMAGE.config)}"))[:2] == (404, "BLOB_UNKNOWN")
    assert hub.get(f"{NAME}/tags/list").status_code == 404


def test_what_is_not_there_is_asked_for_once(hub: Here, between: Front) -> None:
    """A repository, tag, digest or blob that does not exist; that is remembered for a while."""
    unknown = Digest.of(b"nothing")
    paths = ("none/x/manifests/1", f"team/app/manifests/{unknown}", f"team/app/blobs/{unknown}")
    for path in paths:
        for _ in range(2):
            assert hub.get(f"hub/{path}").status_code == 404
        assert len(requests(between, path)) == 1


def _killed(between: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    between.answer = lambda _path, _said: 0


def _stalled(between: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    between.delay = 2


def _answering(step: Step) -> Callable[[Front, pytest.MonkeyPatch], None]:
    def fail(between: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        del monkeypatch
        between.answer = lambda _path, _said: step

    return fail


_BUSY = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "pull rate limit"}]}).encode()
_DENIED = json.dumps({"errors": [{"code": "DENIED", "message": "access expired"}]}).encode()


@pytest.mark.parametrize(
    ("fail", "expected"),
    [
        pytest.param(_killed, (503, "UNKNOWN", "Remote end closed connection"), id="killed"),
        pytest.param(_stalled, (503, "UNKNOWN", "Read timed out"), id="stalled"),
        pytest.param(
            _answering(status(429, _BUSY, Retry_After="57")),
            (429, "TOOMANYREQUESTS", "pull rate limit"),
            id="429",
        ),
        pytest.param(_answering(status(500)), (500, "UNKNOWN", "internal server error"), id="500"),
        pytest.param(_answering(status(503)), (503, "UNKNOWN", "service unavailable"), id="503"),
        pytest.param(_answering(status(401, _DENIED)), (403, "DENIED", "access expired"), id="401"),
        pytest.param(_answering(status(403, _DENIED)), (403, "DENIED", "access expired"), id="403"),
    ],
)
def test_what_is_here_outlives_failures(
    hub: Here,
    between: Front,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[Front, pytest.MonkeyPatch], None],
    expected: tuple[int, str, str],
) -> None:
    """It is served as it was, and says so; for the rest, the error is passed on. That takes no time."""
    monkeypatch.setattr(proxies, "PROMPT", PROMPT._replace(read=0.5, whole=1))
    hub.again()
    hub.pull(NAME, IMAGE, "1")
    fail(between, monkeypatch)
    began = time.monotonic()
    for _ in range(2):
        response = hub.get("hub/team/other/manifests/1")
        code, kind, message = errors_of(response)
        assert (code, kind) == expected[:2]
        assert expected[2] in message
        assert between.url in message
        assert ("Retry-After" in response.headers) or code != 429
    assert hub.client.get("/v1/repositories/hub/team/other/tags").status_code == expected[0]
    for _ in range(3):
        response = hub.get(f"{NAME}/manifests/1")
        assert (response.status_code, response.data) == (200, IMAGE.manifest)
        assert response.headers["Warning"].startswith('110 - "Response is Stale: the upstream registry')
    hub.pull(NAME, IMAGE, str(IMAGE.digest))
    assert "Warning" not in hub.get(f"{NAME}/manifests/{IMAGE.digest}").headers
    assert hub.get(f"{NAME}/tags/list").get_json()["tags"] == ["1"]
    assert time.monotonic() - began < 6


def test_an_upstream_that_answers_again(
    hub: Here, between: Front, monkeypatch: pytest.MonkeyPatch, there: There
) -> None:
    """It is asked again after a pause, and the warning goes."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(checked, "_RETRY", checked._RETRY / 100)
    there.put("team/back", IMAGE, "1")
    hub.pull("hub/team/back", IMAGE, "1")
    between.answer = lambda _path, _said: 0
    assert "Warning" in hub.get("hub/team/back/manifests/1").headers
    between.answer = lambda _path, _said: None
    there.put("team/back", OTHER, "1")
    time.sleep(0.25)
    hub.pull("hub/team/back", OTHER, "1")
    assert "Warning" not in hub.get("hub/team/back/manifests/1").headers


def test_an_upstream_that_hangs_leaves_threads(
    tmp_path: Path, between: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some requests wait for it; the others are refused once none of these has come to an end for a while."""
    monkeypatch.setattr(proxies, "_PATIENCE", 0.3)
    between.delay = 1.5
    with here(tmp_path / "data", between.url) as opened:
        opened.settings = opened.settings.model_copy(update={"threads": 4})
        opened.again()
        answers = list[int]()

        def ask(number: int) -> None:
            answers.append(
                opened.registry and opened.client.get(f"/v2/hub/n{number}/x/manifests/1").status_code
            )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert between.busiest <= 2
    assert answers.count(404) <= 3
    assert answers.count(503) >= 5


def test_pushes_are_refused(hub: Here) -> None:
    """In both dialects, before anything is sent; deleting is allowed, and fetches it anew."""
    url = hub.settings.upstreams["hub/*"].url
    text = f"{NAME} holds what {url} has: push there, or under another name"
    response = hub.client.post(f"/v2/{NAME}/blobs/uploads/")
    assert errors_of(response)[:2] == (405, "UNSUPPORTED")
    assert text in errors_of(response)[2]
    response = hub.client.put(f"/v1/repositories/{NAME}/", json=[])
    assert response.status_code == 405
    assert text in response.get_json()["error"]
    hub.pull(NAME, IMAGE, "1")
    assert hub.client.delete(f"/v2/{NAME}/manifests/1").status_code == 202
    hub.pull(NAME, IMAGE, "1")


def test_all_names_and_own_repositories(between: Front, tmp_path: Path) -> None:
    """Under ``*``, what clients have pushed is not asked for; what was pulled cannot be pushed to."""
    with here(tmp_path / "data", between.url, "*") as opened:
        opened.pull("team/app", IMAGE, "1")
        assert errors_of(opened.client.post("/v2/team/app/blobs/uploads/"))[:2] == (405, "UNSUPPORTED")
        before = len(between.seen)
        body = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []})
        response = opened.client.put("/v2/own/app/manifests/1", data=body, content_type=media_types.OCI_INDEX)
        assert response.status_code == 201
        assert opened.get("own/app/manifests/1").status_code == 200
        assert opened.get("own/app/manifests/2").status_code == 404
        assert len(between.seen) == before


@pytest.mark.parametrize("pattern", ["hub/*", "*"])
def test_namespaces(between: Front, there: There, tmp_path: Path, pattern: str) -> None:
    """Clients that name the registry they mean get what it has, wherever that is here."""
    with here(tmp_path / "data", between.url, pattern, namespaces=["docker.io"]) as opened:
        path, header = "team/app/manifests/1", {"OCI-Namespace": "docker.io"}
        assert opened.get(f"{path}?ns=docker.io").data == IMAGE.manifest
        assert opened.get(path, **header).data == IMAGE.manifest
        assert opened.get(f"team/app/blobs/{Digest.of(IMAGE.config)}?ns=docker.io").data == IMAGE.config
        there.put("team/pages", IMAGE, "a", "b")
        page = opened.get("team/pages/tags/list?n=1&ns=docker.io")
        following = page.headers["Link"].partition("</v2/")[2].partition(">")[0]
        assert opened.get(following).get_json()["tags"] == ["b"]
        for _ in range(2):  # also when answers are repeated
            unknown = opened.get(f"{path}?ns=quay.io")
            assert errors_of(unknown)[:2] == (404, "NAME_UNKNOWN")
            assert errors_of(opened.get(path, **{"OCI-Namespace": "quay.io"}))[:2] == (404, "NAME_UNKNOWN")


def test_lists_of_tags_are_merged_and_paged(hub: Here, there: There) -> None:
    """What is there and what is here, in byte order, with pages of any size."""
    tags = ["1", "2", "B", "a", "b"]
    there.put("team/tags", IMAGE, *tags)
    hub.pull("hub/team/tags", IMAGE, "B")
    assert hub.get("hub/team/tags/tags/list").get_json() == {"name": "hub/team/tags", "tags": tags}
    found, path = list[str](), "hub/team/tags/tags/list?n=2"
    while path:
        response = hub.get(path)
        found += response.get_json()["tags"]
        path = response.headers.get("Link", "").partition("</v2/")[2].partition(">")[0]
    assert found == tags


@pytest.mark.slow
def test_answers_are_repeated_until_a_check_is_due(hub: Here, between: Front, there: There) -> None:
    """The lane knows when: no answer about a tag is repeated beyond that."""
    there.put("team/lane", IMAGE, "1")
    hub.again(check_interval="1s")
    for _ in range(3):
        hub.pull("hub/team/lane", IMAGE, "1")
    assert requests(between, "manifests/1") == ["GET"]
    there.put("team/lane", OTHER, "1")
    time.sleep(1.1)
    hub.pull("hub/team/lane", OTHER, "1")


@pytest.mark.slow
def test_clients_that_come_at_once_cause_one_request(hub: Here, between: Front, there: There) -> None:
    """For a manifest that is not here, and for a tag that is due."""
    there.put("team/once", IMAGE, "1")
    between.delay = 0.1
    hub.again(check_interval="1h")
    answers = list[bytes]()

    def ask() -> None:
        answers.append(hub.client.get("/v2/hub/team/once/manifests/1", headers=ACCEPT).data)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [IMAGE.manifest] * 8
    assert requests(between, "manifests/1") == ["GET"]


def test_referrers(hub: Here, between: Front, there: There) -> None:
    """Those in an index under a fallback tag, where there is no API for them; they outlive failures."""
    there.put("team/signed", IMAGE, "1")
    there.put_blob("team/signed", b"{}")
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": "application/x.signature",
            "config": builders.descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [builders.descriptor("application/vnd.oci.empty.v1+json", b"{}")],
            "subject": builders.descriptor(IMAGE.media_type, IMAGE.manifest),
        }
    ).encode()
    there.put_manifest("team/signed", str(Digest.of(body)), body, media_types.OCI_MANIFEST)
    index = builders.index_of(builders.descriptor(media_types.OCI_MANIFEST, body))
    there.put_manifest("team/signed", f"sha256-{IMAGE.digest.hex}", index, media_types.OCI_INDEX)
    (found,) = hub.get(f"hub/team/signed/referrers/{IMAGE.digest}").get_json()["manifests"]
    assert found["digest"] == str(Digest.of(body))
    assert found["artifactType"] == "application/x.signature"
    hub.get(f"hub/team/signed/blobs/{Digest.of(b'{}')}")
    between.answer = lambda _path, _said: 500
    hub.again()
    assert hub.get(f"hub/team/signed/referrers/{IMAGE.digest}").get_json()["manifests"] == [found]
    assert hub.get(f"hub/team/signed/referrers/{Digest.of(b'?')}").status_code == 500
    with hub.registry.state.catalog.read() as tx:  # each of its roles
        assert tx.manifests.lacking(RepositoryName("hub/team/signed"), Digest.of(body), []) == []


def test_views_of_the_other_generation(hub: Here, there: There) -> None:
    """V1 clients, and those that read only schema 1, get what comes from upstream; what that needs comes."""
    there.put("team/old", IMAGE, "1")
    schema1 = hub.client.get("/v2/hub/team/old/manifests/1", headers={"Accept": media_types.SCHEMA1_SIGNED})
    assert json.loads(schema1.data)["schemaVersion"] == 1
    (image,) = hub.client.get("/v1/repositories/hub/team/old/tags").get_json().values()
    assert hub.client.get("/v1/repositories/hub/team/old/tags/1").get_json() == image
    ancestry = hub.client.get(f"/v1/images/{image}/ancestry").get_json()
    assert len(ancestry) == len(IMAGE.layers)
    layers = [hub.client.get(f"/v1/images/{each}/layer").data for each in reversed(ancestry)]
    assert layers == list(IMAGE.layers)


def test_tags_pulled_over_v1_follow(hub: Here, there: There) -> None:
    """A tag that has moved there is another image for V1 clients, too."""
    there.put("team/v1", IMAGE, "1")
    tags = hub.registry.bridge
    before = tags.resolve(RepositoryName("hub/team/v1"), Tag("1"))
    there.put("team/v1", OTHER, "1")
    assert tags.resolve(RepositoryName("hub/team/v1"), Tag("1")) != before


def test_nothing_is_stored_while_nothing_may_be(hub: Here, there: There) -> None:
    """What is here is compared and served all the same; what is not here has to wait."""
    there.put("team/still", IMAGE, "1")
    hub.pull("hub/team/still", IMAGE, "1")
    before = hub.registry.version()
    writes_of(hub.settings).set_mark("moving", hub.registry.now())
    for _ in range(2):
        assert hub.get("hub/team/still/manifests/1").headers.get("Warning") is None
    assert hub.get("hub/team/app/manifests/1").status_code == 503
    assert hub.registry.version() == before
    writes_of(hub.settings).remove_mark()


def test_schema_1_becomes_what_clients_read(tmp_path: Path) -> None:
    """Its layers come for the conversion; by digest, it is as it is there."""
    tree = stock_trees.small(tmp_path / "stock")
    tree.schema1("team/one", "1", stock_trees.LAYERS["c"], stock_trees.LAYERS["d"])
    with (
        stock_registry(tree.root, tmp_path) as tools,
        here(tmp_path / "data", f"http://{tools.host}") as opened,
    ):
        made = opened.get("hub/team/one/manifests/1")
        assert made.content_type == media_types.DOCKER_MANIFEST
        layers = [
            opened.get(f"hub/team/one/blobs/{each['digest']}").data
            for each in json.loads(made.data)["layers"]
        ]
        assert layers == [stock_trees.LAYERS["c"], stock_trees.LAYERS["d"]]
        old = opened.client.get("/v2/hub/team/one/manifests/1", headers={"User-Agent": "docker/1.9.1 go"})
        digest = old.headers["Docker-Content-Digest"]
        assert opened.get(f"hub/team/one/manifests/{digest}").data == old.data
