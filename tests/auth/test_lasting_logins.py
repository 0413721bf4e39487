"""What an account can log in with beside its password: listed, and ended, by operators and by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from dualreg.auth.logins import Logins
from dualreg.auth.secrets import SecretKind
from dualreg.auth.sessions import Sessions
from dualreg.operations.operation import PREFIX
from tests.auth.conftest import PASSWORD, Guarded, basic, bearer
from tests.conftest import Clock

OWN = f"{PREFIX}/me/logins"
LISTED = {"id", "kind", "service", "created_at", "expires_at", "used_at"}


@dataclass
class Person:
    """Somebody who is logged in everywhere."""

    own: Guarded
    name: str
    key: str
    refresh: str
    session: str
    token: str

    @property
    def logins(self) -> Logins:
        """The service that verifies logins."""
        found = self.own.authority.logins
        assert found
        return found

    def valid(self) -> set[str]:
        """Return what the person can still log in with."""
        headers = {
            "password": basic(self.name),
            "key": basic(self.name, self.key),
            "token": bearer(self.token),
        }
        found = {
            kind
            for kind, each in headers.items()
            if self.own.client.get("/v2/", headers=each).status_code == 200
        }
        form = {"grant_type": "refresh_token", "service": "dualreg", "client_id": "x"}
        answer = self.own.client.post("/token", data=form | {"refresh_token": self.refresh})
        found |= {"refresh"} if answer.status_code == 200 else set()
        return found | ({"session"} if Sessions(self.logins).find(self.session) else set())


@pytest.fixture
def log_in(guarded: Guarded, clock: Clock) -> Callable[[str], Person]:
    """Logs somebody in everywhere; each way at another second."""

    def make(name: str) -> Person:
        headers = guarded.account(name, ("team/*", "pull"))
        key = guarded.accounts.add_key(name, limits="", note="laptop").text
        clock.advance(timedelta(seconds=1))
        refresh = guarded.ask(headers=headers, offline_token="true").json["refresh_token"]
        logins = guarded.authority.logins
        assert logins
        clock.advance(timedelta(seconds=1))
        session = Sessions(logins).begin(name, timedelta(hours=8))
        person = Person(
            guarded, name, key, refresh, session, guarded.token("repository:team/a:pull", headers=headers)
        )
        clock.advance(timedelta(seconds=1))
        return person

    return make


ALL = {"password", "key", "token", "refresh", "session"}


@pytest.mark.parametrize("keys", [False, True])
def test_an_operator_ends_all_logins(
    guarded: Guarded, log_in: Callable[[str], Person], *, keys: bool
) -> None:
    """Of one account, but for its password, and keys unless that is wanted; others stay logged in."""
    root = guarded.account("root", ("*", "admin,manage"))
    alice, bob = log_in("alice"), log_in("bob")
    assert (alice.valid(), bob.valid()) == (ALL, ALL)
    rows = guarded.client.get(f"{PREFIX}/accounts/logins?name=alice", headers=root).json
    assert {row["kind"] for row in rows} == {"key", "refresh", "session"}
    assert not {alice.key, alice.refresh, alice.session} & {
        str(value) for row in rows for value in row.values()
    }
    for dry_run in (True, False):
        body = {"name": "alice", "keys": keys, "dry_run": dry_run}
        answer = guarded.client.post(f"{PREFIX}/accounts/logout", json=body, headers=root)
        assert answer.json == {
            "account": "alice", "keys": int(keys), "refresh_tokens": 1, "sessions": 1, "tokens": True,
        }  # fmt: skip
        assert guarded.authority._endings
        guarded.authority._endings._cache.clear()
        assert alice.valid() == (ALL if dry_run else {"password"} | ({"key"} - ({"key"} if keys else set())))
    assert bob.valid() == ALL
    (left,) = [[row.kind for row in guarded.accounts.logins_of("alice")]]
    assert left == ([] if keys else ["key"])
    # Who logs in again is logged in.
    token = guarded.token("repository:team/a:pull", headers=basic("alice", PASSWORD))
    assert guarded.client.get("/v2/", headers=bearer(token)).status_code == 200


def test_people_end_single_logins(guarded: Guarded, log_in: Callable[[str], Person], clock: Clock) -> None:
    """Of their own; what has expired is not listed."""
    alice, bob = log_in("alice"), log_in("bob")
    listed = guarded.client.get(OWN, headers=basic("alice")).json["logins"]
    assert [(row["kind"], row["service"]) for row in listed] == [("refresh", "dualreg"), ("session", None)]
    assert all(row.keys() == LISTED for row in listed)
    for id_ in (guarded.accounts.logins_of("bob")[1].id, "0" * 16, guarded.accounts.keys_of("alice")[0].id):
        answer = guarded.client.delete(f"{OWN}/{id_}", headers=basic("alice"))
        assert (answer.status_code, answer.json["errors"][0]["code"]) == (404, "UNKNOWN")
    assert guarded.client.delete(f"{OWN}/{listed[0]['id']}", headers=basic("alice")).status_code == 204
    assert alice.valid() == ALL - {"refresh"}
    key = basic("alice", alice.key)
    assert [row["kind"] for row in guarded.client.get(OWN, headers=key).json["logins"]] == ["session"]
    assert guarded.client.delete(f"{OWN}/{listed[1]['id']}", headers=key).status_code == 204
    assert alice.valid() == ALL - {"refresh", "session"}
    assert bob.valid() == ALL
    clock.advance(timedelta(hours=8))
    assert [row.kind for row in guarded.accounts.logins_of("bob")] == [SecretKind.KEY, SecretKind.REFRESH]


@pytest.mark.parametrize("way", ["password", "key"])
def test_people_end_all_their_logins(guarded: Guarded, log_in: Callable[[str], Person], way: str) -> None:
    """But for keys and the password; those of others stay."""
    alice, bob = log_in("alice"), log_in("bob")
    headers = basic("alice", alice.key) if way == "key" else basic("alice")
    assert guarded.client.delete(OWN, headers=headers).status_code == 204
    assert guarded.authority._endings
    guarded.authority._endings._cache.clear()
    assert alice.valid() == {"password", "key"}
    assert bob.valid() == ALL
    assert guarded.client.get(OWN, headers=headers).json == {"logins": []}
    assert guarded.client.delete(OWN, headers=headers).status_code == 204


def test_a_limited_key_sees_no_login(guarded: Guarded, log_in: Callable[[str], Person]) -> None:
    """Nor does it end one: each allows all that the account may do."""
    alice = log_in("alice")
    limited = guarded.accounts.add_key("alice", limits="repository:team/*:pull", note="").text
    assert guarded.client.get(OWN, headers=basic("alice", limited)).json == {"logins": []}
    for row in guarded.accounts.logins_of("alice"):
        assert guarded.client.delete(f"{OWN}/{row.id}", headers=basic("alice", limited)).status_code == 404
    answer = guarded.client.delete(OWN, headers=basic("alice", limited))
    assert (answer.status_code, "limited to repository:team/*:pull" in answer.text) == (403, True)
    assert alice.valid() == ALL
