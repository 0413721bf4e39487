"""The lane: what was answered is answered again without Flask, as long as a handler would say the same."""

import errno
import gc
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import create_environ

from dualreg.auth.access import Grant
from dualreg.catalog.rows import Origin
from dualreg.errors import ServerBusy
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.web import lane
from dualreg.web.lane import Lane
from dualreg.web.rates import Rates
from dualreg.web.slots import Slots
from tests.apps import answer_at_once
from tests.auth.conftest import Guarded, basic, bearer
from tests.builders import image, layer, v1_chain
from tests.conftest import Clock, GuardedStore
from tests.directories import ON_POSTGRESQL
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("team/app")
IMAGE, NEXT = image(layer({"f": b"1"})), image(layer({"f": hashlib.shake_128(b"2").digest(9000)}))
CHAIN = v1_chain(layer({"a": b"a"}), layer({"b": b"b"}))
LAYER = next(iter(IMAGE.blobs))
#: A blob of NEXT that is large enough to take a slot.
LARGE = f"/v2/{NAME}/blobs/{next(each for each, data in NEXT.blobs.items() if len(data) > 8 << 10)}"
ACCEPT = {"Accept": f"{IMAGE.media_type}, */*"}

READS = {
    "/v2/": "GET",
    f"/v2/{NAME}/manifests/one": "GET",
    f"/v2/{NAME}/manifests/{IMAGE.digest}": "HEAD",
    f"/v2/{NAME}/blobs/{LAYER}": "GET",
    f"/v2/{NAME}/tags/list?n=5": "GET",
    f"/v1/images/{CHAIN[-1].id}/json": "GET",
    f"/v1/images/{CHAIN[-1].id}/layer": "GET",
    f"/v1/images/{CHAIN[-1].id}/ancestry": "GET",
}


@dataclass
class Asked:
    """A registry, and whether the last request was answered by Flask."""

    guarded: Guarded
    headers: Mapping[str, str]
    reached: bool = False

    @property
    def client(self) -> FlaskClient:
        """A client of the registry."""
        return self.guarded.client

    def send(self, path: str, method: str = "GET", **more: str) -> Any:
        """Send a request; remember whether it reached Flask."""
        self.reached = False
        headers = {**self.headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        return self.client.open(path, method=method, headers=headers, buffered=True)

    def is_repeated(self, path: str, method: str = "GET", **more: str) -> bool:
        """Return whether the answer is repeated the third time, and the same; the first may be a login."""
        answers = [self.send(path, method, **more) for _ in range(3)]
        first, last = answers[0], answers[-1]
        for answer in (first, last):
            assert answer.headers.pop("X-Request-Id")  # of each answer its own
        assert (first.status, [*first.headers], first.data) == (last.status, [*last.headers], last.data)
        return not self.reached


def lane_of(guarded: Guarded) -> Lane:
    """Return the lane of a registry."""
    front = guarded.client.application.wsgi_app
    assert isinstance(front, Lane)
    return front


def watch(guarded: Guarded, headers: Mapping[str, str]) -> Asked:
    """Return a registry whose requests to Flask are noticed."""
    front = lane_of(guarded)
    asked, inner = Asked(guarded, headers), front.application

    def notice(environ: dict[str, Any], start_response: Any) -> Any:
        asked.reached = True
        return inner(environ, start_response)

    front.application = notice
    return asked


def fill(registry: Registry) -> None:
    """Push what is read."""
    push_v2(registry, NAME, Tag("one"), IMAGE)
    push_v1(registry, NAME, Tag("v1"), CHAIN)


@pytest.fixture
def asked(guarded: Guarded) -> Asked:
    """A registry with an account that may read and write, by a token."""
    fill(guarded.registry)
    alice = guarded.account("alice", ("team/*", "pull,push,delete"))
    token = bearer(guarded.token(f"repository:{NAME}:pull,push,delete", headers=alice))
    return watch(guarded, {**token, **ACCEPT})


def session(asked: Asked) -> dict[str, str]:
    """Return the header of a V1 session on the repository."""
    begun = asked.client.get(f"/v1/repositories/{NAME}/images", headers=basic("alice"))
    return {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}


def refuse(*_: object) -> None:
    """Say that the server is busy."""
    raise ServerBusy(retry_after=5)


@pytest.mark.parametrize("path", READS)
def test_a_read_is_repeated(asked: Asked, path: str) -> None:
    """Byte for byte, without Flask; for another method or header, the answer is another one."""
    headers = session(asked) if path.startswith("/v1") else {}
    assert asked.is_repeated(path, READS[path], **headers)
    asked.send(path, "HEAD" if READS[path] == "GET" else "GET", **headers)
    assert asked.reached
    asked.send(path, READS[path], **headers, Origin="https://elsewhere.example")
    assert asked.reached


class Recording(dict[str, Any]):
    """A WSGI environment that knows what was looked at."""

    looked_at: set[str]

    def __getitem__(self, key: str) -> Any:
        self.looked_at.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.looked_at.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.looked_at.add(str(key))
        return super().__contains__(key)


#: What the lane looks at beside the key: credentials and address; and what no answer to a read depends on.
BESIDES = {"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_FORWARDED_FOR", "HTTP_USER_AGENT"} | {
    # the scheme, which decides on which port the Host header may leave out
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_SCHEME",
    "HTTP_X_FORWARDED_PROTOCOL",
    "HTTP_X_FORWARDED_SSL",
    # a body, which no read has, and whether the connection becomes another protocol's
    "HTTP_TRANSFER_ENCODING",
    "HTTP_CONNECTION",
    "HTTP_UPGRADE",
}


@pytest.mark.parametrize("path", READS)
def test_what_handlers_look_at_is_part_of_the_key(asked: Asked, path: str) -> None:
    """A handler that looks at another header would get the answer to other headers."""
    front = lane_of(asked.guarded)
    inner, seen = front.application, set[str]()

    def record(environ: dict[str, Any], start_response: Any) -> Any:
        recording = Recording(environ)
        recording.looked_at = seen
        return inner(recording, start_response)

    front.application = record
    headers = session(asked) if path.startswith("/v1") else {}
    assert asked.send(path, READS[path], **headers).status_code == 200
    assert {key for key in seen if key.startswith("HTTP_")} - {*lane.ASKED} <= BESIDES
    assert {"PATH_INFO", "QUERY_STRING", "REQUEST_METHOD"} <= {*lane.ASKED}


def move_the_tag(asked: Asked) -> None:
    """Point the tag at another image."""
    push_v2(asked.guarded.registry, NAME, Tag("one"), NEXT)


def delete_the_tag(asked: Asked) -> None:
    """Delete it over HTTP."""
    assert asked.send(f"/v2/{NAME}/manifests/one", "DELETE").status_code == 202


def delete_the_manifest(asked: Asked) -> None:
    """Delete it by another process."""
    asked.guarded.registry.manifests.delete(NAME, IMAGE.digest)


def lose_the_bytes(asked: Asked) -> None:
    """Lose them on the disk, where no row says so."""
    for digest in (IMAGE.digest, LAYER):
        asked.guarded.registry.state.store.delete(digest)


CHANGES: Mapping[str, tuple[Callable[[Asked], None], str, int]] = {
    "the tag moves": (move_the_tag, f"/v2/{NAME}/manifests/one", 200),
    "the tag is deleted": (delete_the_tag, f"/v2/{NAME}/manifests/one", 404),
    "the tag is not listed": (delete_the_tag, f"/v2/{NAME}/tags/list", 200),
    "the manifest is deleted": (delete_the_manifest, f"/v2/{NAME}/manifests/{IMAGE.digest}", 404),
    "the manifest is lost": (lose_the_bytes, f"/v2/{NAME}/manifests/{IMAGE.digest}", 404),
    "the blob is lost": (lose_the_bytes, f"/v2/{NAME}/blobs/{LAYER}", 404),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_change_is_seen_at_once(asked: Asked, change: str, method: str) -> None:
    """By the request that follows it."""
    act, path, status = CHANGES[change]
    before = asked.send(path, method)
    assert asked.is_repeated(path, method)
    act(asked)
    after = asked.send(path, method)
    assert asked.reached
    assert after.status_code == status
    assert [*after.headers] != [*before.headers]


def revoke(guarded: Guarded) -> None:
    """Take the permission back."""
    guarded.accounts.ungrant("alice", "team/*", None)


def remove(guarded: Guarded) -> None:
    """Delete the account."""
    guarded.accounts.remove("alice")


def change_password(guarded: Guarded) -> None:
    """Change the password."""
    guarded.accounts.set_password("alice", "another horse")


@pytest.mark.parametrize("act", [revoke, remove, change_password])
def test_access_that_is_taken_back_is_refused_at_once(asked: Asked, act: Callable[[Guarded], None]) -> None:
    """A client that sends its password with every request has no token that lasts."""
    asked.headers = basic("alice") | ACCEPT
    for path in (f"/v2/{NAME}/manifests/one", f"/v2/{NAME}/blobs/{LAYER}"):
        assert asked.is_repeated(path)
    act(asked.guarded)
    for path in (f"/v2/{NAME}/manifests/one", f"/v2/{NAME}/blobs/{LAYER}"):
        assert asked.send(path).status_code in (401, 403)


def test_an_answer_is_for_those_who_may_read(asked: Asked) -> None:
    """What is remembered for one client is not given to another that may not have it."""
    path = f"/v2/{NAME}/manifests/one"
    assert asked.is_repeated(path)
    asked.headers = ACCEPT
    assert asked.send(path).status_code == 401
    asked.headers = asked.guarded.account("eve", ("other/*", "pull")) | ACCEPT
    assert [asked.send(path).status_code for _ in range(3)] == [403] * 3
    asked.headers = asked.guarded.account("bob", ("team/*", "pull")) | ACCEPT
    assert asked.is_repeated(path)


def test_a_list_of_repositories_is_for_one_client(asked: Asked) -> None:
    """Each gets its own again, by its password or its token, until a permission or a repository changes."""
    accounts, path = asked.guarded.accounts, "/v2/_catalog"
    alice, eve = basic("alice"), asked.guarded.account("eve", ("other/*", "pull"))
    token = bearer(asked.guarded.token("registry:catalog:*", headers=alice))
    push_v2(asked.guarded.registry, RepositoryName("other/app"), Tag("one"), IMAGE)

    def listed(headers: Mapping[str, str]) -> list[str]:
        asked.headers = headers
        assert asked.is_repeated(path)
        return list(asked.send(path).json["repositories"])

    assert [*map(listed, (alice, eve, token))] == [["team/app"], ["other/app"], ["team/app"]]
    accounts.grant("alice", "other/*", "pull")
    both = ["other/app", "team/app"]
    assert [*map(listed, (alice, eve, token))] == [both, ["other/app"], both]
    asked.guarded.registry.tags.delete(RepositoryName("other/app"), Tag("one"))
    asked.guarded.registry.manifests.delete(RepositoryName("other/app"), IMAGE.digest)
    assert [*map(listed, (alice, eve, token))] == [["team/app"], [], ["team/app"]]
    asked.headers = bearer(asked.guarded.token(f"repository:{NAME}:pull", headers=alice))
    assert [asked.send(path).status_code for _ in range(2)] == [401, 401]


def test_a_token_ends_in_time(asked: Asked, clock: Clock) -> None:
    """Not a second later, although no row changes."""
    path = f"/v2/{NAME}/manifests/one"
    assert asked.is_repeated(path)
    clock.advance(asked.guarded.settings.token_ttl)
    asked.send(path)
    assert asked.reached


def test_files_with_rules_are_read_again(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """A rule that is removed from the file ends what was remembered."""
    rules = tmp_path / "rules"
    rules.write_text("alice team/* pull\n")
    guarded = guard(permissions=rules)
    fill(guarded.registry)
    guarded.accounts.add("alice", "correct horse")
    asked = watch(guarded, basic("alice") | ACCEPT)
    path = f"/v2/{NAME}/manifests/one"
    assert asked.is_repeated(path)
    assert bool(at_once(asked, path)) is not ON_POSTGRESQL  # where each look at the rows is a wait
    rules.write_text("alice other/* pull\n")
    assert not at_once(asked, path)
    assert asked.send(path).status_code == 403


def test_repeated_answers_count(guard: Callable[..., Guarded]) -> None:
    """For the limit of requests, for the times of pulls, and for V1 clients."""
    guarded = guard(auth="none", request_limit="10/m")
    fill(guarded.registry)
    asked = watch(guarded, ACCEPT)
    path = f"/v2/{NAME}/manifests/one"
    statuses = [asked.send(path).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    guarded.registry.tags.pulls.flush()
    (row,) = [row for row in guarded.registry.tags.describe(NAME, limit=9).rows if row.name == "one"]
    assert row.pulled_at is not None


def test_a_request_without_a_slot_counts_once(
    guard: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask counts it, and says that the server is busy."""
    guarded = guard(auth="none", request_limit="10/m")
    push_v2(guarded.registry, NAME, Tag("large"), NEXT)
    asked = watch(guarded, ACCEPT)
    assert asked.is_repeated(LARGE)
    taken, take = [], Rates.take
    monkeypatch.setattr(Rates, "take", lambda *given, **more: (taken.append(0), take(*given, **more))[1])
    monkeypatch.setattr(Slots, "take", refuse)
    assert asked.send(LARGE).status_code == 429
    assert len(taken) == 1


def test_repeated_pulls_are_noted(asked: Asked, clock: Clock) -> None:
    """With the time of the last one; HEAD is no pull. V1 clients are counted."""
    path, v1 = f"/v2/{NAME}/manifests/one", f"/v1/images/{CHAIN[0].id}/layer"
    registry, token = asked.guarded.registry, session(asked)
    registry.clients.flush()
    (known,) = [row.requests for row in registry.clients.list(clock() - timedelta(days=1))]
    for _ in range(4):
        asked.send(path)
        asked.send(v1, **token)
    assert not asked.reached
    registry.clients.flush()
    assert known + 4 == sum(row.requests for row in registry.clients.list(clock() - timedelta(days=1)))
    clock.advance(timedelta(minutes=1))
    asked.send(path)
    asked.send(path)
    assert not asked.reached
    clock.advance(timedelta(minutes=1))
    asked.send(path, "HEAD")
    registry.tags.pulls.flush()
    pulled = {row.name: row.pulled_at for row in registry.tags.describe(NAME, limit=9).rows}
    assert pulled[Tag("one")] == clock() - timedelta(minutes=1)


def test_pulls_over_v1_are_noted(asked: Asked, clock: Clock) -> None:
    """By the image: each tag that is seen as it was pulled, also by repeated answers; HEAD is no pull."""
    registry, token = asked.guarded.registry, session(asked)
    registry.bridge.tag(NAME, Tag("base"), CHAIN[0].id)
    registry.manifests.retag(NAME, Tag("same"), registry.manifests.find(NAME, Tag("v1")).digest, Origin.V2)

    def pulled() -> dict[str, datetime]:
        registry.tags.pulls.flush()
        rows = registry.tags.describe(NAME, limit=9).rows
        return {row.name: row.pulled_at for row in rows if row.pulled_at}

    path = f"/v1/images/{CHAIN[-1].id}/ancestry"
    asked.send(path, "HEAD", **token)
    assert pulled() == {}
    asked.send(path, **token)
    assert pulled() == dict.fromkeys(("same", "v1"), clock())
    assert asked.send(path, **token).status_code == 200  # at the version after that
    clock.advance(timedelta(seconds=5))
    asked.send(path, **token)
    assert not asked.reached
    assert pulled() == dict.fromkeys(("same", "v1"), clock())


def test_pulls_by_digest_are_noted(asked: Asked, clock: Clock) -> None:
    """For each tag of the manifest: containerd asks by HEAD what a tag points at, and then for the digest."""
    registry = asked.guarded.registry
    registry.manifests.retag(NAME, Tag("same"), IMAGE.digest, Origin.V2)
    asked.send(f"/v2/{NAME}/manifests/one", "HEAD")
    for _ in range(3):
        clock.advance(timedelta(seconds=2))
        asked.send(f"/v2/{NAME}/manifests/{IMAGE.digest}")
    assert not asked.reached
    registry.tags.pulls.flush()
    rows = registry.tags.describe(NAME, limit=9).rows
    assert {row.name: row.pulled_at for row in rows} == {"one": clock(), "same": clock(), "v1": None}


def test_a_promise_is_renewed(asked: Asked, clock: Clock) -> None:
    """An unused blob that is found by HEAD stays for half of the grace, however often it was repeated."""
    unused = layer({"u": b"u"})
    asked.guarded.registry.uploads.ingest(NAME, [unused])
    path = f"/v2/{NAME}/blobs/{Digest.of(unused)}"
    asked.headers = basic("alice")
    assert asked.is_repeated(path, "HEAD")
    clock.advance(timedelta(hours=11))
    assert asked.is_repeated(path, "HEAD")
    clock.advance(timedelta(hours=2))
    asked.send(path, "HEAD")
    assert asked.reached
    blob = asked.guarded.registry.blobs.stat(NAME, Digest.of(unused))
    assert blob.noted_at == clock()


def test_a_large_answer_takes_a_slot(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has been sent; without a free one, Flask says so."""
    push_v2(asked.guarded.registry, NAME, Tag("large"), NEXT)
    assert asked.is_repeated(LARGE)
    taken, released, take = [], [], Slots.take

    def count(slots: Slots, address: str) -> Callable[[], None]:
        release = take(slots, address)
        taken.append(address)
        return lambda: (released.append(address), release())[1]

    monkeypatch.setattr(Slots, "take", count)
    assert asked.is_repeated(LARGE)
    assert len(taken) == len(released) == 3

    monkeypatch.setattr(Slots, "take", refuse)
    assert asked.send(LARGE).status_code == 429
    assert asked.reached


def at_once(asked: Asked, path: str, **more: str) -> bool:
    """Return whether the lane has the answer without waiting; it is that which it had before."""
    environ = create_environ(
        path, headers={**asked.headers, **more}, environ_base={"REMOTE_ADDR": "127.0.0.1"}
    )
    answer = answer_at_once(lane_of(asked.guarded), environ)
    assert answer is None or answer[2] == asked.send(path, **more).data
    return answer is not None


def lose_access(asked: Asked) -> None:
    """Ask without credentials."""
    asked.headers = ACCEPT


@pytest.mark.sqlite
@pytest.mark.parametrize("act", [lose_the_bytes, move_the_tag, lose_access, revoke])
@pytest.mark.parametrize("path", [f"/v2/{NAME}/manifests/one", f"/v2/{NAME}/blobs/{LAYER}"])
def test_what_is_answered_at_once_is_right(asked: Asked, act: Callable[[Any], None], path: str) -> None:
    """Nothing is, before Flask has answered, and after something has changed."""
    asked.headers = basic("alice") | ACCEPT
    assert not at_once(asked, path)
    assert asked.is_repeated(path)
    assert at_once(asked, path)
    act(asked.guarded if act is revoke else asked)
    assert not at_once(asked, path)


@pytest.mark.sqlite
def test_what_is_answered_at_once_counts(
    guard: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, if it is answered; a request over the limit, or for which there is no slot, is Flask's."""
    guarded = guard(auth="none", request_limit="10/m")
    push_v2(guarded.registry, NAME, Tag("large"), NEXT)
    asked, taken, take = watch(guarded, ACCEPT), [], Slots.take
    monkeypatch.setattr(Slots, "take", lambda *given: (taken.append(0), take(*given))[1])
    assert asked.is_repeated(LARGE)
    slots, answers = len(taken), [at_once(asked, LARGE) for _ in range(3)]
    assert answers == [True] * 3
    assert len(taken) == slots + 6  # with those of the requests that it is compared with
    assert asked.send(LARGE).status_code == 200
    monkeypatch.setattr(Slots, "take", refuse)
    assert not at_once(asked, LARGE)
    monkeypatch.undo()
    assert not at_once(asked, LARGE)
    assert asked.send(LARGE).status_code == 429


def test_the_check_of_an_open_registry_needs_no_database(
    guard: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load balancers send it, and no row decides on it: a database that hangs must not take it along."""
    guarded = guard(auth="none")
    fill(guarded.registry)
    asked = watch(guarded, ACCEPT)
    assert asked.is_repeated("/v2/")
    assert asked.is_repeated(f"/v2/{NAME}/manifests/one")

    def hang(_: Registry) -> None:
        raise AssertionError

    monkeypatch.setattr(Registry, "version", hang)
    asked.send("/v2/")
    assert not asked.reached


@pytest.mark.sqlite
def test_a_disk_that_fails_is_an_outage(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane cannot look at the version, and leaves it to Flask to say why."""
    path = f"/v2/{NAME}/manifests/one"
    assert asked.is_repeated(path)

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dualreg.catalog.database._identity", fail)
    assert asked.send(path).status_code == 503
    assert asked.reached


def test_a_pull_that_cannot_be_noted_fails_as_it_does_in_flask(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has no page of its own for that, and the slot would stay taken."""
    path = f"/v2/{NAME}/manifests/one"
    assert asked.is_repeated(path)

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asked.guarded.registry.tags.pulls, "record", fail)
    assert asked.send(path).status_code == 500
    assert asked.reached


def test_credentials_are_not_kept_as_they_are(asked: Asked) -> None:
    """What stands for them in memory is useless to who reads it there, as with passwords."""
    asked.headers = basic("alice") | ACCEPT
    assert asked.is_repeated(f"/v2/{NAME}/manifests/one")
    front = lane_of(asked.guarded)
    kept = repr([*front._grants._values, *front._answers._values])
    assert basic("alice")["Authorization"].split()[1] not in kept


def test_what_is_remembered_is_bounded() -> None:
    """By the bytes of keys and bodies; the first make room."""
    memory = lane._Memory[int](100)
    for number in range(10):
        memory.keep("now", number, number, 30)
    assert [memory.find("now", number) for number in range(10)] == [None] * 7 + [7, 8, 9]
    memory.keep("now", 9, 90, 30)
    assert [memory.find("now", number) for number in (7, 8, 9)] == [7, 8, 90]
    assert memory.find("later", 9) is None
    memory.keep("later", 9, 900, 30)
    assert [memory.find("now", number) for number in (7, 8, 9)] == [7, 8, None]
    assert memory._used == 90


@pytest.mark.slow
def test_what_clients_are_granted_counts_and_is_kept_once(asked: Asked) -> None:
    """With the credentials, not with each answer: an account may have thousands of permissions."""
    front = lane_of(asked.guarded)
    for number in range(50):
        asked.guarded.accounts.grant("alice", f"more{number}/*", "pull")
    asked.headers = basic("alice") | ACCEPT
    before = grants_alive()
    for number in range(20):
        assert asked.send(f"/v2/{NAME}/manifests/one?number={number}").status_code == 200
    assert grants_alive() <= before + 1
    assert front._grants._used >= 50 * lane._ACCESS


def grants_alive() -> int:
    """Return how many grants there are in memory."""
    gc.collect()
    return sum(isinstance(each, Grant) for each in gc.get_objects())


def test_errors_and_what_is_not_stored_are_not_repeated(
    asked: Asked, store: GuardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors are for Flask to find out anew, and so is schema 1 that a full disk does not keep."""
    assert not asked.is_repeated(f"/v2/{NAME}/manifests/absent")
    docker = {"User-Agent": "docker/1.6.2 go/go1.4", "Accept": ""}

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(store, "stage", fail)
        assert not asked.is_repeated(f"/v2/{NAME}/manifests/one", **docker)
    assert asked.is_repeated(f"/v2/{NAME}/manifests/one", **docker)
    digest = asked.send(f"/v2/{NAME}/manifests/one", **docker).headers["Docker-Content-Digest"]
    assert asked.is_repeated(f"/v2/{NAME}/manifests/{digest}", **docker)
