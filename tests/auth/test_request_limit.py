"""The limit of requests: whom they count for, which do not count, and what is said beyond it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Never

import pytest
from sqlalchemy import event

from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog
from dualreg.errors import ServerBusy
from dualreg.image.digest import Digest
from dualreg.registry import Registry
from dualreg.web import audit as web_audit
from dualreg.web.context import audit
from dualreg.web.slots import Slots
from tests.apps import client_of
from tests.auth.conftest import Guarded, basic, bearer
from tests.programs import dualreg_process
from tests.protocol.clients.wire import Wire
from tests.protocol.exchange import v1_text, v2_codes

BLOB = f"/v2/team/app/blobs/{Digest.of(b'')}"


def by(address: str) -> dict[str, str]:
    """Return the header by which the proxy names its client."""
    return {"X-Forwarded-For": address}


def test_beyond_the_limit(registry: Registry, catalog: Catalog) -> None:
    """Both dialects say so in their own way, before the catalog is asked; other networks are served."""
    client, statements = client_of(registry, request_limit="3/h"), list[str]()
    one, same, other = by("2001:db8::1"), by("2001:db8::2"), by("2001:db8:0:1::1")
    assert [client.get(BLOB, headers=one).status_code for _ in range(3)] == [404] * 3
    event.listen(catalog.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    for method, path in (
        ("GET", BLOB), ("POST", "/v2/team/app/blobs/uploads/"), ("GET", "/v2/_catalog"),
        ("GET", "/v1/search?q=a"), ("GET", "/v1/repositories/team/app/images"), ("GET", "/v1/users/"),
        ("GET", f"/v1/images/{'0' * 64}/json"),
    ):  # fmt: skip
        refused = client.open(path, method=method, headers=same)
        seconds = int(refused.headers["Retry-After"])
        assert (refused.status_code, 1100 < seconds <= 1200) == (429, True), path  # less on a slow machine
        if path.startswith("/v2"):
            assert v2_codes(refused) == ["TOOMANYREQUESTS"]
            assert f"too many requests: retry in {seconds} seconds" in refused.text
        else:
            assert v1_text(refused) == f"too many requests: retry in {seconds} seconds"
    assert not [each for each in statements if "FROM switches" not in each]  # of V1, looked at once a second
    assert client.get(BLOB, headers=other).status_code == 404


def test_refusals_take_no_statement(guard: Callable[..., Guarded]) -> None:
    """Of clients without credentials: no rules are looked up; of those with tokens from the second one on."""
    guarded, statements = guard(request_limit="3/h"), list[str]()
    guarded.account("alice", ("team/*", "pull"))
    path, form = "/v2/team/app/tags/list", {"service": "dualreg", "scope": "repository:team/app:pull"}
    token = guarded.client.get("/token", query_string=form, headers=basic("alice") | by("192.0.2.1"))
    login = bearer(token.json["token"])
    for headers, answers in ((login, [404, 404, 429]), (by("192.0.2.7"), [401] * 3)):
        assert [guarded.client.get(path, headers=headers).status_code for _ in answers] == answers
    engine = guarded.registry.state.catalog.engine
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    for headers in (login, by("192.0.2.7")):
        for method in ("GET", "HEAD"):
            assert guarded.client.open(path, method=method, headers=headers).status_code == 429
    assert not statements


def test_what_is_not_repeated(registry: Registry) -> None:
    """Requests of which clients have sent the body may exceed the limit by as much again."""
    client = client_of(registry, request_limit="2/h")
    location = client.post("/v2/team/app/blobs/uploads/").headers["Location"]
    assert [client.get(location).status_code for _ in range(2)] == [204, 429]
    assert client.patch(location, data=b"x").status_code == 202
    assert client.put(f"{location}?digest={Digest.of(b'x')}").status_code == 201
    refused = client.put("/v1/repositories/team/app/", json=[])
    assert (refused.status_code, 1700 < int(refused.headers["Retry-After"]) <= 1800) == (429, True)


def test_what_does_not_count(registry: Registry) -> None:
    """The checks of load balancers and clients are answered whatever the client has sent."""
    client = client_of(registry, request_limit="1/h")
    assert [client.get(BLOB).status_code for _ in range(2)] == [404, 429]
    for path in ("/v2/", "/v2", "/_ping", "/_status", "/v1/_ping", "/v1/_status", "/"):
        assert [client.get(path).status_code for _ in range(3)] == [200] * 3, path


def test_whom_requests_count_for(guard: Callable[..., Guarded]) -> None:
    """An account has its own number, whatever its address and credentials; the others count by address."""
    guarded = guard(request_limit="5/h")
    alice, bob = (guarded.account(name, ("team/*", "pull")) for name in ("alice", "bob"))
    token = bearer(guarded.token("repository:team/app:pull", headers=alice | by("192.0.2.1")))
    sent = [alice, token, alice, token, alice, token]
    statuses = [
        guarded.client.get(BLOB, headers=login | by(f"192.0.2.{number}")).status_code
        for number, login in enumerate(sent)
    ]
    assert statuses == [404, 404, 404, 404, 429, 429]
    form = {"grant_type": "password", "service": "dualreg", "client_id": "x"}
    form |= {"username": "alice", "password": "correct horse"}
    assert guarded.client.post("/token", data=form).status_code == 429
    assert guarded.client.get(BLOB, headers=bob | by("192.0.2.1")).status_code == 404
    wrong = [
        basic("bob", "wrong"),
        bearer("wrong"),
        {},
        {"Authorization": "Other x"},
        {},
        basic("x", "y"),
        {},
    ]
    statuses = [guarded.client.get(BLOB, headers=each | by("192.0.2.9")).status_code for each in wrong]
    assert statuses == [401] * 5 + [429] * 2
    assert guarded.client.get("/v2/", headers=by("192.0.2.9")).status_code == 401
    assert guarded.client.get(BLOB, headers=bob | by("192.0.2.9")).status_code == 404


def test_the_audit_log_is_not_filled(registry: Registry, tmp_path: Path) -> None:
    """Requests beyond the limit leave no line in it."""
    log = tmp_path / "audit.jsonl"
    client = client_of(registry, request_limit="1/h", audit=str(log))
    for _ in range(5):
        client.post("/v2/team/app/blobs/uploads/")
    with client.application.app_context():
        audit().close()
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["write"]


def test_a_busy_server_denies_nothing(
    guard: Callable[..., Guarded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose password is not verified now, or whose answer is not sent, leaves no line of that."""

    def be_busy(*_: object, **__: object) -> Never:
        raise ServerBusy(retry_after=5)

    log = tmp_path / "audit.jsonl"
    guarded = guard(audit=str(log))
    login, form = (
        basic("alice", "correct horse"),
        {"grant_type": "password", "service": "dualreg", "client_id": "x"},
    )
    guarded.account("alice", ("team/*", "pull"))
    with monkeypatch.context() as patched:
        patched.setattr(Slots, "hold_for", be_busy)
        answers = [guarded.client.get(path, headers=login) for path in ("/v2/_catalog", "/v1/users/", BLOB)]
    monkeypatch.setattr(Passwords, "verify", be_busy)
    login = basic("alice", "another")
    answers += [guarded.client.get(path, headers=login) for path in (BLOB, "/v2/", "/v1/users/", "/token")]
    answers.append(guarded.client.post("/token", data=form | {"username": "alice", "password": "x"}))
    assert [(each.status_code, each.headers["Retry-After"]) for each in answers] == [(429, "5")] * 8
    assert log.read_text() == ""


@pytest.mark.slow
def test_denials_do_not_fill_the_audit_log(
    guard: Callable[..., Guarded],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond a number, those of a client leave no line but in the server's log; others are recorded."""
    monkeypatch.setattr(web_audit, "_DENIALS", 5)
    monkeypatch.setattr(web_audit, "_PERIOD", 1e6)
    log = tmp_path / "audit.jsonl"
    guarded = guard(audit=str(log))
    alice = guarded.account("alice", ("team/*", "pull,push"))
    for _ in range(8):
        assert guarded.client.get(BLOB, headers=by("2001:db8::1")).status_code == 401
    guarded.client.get(BLOB, headers=by("2001:db8::2"))
    guarded.client.put(f"/v1/repositories/team/app{'/' * 5000}", headers=by("2001:db8:0:1::1"))
    guarded.client.post("/v2/team/app/blobs/uploads/", headers=alice | by("2001:db8::1"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["denied"] * 6 + ["write"]
    assert [len(lines[5]["path"]), lines[5]["address"]] == [1000, "2001:db8:0:1::1"]
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["2001:db8::1"] * 3 + [
        "2001:db8::2"
    ]
    assert "no line of further denials" in caplog.text


@pytest.mark.slow
def test_workers_count_together(tmp_path: Path) -> None:
    """However many connections a client opens, and to whichever workers."""
    with dualreg_process(tmp_path / "data", request_limit="50/h", workers="3") as (host, _, _):
        statuses = [Wire(host).send("GET", BLOB).status for _ in range(120)]
    assert (statuses.count(404), statuses.count(429)) == (50, 70)
