"""V1 beyond pushing and pulling: what tools and scripts of the time asked an old registry."""

import bz2
import lzma
import socket
from collections.abc import Callable
from email.utils import formatdate
from typing import Never

import pytest
from flask.testing import FlaskClient

from dualreg.errors import ServerBusy
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, listings
from dualreg.registry.inflating import InflatingSlots
from tests import builders
from tests.properties.registries import push_v1, push_v2
from tests.protocol.clients.tarsum import tarsum
from tests.protocol.exchange import payload_checksum, put_v1, v1_text
from tests.protocol.layers import AUFS, NO_END

NAME = RepositoryName("team/app")
TOKEN = {"Authorization": f'Token signature=0,repository="{NAME}",access=write'}
CHAIN = builders.v1_chain(builders.layer({"etc/host": b"1", "var/new": b""}), AUFS)
BASE, TOP = (image.id for image in CHAIN)
AGENT = "docker/1.5.0 go/go1.4.3 git-commit/a8a31ef kernel/3.13.0-32-Generic os/Linux arch/AMD64"


@pytest.fixture
def pushed(registry: Registry) -> Registry:
    """The chain, as ``latest``."""
    push_v1(registry, NAME, Tag("latest"), CHAIN)
    return registry


@pytest.mark.usefixtures("pushed")
def test_an_images_files_are_listed(client: FlaskClient) -> None:
    """Name, kind, deleted, size, mtime, mode, uid, gid."""
    assert client.get(f"/v1/images/{TOP}/files", headers=TOKEN).json == [
        ["etc/host", "f", True, 0, 0, 420, 0, 0],
        ["var/new", "f", False, 4, 0, 420, 0, 0],
    ]


@pytest.mark.usefixtures("pushed")
def test_an_images_changes_are_computed_at_once(client: FlaskClient) -> None:
    """Against the images below; no queue, no empty answer."""
    assert client.get(f"/v1/images/{TOP}/diff", headers=TOKEN).json == {
        "deleted": {"etc/host": ["f", True, 0, 0, 420, 0, 0]},
        "changed": {"var/new": ["f", False, 4, 0, 420, 0, 0]},
        "created": {},
    }
    assert [*client.get(f"/v1/images/{BASE}/diff", headers=TOKEN).json["created"]] == ["etc/host", "var/new"]


def test_the_files_of_what_v2_pushed(client: FlaskClient, registry: Registry) -> None:
    """A derived image has files too."""
    push_v2(registry, NAME, Tag("v2"), builders.image(builders.layer({"a": b"12"})))
    top = registry.bridge.resolve(NAME, Tag("v2"))
    assert client.get(f"/v1/images/{top}/files", headers=TOKEN).json[0][:4] == ["a", "f", False, 2]


def test_a_layer_that_is_no_archive_has_no_files(client: FlaskClient, registry: Registry) -> None:
    """With the old registry's words."""
    chain = builders.v1_chain(b"no tar at all" * 100)
    push_v1(registry, NAME, Tag("odd"), chain)
    for what in ("files", "diff"):
        answer = client.get(f"/v1/images/{chain[0].id}/{what}", headers=TOKEN)
        assert (answer.status_code, v1_text(answer)) == (400, "Layer format not supported")
        unknown = client.get(f"/v1/images/{'0' * 64}/{what}", headers=TOKEN)
        assert (unknown.status_code, v1_text(unknown)) == (404, "Image not found")


@pytest.mark.usefixtures("pushed")
def test_reading_a_layer_through_takes_a_slot(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs a processor for as long as a layer is large: lists of files, and a TarSum to compare."""
    layer = builders.layer({"a": b"1"})
    (image,) = builders.v1_chain(layer)
    path, other = (
        f"/v1/images/{image.id}",
        {"Authorization": TOKEN["Authorization"].replace(NAME, "team/new")},
    )
    assert client.put(f"{path}/json", data=image.json, headers=other).status_code == 200
    assert client.put(f"{path}/layer", data=layer, headers=other).status_code == 200

    def all_taken(*_: object, **__: object) -> Never:
        raise ServerBusy(retry_after=5)

    def statuses() -> list[int]:
        stated = other | {"X-Docker-Checksum": tarsum(image.json, layer)}
        answers = [client.get(f"/v1/images/{TOP}/{what}", headers=TOKEN) for what in ("files", "diff")]
        return [answer.status_code for answer in (*answers, client.put(f"{path}/checksum", headers=stated))]

    with monkeypatch.context() as patched:
        patched.setattr(InflatingSlots, "slot", all_taken)
        assert statuses() == [429, 429, 429]
    assert statuses() == [200, 200, 200]


@pytest.mark.usefixtures("pushed")
def test_listings_are_bounded(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the layers are: one that is listed, and all below it."""
    monkeypatch.setattr(listings, "_PIECES", 1)
    assert client.get(f"/v1/images/{TOP}/files", headers=TOKEN).status_code == 200
    answer = client.get(f"/v1/images/{TOP}/diff", headers=TOKEN)
    assert (answer.status_code, v1_text(answer)) == (400, "too large to list")


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress], ids=["bzip2", "xz"])
def test_a_layer_that_grows_without_end_is_refused(
    client: FlaskClient, compress: Callable[[bytes], bytes]
) -> None:
    """When it is pushed: nothing that reads it later has to be afraid of it."""
    bomb = compress(bytes(8 << 20)) * 12
    image = builders.v1_chain(bomb)[0]
    assert client.put(f"/v1/images/{image.id}/json", data=image.json, headers=TOKEN).status_code == 200
    answer = client.put(f"/v1/images/{image.id}/layer", data=bomb, headers=TOKEN)
    assert answer.status_code == 400
    assert "times its size" in v1_text(answer)


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("what", ["files", "diff"])
def test_nothing_is_listed_for_a_client_that_is_gone(client: FlaskClient, what: str) -> None:
    """The work ends with the connection, and counts as no failure of the layer."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        path, gone = f"/v1/images/{TOP}/{what}", {"gunicorn.socket": ours}
        assert client.get(path, headers=TOKEN, environ_overrides=gone).status_code == 400
    assert client.get(path, headers=TOKEN).status_code == 200


@pytest.mark.parametrize("layer", [AUFS, b"no tar at all" * 100], ids=["listed", "refused"])
@pytest.mark.parametrize("what", ["files", "diff"])
def test_a_layer_is_read_through_once(
    client: FlaskClient, registry: Registry, monkeypatch: pytest.MonkeyPatch, layer: bytes, what: str
) -> None:
    """The second client gets what was found for the first, be it a failure."""
    chain, opened = builders.v1_chain(layer), []
    push_v1(registry, NAME, Tag("once"), chain)
    store = registry.state.store
    open_ = store.open
    monkeypatch.setattr(store, "open", lambda *args, **kwargs: opened.append(args) or open_(*args, **kwargs))
    first, second = (client.get(f"/v1/images/{chain[0].id}/{what}", headers=TOKEN) for _ in range(2))
    assert (first.status_code, first.data) == (second.status_code, second.data)
    assert len(opened) == 1


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("what", ["json", "layer", "ancestry", "files", "diff"])
def test_what_never_changes_is_sent_once(client: FlaskClient, what: str) -> None:
    """If-Modified-Since saves the body of an existing image, and reveals nothing of others."""
    path = f"/v1/images/{TOP}/{what}"
    first = client.get(path, headers=TOKEN)
    assert first.status_code == 200
    for condition in (
        {"If-Modified-Since": formatdate(usegmt=True)},
        {"If-None-Match": first.headers["ETag"]},
    ):
        again = client.get(path, headers=TOKEN | condition)
        assert (again.status_code, again.data) == (304, b"")
        unknown = client.get(f"/v1/images/{'0' * 64}/{what}", headers=TOKEN | condition)
        assert unknown.status_code == 404
    for condition in (
        {"If-Modified-Since": "Wed, 31 Dec 1969 23:59:59 GMT"},
        {"If-Modified-Since": formatdate(usegmt=True), "If-None-Match": '"another"'},
        {"If-Modified-Since": "no time"},
        {"If-Match": '"another"'},
    ):
        whole = client.get(path, headers=TOKEN | condition)
        assert (whole.status_code, whole.data) == (200, first.data)


@pytest.mark.parametrize(
    ("agent", "stated", "told"),
    [
        ("docker/0.6.0", "right", "right"),
        ("docker/0.6.0", "wrong", None),
        ("docker/1.5.0", "right", "right"),
        ("docker/0.6.0", "sha256:00", None),
    ],
    ids=["agrees", "differs", "the payload is proven", "of another kind"],
)
def test_tarsums_are_held_against_the_layer_and_refuse_nothing(
    client: FlaskClient, registry: Registry, agent: str, stated: str, told: str | None
) -> None:
    """A correct one is sent to clients that pull; a wrong one is recorded, and the image is complete."""
    (image,) = builders.v1_chain(NO_END)
    sums = {"right": tarsum(image.json, image.layer), "wrong": "tarsum+sha256:" + "0" * 64}
    text = sums.get(stated, stated)
    put_v1(client, image, TOKEN, steps=2)
    headers, payload = TOKEN | {"User-Agent": agent, "X-Docker-Checksum": text}, agent == "docker/1.5.0"
    if payload:
        headers["X-Docker-Checksum-Payload"] = payload_checksum(image)
    assert client.put(f"/v1/images/{image.id}/checksum", headers=headers).status_code == 200
    answer = client.get(f"/v1/images/{image.id}/json", headers=TOKEN)
    assert answer.headers.get("X-Docker-Checksum") == (sums[told] if told else None)
    payloads = [answer.headers[name] for name in ("X-Docker-Checksum-Payload", "X-Docker-Payload-Checksum")]
    assert payloads == [payload_checksum(image)] * 2
    row = registry.v1_images.get(NAME, image.id)
    verified = {"right": None if payload else True, "wrong": False}
    assert (row.tarsum, row.tarsum_verified) == (sums.get(stated), verified.get(stated))


@pytest.mark.usefixtures("pushed")
def test_a_tags_json_tells_who_pushed_it(client: FlaskClient) -> None:
    """As its client names itself; that of the repository is that of ``latest``; and never a 404."""
    path = f"/v1/repositories/{NAME}"
    put = client.put(f"{path}/tags/latest", json=TOP, headers=TOKEN | {"User-Agent": AGENT})
    assert put.status_code == 200
    for told in (client.get(f"{path}/tags/latest/json").json, client.get(f"{path}/json").json):
        assert isinstance(told.pop("last_update"), int)
        assert told == {
            "docker_version": "1.5.0",
            "docker_go_version": "go1.4.3",
            "kernel": "3.13.0-32-generic",
            "os": "linux",
            "arch": "amd64",
        }
    nothing = dict.fromkeys(("docker_version", "docker_go_version", "kernel", "last_update"))
    absent = client.get(f"{path}/tags/absent/json")
    assert (absent.status_code, absent.json) == (200, nothing | {"os": "linux", "arch": "amd64"})


@pytest.mark.usefixtures("pushed")
def test_any_user_agent_is_kept_as_far_as_it_is_text(client: FlaskClient) -> None:
    """Nothing that a database would refuse, nor more than it holds."""
    path = f"/v1/repositories/{NAME}/tags/latest"
    agent = f"docker/9.9\x7f\x1f\xe9 / // =/= {'x/' * 500}"
    assert client.put(path, json=TOP, headers=TOKEN | {"User-Agent": agent}).status_code == 200
    assert client.get(f"{path}/json").json["docker_version"] == "9.9\xe9"


def test_a_v2_push_takes_the_agent_away(client: FlaskClient, pushed: Registry) -> None:
    """Who pushed the tag before did not push what it is now."""
    path = f"/v1/repositories/{NAME}/tags/latest"
    client.put(path, json=TOP, headers=TOKEN | {"User-Agent": AGENT})
    push_v2(pushed, NAME, Tag("latest"), builders.image(NO_END))
    assert client.get(f"{path}/json").json["docker_version"] is None


def test_properties_promise_nothing(client: FlaskClient) -> None:
    """Without accounts everything is public, and a request for privacy is refused with a hint."""
    path = f"/v1/repositories/{NAME}/properties"
    assert client.get(path).json == {"access": "public"}
    assert client.put(path, json={"access": "public"}).json is True
    private = client.put(path, json={"access": "private"})
    assert (private.status_code, v1_text(private)) == (
        400,
        "visibility can only be changed by the registry's operator",
    )
    for bad in ({}, [], {"access": 1}):
        answer = client.put(path, json=bad)
        assert (answer.status_code, v1_text(answer)) == (400, "Invalid data")


@pytest.mark.parametrize("path", ["/v1/_status", "/_status"])
def test_status_tells_what_fails(
    client: FlaskClient, registry: Registry, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """200 and no failures, or 503 and which."""
    answer = client.get(path)
    services = ["catalog", "storage", "audit"]
    assert (answer.status_code, answer.json) == (
        200,
        {"services": services, "failures": {}, "damaged_blobs": 0, "host": "localhost"},
    )

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(registry.health.state.store), "append", fail)
    answer = client.get(path)
    assert (answer.status_code, answer.json["failures"]) == (503, {"storage": "OSError"})


def test_the_ping_is_also_above_v1(client: FlaskClient) -> None:
    """With the headers that old clients look for."""
    above, ping = client.get("/_ping"), client.get("/v1/_ping")
    assert (above.status_code, above.data) == (ping.status_code, ping.data)
    assert above.headers["X-Docker-Registry-Version"] == ping.headers["X-Docker-Registry-Version"]


def test_a_token_may_come_back_twice_named(client: FlaskClient) -> None:
    """Docker repeats a header that itself begins with ``Token``."""
    (image,) = builders.v1_chain(NO_END)
    headers = {"Authorization": "Token " + TOKEN["Authorization"]}
    assert client.put(f"/v1/images/{image.id}/json", data=image.json, headers=headers).status_code == 200


@pytest.mark.usefixtures("pushed")
def test_docker_0_6_0_says_a_tag_at_the_end(client: FlaskClient, registry: Registry) -> None:
    """An existing image is not sent again, and its new tag is only in the list; others are ignored."""
    entries = [
        {"id": TOP, "Tag": "new"},
        {"id": TOP, "Tag": "latest"},
        {"id": "0" * 64, "Tag": "absent"},
        {"id": TOP, "Tag": "not a tag"},
        {"id": BASE},
    ]
    before = registry.tags.pusher(NAME, Tag("latest"))
    answer = client.put(f"/v1/repositories/{NAME}/images", json=entries, headers=TOKEN)
    assert answer.status_code == 204
    assert client.get(f"/v1/repositories/{NAME}/tags").json == {"latest": TOP, "new": TOP}
    assert registry.tags.pusher(NAME, Tag("latest")) == before


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (f"GET /v1/repositories/{NAME}/tags/absent", "Tag not found"),
        (f"DELETE /v1/repositories/{NAME}/tags/absent", "Tag not found: absent"),
        ("GET /v1/repositories/no/where/tags", "Repository not found"),
        ("DELETE /v1/repositories/no/where/", "Repository not found"),
        ("GET /v1/repositories/no/where/images", "images not found"),
        (f"GET /v1/images/{'0' * 64}/ancestry", "Image not found"),
    ],
)
def test_what_is_not_there_is_said_in_the_old_words(client: FlaskClient, request_: str, text: str) -> None:
    """Each route of docker-registry had its own, which scripts look for."""
    method, path = request_.split()
    answer = client.open(path, method=method, headers={} if "no/where" in path else TOKEN)
    assert (answer.status_code, v1_text(answer)) == (404, text)
