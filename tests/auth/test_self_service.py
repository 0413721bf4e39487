"""``/api/v1/me``: people change their password, and make and revoke their own API keys."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import bcrypt
import pytest

from dualreg.auth.access import Identity
from dualreg.auth.accounts import Accounts
from dualreg.auth.attempts import Limits
from dualreg.auth.passwords import Passwords
from dualreg.auth.secrets import SecretKind
from dualreg.auth.self_service import KEYS_LIMIT
from dualreg.catalog.database import Catalog
from dualreg.errors import NotAllowed, RegistryError, TooManyAttempts
from dualreg.image.names import RepositoryName, Tag
from dualreg.web import context, repeatable
from tests import builders
from tests.auth import test_forged_tokens as forged
from tests.auth.conftest import PASSWORD, Guarded, basic, bearer
from tests.conftest import Clock
from tests.databases import empty_database
from tests.properties.registries import push_v1, push_v2

KEYS = "/api/v1/me/keys"
NEW = "another password"
NARROW = "repository:team/app:pull"
NAME = RepositoryName("team/app")
provider = forged.provider


def make(own: Guarded, headers: dict[str, str], code: int = 201, **members: object) -> Any:
    """Make a key; return the document."""
    answer = own.client.post(KEYS, headers=headers, json=members)
    assert answer.status_code == code, answer.data
    return answer.json


def change(own: Guarded, headers: dict[str, str], old: str = PASSWORD, new: str = NEW) -> Any:
    """Change the password."""
    return own.client.put("/api/v1/me/password", headers=headers, json={"old": old, "new": new})


def message(answer: Any) -> str:
    """Return the text of an error."""
    return str(answer.json["errors"][0]["message"])


def test_who_am_i(guarded: Guarded) -> None:
    """Account, groups, credential, and what it manages."""
    alice = guarded.account("alice", ("team/*", "pull,manage"))
    guarded.accounts.join("dev", "alice")
    same = {"account": "alice", "groups": ["dev"]}
    answer = guarded.client.get("/api/v1/me", headers=alice)
    assert answer.json == same | {"credential": "password", "key": None, "scope": None, "manages": ["team/*"]}
    assert answer.headers["Cache-Control"] == "no-store"
    key = make(guarded, alice, scope=NARROW)
    found = guarded.client.get("/api/v1/me", headers=basic("alice", key["secret"])).json
    assert found == same | {"credential": "key", "key": key["id"], "scope": NARROW, "manages": []}


@pytest.mark.parametrize("path", ["/api/v1/me", KEYS, "/api/v1/permissions"])
@pytest.mark.usefixtures("provider")
def test_only_accounts_may_ask(guard: Callable[..., Guarded], path: str) -> None:
    """With a password or a key: no anonymous clients, no tokens, no workloads."""
    own = guard(**forged.OIDC)
    own.accounts.grant("@builds", "*", "pull")
    alice = own.account("alice", ("team/*", "pull"))
    for headers in ({}, bearer(own.token(NARROW, headers=alice)), basic("alice", "wrong")):
        answer = own.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="dualreg"'
    answer = own.client.get(path, headers=basic("ci", forged.job()))
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (403, "DENIED")
    assert guard(auth="none").client.get(path).status_code == 404


def test_a_password_is_changed(guarded: Guarded, clock: Clock) -> None:
    """What was logged in with the old one ends: it and refresh tokens at once, tokens within a minute."""
    alice = guarded.account("alice", ("team/*", "pull,push"))
    bob = guarded.account("bob", ("team/*", "pull,push"))
    push_v2(guarded.registry, NAME, Tag("one"), image := builders.image(builders.layer({"a": b"1"})))
    push_v1(guarded.registry, NAME, Tag("v1"), chain := builders.v1_chain(builders.layer({"b": b"2"})))
    form = {"service": "dualreg", "client_id": "x", "username": "alice", "password": PASSWORD}
    form |= {"grant_type": "password", "access_type": "offline"}
    refresh = guarded.client.post("/token", data=form).json["refresh_token"]
    renewal = {
        "grant_type": "refresh_token",
        "service": "dualreg",
        "client_id": "x",
        "refresh_token": refresh,
    }
    manifest, layer = f"/v2/{NAME}/manifests/{image.digest}", f"/v1/images/{chain[0].id}/json"

    def carried(headers: dict[str, str]) -> list[int]:
        """Return what a token and a session are answered."""
        return [
            guarded.client.get(path, headers=each).status_code
            for path, each in carrying[headers_key(headers)]
        ]

    def headers_key(headers: dict[str, str]) -> str:
        return headers["Authorization"]

    carrying = {}
    for headers in (alice, bob):
        begun = guarded.client.get(f"/v1/repositories/{NAME}/images", headers=headers)
        session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
        token = bearer(guarded.token(NARROW, headers=headers))
        carrying[headers_key(headers)] = [(manifest, token), (layer, session)]
    clock.advance(timedelta(seconds=1))
    assert [carried(alice), carried(bob)] == [[200, 200], [200, 200]]
    assert change(guarded, alice).status_code == 204
    assert guarded.client.post("/token", data=renewal).status_code == 401
    assert guarded.ask(headers=alice).status_code == 401
    assert guarded.ask(headers=basic("alice", NEW)).status_code == 200
    clock.advance(repeatable._GRANT_AGE)
    assert guarded.authority._endings
    guarded.authority._endings._cache.clear()
    assert [carried(alice), carried(bob)] == [[401, 401], [200, 200]]
    assert (
        guarded.client.get(
            manifest, headers=bearer(guarded.token(NARROW, headers=basic("alice", NEW)))
        ).status_code
        == 200
    )


def test_passwords_that_are_not_changed(guarded: Guarded) -> None:
    """The old one is required, and keys do not do; wrong ones count as failed logins."""
    alice = guarded.account("alice")
    key = make(guarded, alice)["secret"]
    robot = basic("ci", _robot(guarded))
    assert "no API key" in message(change(guarded, basic("alice", key)))
    assert "API key" in message(change(guarded, robot))
    assert "is an API key" in message(change(guarded, alice, old=key))
    for new, text in (("x", "at least 2"), ("y" * 73, "at most 72"), ("a\0b", "NUL")):
        answer = change(guarded, alice, new=new)
        assert (answer.status_code, text in message(answer)) == (400, True), answer.data
    answer = change(guarded, alice, old="wrong")
    assert (answer.status_code, message(answer)) == (403, "not allowed: the old password is wrong")


def test_wrong_old_passwords_are_failed_logins(guarded: Guarded) -> None:
    """Of whoever has taken over a login that lasts longer than a request."""
    alice, identity = guarded.account("alice"), Identity("alice", password=True)
    with guarded.client.application.app_context():
        own = context.self_service()
    for number in range(Limits().pair):
        with pytest.raises(NotAllowed):
            own.change_password(identity, f"wrong {number}", NEW, "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        own.change_password(identity, PASSWORD, NEW, "192.0.2.1")
    assert guarded.accounts.unlock("alice") == Limits().pair
    own.change_password(identity, PASSWORD, NEW, "192.0.2.1")
    assert guarded.ask(headers=alice).status_code == 401


def _robot(own: Guarded) -> str:
    """Make a robot; return its key."""
    own.accounts.add("ci", None)
    return own.accounts.add_key("ci", limits="", note="", lifetime=None).text


def test_passwords_of_a_file(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """They are changed there, not here; keys are the catalog's."""
    hash_ = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"alice:{hash_}\n")
    own = guard(auth="htpasswd", htpasswd=str(tmp_path / "htpasswd"))
    answer = change(own, basic("alice"))
    assert (answer.status_code, "no account alice" in message(answer)) == (400, True)
    assert own.client.get("/api/v1/me", headers=basic("alice", make(own, basic("alice"))["secret"])).json[
        "key"
    ]


def test_keys_are_made_listed_used_and_revoked(guarded: Guarded, clock: Clock) -> None:
    """Their text is shown once; the list says when they expire, and when they were last used."""
    alice, bob = guarded.account("alice", ("team/*", "pull,push")), guarded.account("bob")
    made = make(guarded, alice, note="laptop", expires="90d", scope=NARROW)
    assert re.fullmatch(r"drk_[0-9a-f]{16}_.{43}", made["secret"])
    began = clock()
    clock.advance(timedelta(seconds=1))
    plain = make(guarded, alice)
    (first, second) = guarded.client.get(KEYS, headers=alice).json["keys"]
    assert first == {
        "id": made["id"],
        "note": "laptop",
        "scope": NARROW,
        "created_at": began.isoformat(),
        "expires_at": (began + timedelta(days=90)).isoformat(),
        "used_at": None,
    }
    assert (second["scope"], second["expires_at"], made["expires_at"]) == (None, None, first["expires_at"])
    used = basic("alice", made["secret"])
    with guarded.client.application.app_context():
        uses = context.key_uses()
    assert uses

    def used_at() -> str | None:
        uses.flush()
        return guarded.client.get(KEYS, headers=alice).json["keys"][0]["used_at"]

    assert guarded.ask(NARROW, headers=used).json["scope"] == NARROW
    begun = clock().isoformat()
    assert used_at() == begun
    clock.advance(timedelta(minutes=4))
    assert guarded.ask(headers=used).status_code == 200
    assert used_at() == begun
    clock.advance(timedelta(minutes=2))
    assert guarded.ask(headers=used).status_code == 200
    assert used_at() == clock().isoformat()
    assert guarded.client.get(KEYS, headers=bob).json == {"keys": []}
    assert guarded.client.delete(f"{KEYS}/{made['id']}", headers=bob).status_code == 404
    assert guarded.client.delete(f"{KEYS}/{made['id']}", headers=alice).status_code == 204
    assert guarded.client.delete(f"{KEYS}/{made['id']}", headers=alice).status_code == 404
    assert guarded.ask(headers=used).status_code == 401
    assert [each["id"] for each in guarded.client.get(KEYS, headers=alice).json["keys"]] == [plain["id"]]
    make(guarded, basic("alice", plain["secret"]))
    uses.flush()
    with guarded.registry.state.catalog.read() as tx:
        rows = tx.secrets.connection.exec_driver_sql("SELECT id FROM key_uses").scalars().all()
    assert rows == [plain["id"]]


@pytest.mark.parametrize(
    ("own", "scope", "allowed"),
    [
        ("", "", True),
        ("", "repository:x:*", True),
        ("repository:team/*:pull", "", False),
        ("repository:team/*:pull", "repository:team/app:pull", True),
        ("repository:team/*:pull", "repository:team/a*b/*:pull", True),
        ("repository:team/*:pull", "repository:team/*:push", False),
        ("repository:team/*:pull", "repository:team/*:*", False),
        ("repository:team/*:pull", "repository:*:pull", False),
        ("repository:team/*:pull", "repository:team/app:pull repository:x:pull", False),
        ("repository:a:pull repository:b:*", "repository:b:delete,pull repository:a:pull", True),
        ("repository:team/*:admin", "repository:team/x:pull,delete", True),
    ],
)
def test_keys_make_no_wider_keys(guarded: Guarded, own: str, scope: str, *, allowed: bool) -> None:
    """Nor longer ones, nor any that stay without them; and see no others."""
    alice = guarded.account("alice")
    other = make(guarded, alice, note="other")
    key = make(guarded, alice, scope=own, expires="1h")
    with_key = basic("alice", key["secret"])
    document = make(guarded, with_key, code=201 if allowed else 403, scope=scope, expires="9d")
    listed = {each["id"] for each in guarded.client.get(KEYS, headers=with_key).json["keys"]}
    assert (other["id"] in listed) == (not own)
    assert guarded.client.delete(f"{KEYS}/{other['id']}", headers=with_key).status_code == (
        404 if own else 204
    )
    if not allowed:
        assert "is limited to" in document["errors"][0]["message"]
        return
    assert document["expires_at"] == key["expires_at"]
    assert document["id"] in listed
    grandchild = make(guarded, basic("alice", document["secret"]), scope=scope)
    assert grandchild["expires_at"] == key["expires_at"]
    assert guarded.client.delete(f"{KEYS}/{key['id']}", headers=with_key).status_code == 204
    for each in (key, document, grandchild):
        assert guarded.client.get(KEYS, headers=basic("alice", each["secret"])).status_code == 401


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"scope": "fly"}, "invalid scope"),
        ({"scope": "repository:x:manage"}, "manage cannot be"),
        ({"expires": "soon"}, "expires: "),
        ({"note": "x" * 201}, "at most 200"),
        ({"note": "a\0b"}, "printable"),
        ({"note": "\ud800"}, "note is not text"),
        ({"note": 7}, "note is not text"),
        ({"colour": "red"}, "unknown member 'colour'"),
    ],
)
def test_keys_that_are_refused(guarded: Guarded, members: dict[str, object], text: str) -> None:
    """With what is wrong."""
    answer = guarded.client.post(KEYS, headers=guarded.account("alice"), json=members)
    assert (answer.status_code, text in message(answer)) == (400, True), answer.data


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"{}", "text/plain", "Content-Type: application/json"),
        (b"{", "application/json", "not JSON"),
        (b"[" * 100_000, "application/json", "the body"),
        (b"[]", "application/json", "not a JSON object"),
        (b'{"old": "x"}', "application/json", "new is missing"),
        (b'{"old": null, "new": "x"}', "application/json", "old is missing"),
    ],
)
def test_bodies_that_are_refused(guarded: Guarded, body: bytes, kind: str, text: str) -> None:
    """A page of another origin can send text, but no JSON."""
    alice = guarded.account("alice")
    answer = guarded.client.put("/api/v1/me/password", headers=alice, data=body, content_type=kind)
    assert (answer.status_code in (400, 413), text in message(answer) or answer.status_code == 413) == (
        True,
        True,
    )
    assert guarded.ask(headers=alice).status_code == 200


def test_keys_have_a_limit(guarded: Guarded) -> None:
    """So that no account fills the catalog."""
    alice = guarded.account("alice")
    for _ in range(KEYS_LIMIT):
        guarded.accounts.add_key("alice", limits="", note="", lifetime=None)
    answer = guarded.client.post(KEYS, headers=alice, json={})
    assert (answer.status_code, f"at most {KEYS_LIMIT} keys" in message(answer)) == (400, True)


def test_changes_are_recorded(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """In the audit log, without secrets; so are denials."""
    own = guard(audit=str(tmp_path / "audit"))
    alice = own.account("alice")
    made = make(own, alice)
    own.client.delete(f"{KEYS}/{made['id']}", headers=alice)
    change(own, alice, old="wrong")
    change(own, alice)
    text = (tmp_path / "audit").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["event"], line["method"], line["path"], line.get("key")) for line in lines] == [
        ("write", "POST", KEYS, made["id"]),
        ("write", "DELETE", f"{KEYS}/{made['id']}", made["id"]),
        ("denied", "PUT", "/api/v1/me/password", None),
        ("write", "PUT", "/api/v1/me/password", None),
    ]
    assert {line["account"] for line in lines} == {"alice"}
    assert not [secret for secret in (made["secret"], PASSWORD, NEW) if secret in text]


def test_a_follower_changes_nothing(guard: Callable[..., Guarded]) -> None:
    """Nor a registry that is read-only: accounts are copied with the rest."""
    own = guard()
    alice = own.account("alice")
    with own.client.application.app_context():
        context.writes().set_mark("copying", own.registry.now())
    try:
        assert change(own, alice).status_code == 405
        assert own.client.post(KEYS, headers=alice, json={}).status_code == 405
        assert own.client.get(KEYS, headers=alice).status_code == 200
    finally:
        with own.client.application.app_context():
            context.writes().remove_mark()


def test_keys_that_are_revoked_while_they_are_used(tmp_path: Path) -> None:
    """Make no key that stays, whoever is first; and no use of them is recorded for good."""
    with empty_database(tmp_path / "data") as url, closing(Catalog(url)) as catalog:
        accounts = Accounts(catalog, Passwords(rounds=4))
        accounts.add("alice", None)
        for _ in range(20):
            parent, start = accounts.add_key("alice", limits="", note="", lifetime=None), Barrier(4)

            def derive(parent: str = parent.id, start: Barrier = start) -> None:
                start.wait(20)
                for _ in range(3):
                    try:
                        parent = accounts.add_key("alice", limits="", note="", parent=parent).id
                    except (ValueError, RegistryError):
                        return

            def use(parent: str = parent.id, start: Barrier = start) -> None:
                start.wait(20)
                with catalog.begin() as tx:
                    tx.secrets.record_uses({parent: catalog.now()})

            threads = [Thread(target=target) for target in (derive, derive, use)]
            for thread in threads:
                thread.start()
            start.wait(20)
            accounts.revoke(SecretKind.KEY, parent.id)
            for thread in threads:
                thread.join(20)
            assert accounts.keys_of("alice") == []
        with catalog.begin() as tx:
            tx.secrets.record_uses({"gone": catalog.now()})
            assert tx.secrets.connection.exec_driver_sql("SELECT * FROM key_uses").all() == []
