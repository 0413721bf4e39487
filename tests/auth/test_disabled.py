"""Accounts that are disabled: nothing that proves them is accepted, and all of it is again later."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from dualreg.auth.directories import CatalogDirectory, HtpasswdDirectory
from dualreg.auth.endings import Endings
from dualreg.catalog.database import Catalog
from dualreg.image.names import RepositoryName, Tag
from dualreg.web import repeatable
from tests import builders
from tests.auth.conftest import PASSWORD, Guarded, basic, bearer
from tests.conftest import Clock
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("team/app")
IMAGE = builders.image(builders.layer({"a": b"1"}))
CHAIN = builders.v1_chain(builders.layer({"b": b"2"}))
MANIFEST = f"/v2/{NAME}/manifests/one"


def let_a_minute_pass(guarded: Guarded, clock: Clock) -> None:
    """Let what the process remembers of accounts and grants be old."""
    clock.instant += repeatable._GRANT_AGE
    assert guarded.authority._endings
    guarded.authority._endings._cache.clear()


def form(**fields: str) -> dict[str, str]:
    """Return a form for ``POST /token``."""
    return {"service": "dualreg", "client_id": "x"} | fields


@pytest.fixture
def credentials(guarded: Guarded) -> dict[str, Callable[[], int]]:
    """What proves an account, each by a request that is answered by 200; the last ones are remembered."""
    alice = guarded.account("alice", ("team/*", "pull,push"))
    push_v2(guarded.registry, NAME, Tag("one"), IMAGE)
    push_v1(guarded.registry, NAME, Tag("v1"), CHAIN)
    key = basic("alice", guarded.accounts.add_key("alice", limits="", note="", lifetime=None).text)
    refresh = guarded.client.post(
        "/token", data=form(grant_type="password", username="alice", password=PASSWORD, access_type="offline")
    ).json["refresh_token"]
    token = bearer(guarded.token(f"repository:{NAME}:pull", headers=alice))
    begun = guarded.client.get(f"/v1/repositories/{NAME}/images", headers=alice)
    session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}

    def ask(path: str, headers: dict[str, str]) -> Callable[[], int]:
        return lambda: guarded.client.get(path, headers=headers).status_code

    def renew() -> int:
        data = form(grant_type="refresh_token", refresh_token=refresh)
        return guarded.client.post("/token", data=data).status_code

    return {
        "password": ask("/token", alice),
        "password, remembered": ask(MANIFEST, alice),
        "key": ask("/token", key),
        "key, remembered": ask(MANIFEST, key),
        "refresh token": renew,
        "token": ask(MANIFEST, token),
        "session": ask(f"/v1/images/{CHAIN[0].id}/json", session),
    }


def test_nothing_of_a_disabled_account_is_accepted(
    guarded: Guarded, credentials: dict[str, Callable[[], int]], clock: Clock
) -> None:
    """At once what is looked up, and within a minute what is not; then all of it again."""
    for _ in range(2):
        assert {name: ask() for name, ask in credentials.items()} == dict.fromkeys(credentials, 200)
    assert guarded.accounts.disable("alice") is True
    assert guarded.accounts.disable("alice") is False
    for name in credentials.keys() - {"token", "session"}:
        assert credentials[name]() == 401, name
    let_a_minute_pass(guarded, clock)
    assert {name: ask() for name, ask in credentials.items()} == dict.fromkeys(credentials, 401)
    assert guarded.accounts.enable("alice") is True
    assert guarded.accounts.enable("alice") is False
    let_a_minute_pass(guarded, clock)
    assert {name: ask() for name, ask in credentials.items()} == dict.fromkeys(credentials, 200)


def test_nothing_of_a_removed_account_is_accepted(
    guarded: Guarded, credentials: dict[str, Callable[[], int]], clock: Clock
) -> None:
    """Within a minute, also when there is another account of that name."""
    assert {name: ask() for name, ask in credentials.items()} == dict.fromkeys(credentials, 200)
    guarded.accounts.remove("alice")
    for name in credentials.keys() - {"token", "session"}:
        assert credentials[name]() == 401, name
    let_a_minute_pass(guarded, clock)
    assert {name: ask() for name, ask in credentials.items()} == dict.fromkeys(credentials, 401)
    other = guarded.account("alice", ("team/*", "pull"))
    token = bearer(guarded.token(f"repository:{NAME}:pull", headers=other))
    assert guarded.client.get(MANIFEST, headers=token).status_code == 200
    let_a_minute_pass(guarded, clock)
    assert guarded.client.get(MANIFEST, headers=token).status_code == 200
    assert [credentials[name]() for name in ("token", "session")] == [401, 401]


def test_only_who_proves_the_account_learns_that_it_is_disabled(guarded: Guarded) -> None:
    """A wrong password is answered as always, and counts; a right one does not make the account known."""
    alice = guarded.account("alice")
    guarded.accounts.disable("alice")
    wrong, right = (guarded.ask(headers=basic("alice", each)) for each in ("wrong", PASSWORD))
    assert "disabled" not in wrong.text
    assert "the account alice is disabled" in right.text
    with guarded.registry.state.catalog.read() as tx:
        found = tx.attempts.connection.exec_driver_sql("SELECT count(*) FROM login_successes").scalar()
    assert found == 0
    assert guarded.accounts.unlock("alice") == 1
    guarded.accounts.enable("alice")
    assert guarded.ask(headers=alice).status_code == 200


def test_others_go_on(guarded: Guarded, clock: Clock) -> None:
    """Anonymous clients and other accounts."""
    guarded.account("alice")
    bob = guarded.account("bob", ("team/*", "pull"))
    push_v2(guarded.registry, NAME, Tag("one"), IMAGE)
    token = bearer(guarded.token(f"repository:{NAME}:pull", headers=bob))
    guarded.accounts.disable("alice")
    let_a_minute_pass(guarded, clock)
    assert guarded.client.get(MANIFEST, headers=token).status_code == 200
    assert guarded.ask().status_code == 200


def test_processes_read_them_once_in_half_a_minute(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests with tokens ask the catalog nothing else."""
    catalog, reads, read = guarded.registry.state.catalog, [], Catalog.read
    own, issued_at = Endings(catalog, CatalogDirectory(catalog)), catalog.now().timestamp() // 1

    def count(*given: Any) -> Any:
        reads.append(given)
        return read(*given)

    monkeypatch.setattr(Catalog, "read", count)
    guarded.accounts.add("alice", None)
    assert [own.require_valid("alice", issued_at) for _ in range(10)] == [None] * 10
    assert len(reads) == 1


def test_robots_beside_an_htpasswd_file(tmp_path: Path, catalog: Catalog) -> None:
    """They are the catalog's, and can be disabled; the file alone says who else may log in."""
    hash_ = bcrypt.hashpw(b"pw", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"alice:{hash_}\n")
    directory = HtpasswdDirectory(tmp_path / "htpasswd", catalog)
    with catalog.begin() as tx:
        for name in ("ci", "alice"):
            tx.accounts.add(name, None)
            tx.accounts.disable(name)
    assert directory.find("ci") == (None, True, False)
    assert directory.find("alice") == (hash_, False, False)
