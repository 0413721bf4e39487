"""People log in by a real issuer: Glewlwyd, in browsers and from terminals; and by LDAP behind it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.auth.conftest import Guarded, basic
from tests.auth.glewlwyd import PASSWORD, SECRET, Glewlwyd, glewlwyd
from tests.auth.login_issuer import ORIGIN, Browser
from tests.auth.slapd import slapd, user_module
from tests.programs import require

pytestmark = pytest.mark.client
READ = "repository:team/app:pull"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Glewlwyd]:
    """An issuer with users."""
    require("glewlwyd", package="glewlwyd")
    with glewlwyd(tmp_path) as server:
        server.set_up(f"{ORIGIN}/login/at/corp/callback")
        yield server


def registry(guard: Callable[..., Guarded], server: Glewlwyd, folder: Path) -> Guarded:
    """Return a registry whose people log in there."""
    secret = folder / "client-secret"
    secret.write_text(SECRET)
    table = {
        "issuer": server.issuer,
        "client_id": "dualreg",
        "client_secret_file": str(secret),
        "groups": {"devs": "developers"},
    }
    own = guard(login_issuers={"corp": table}, ui="readonly")  # with its own page of keys at /login
    own.accounts.grant("@developers", "team/*", "pull")
    return own


def may_pull(own: Guarded, account: str, key: str) -> bool:
    """Return whether a client that logs in may pull."""
    return bool(own.ask(READ, headers=basic(account, key)).json["scope"] == READ)


def test_browsers_and_terminals(guard: Callable[..., Guarded], server: Glewlwyd, tmp_path: Path) -> None:
    """Log in by code, with PKCE, and make a key; log in by a device's code, and get one."""
    own = registry(guard, server, tmp_path)
    server.add_user("alice", email="alice@example.com", groups=["devs", "staff"])
    person, browser = server.session("alice", PASSWORD), Browser.at(own)
    answer = browser.back(person.authorize(browser.begin()))
    assert answer.status_code == 200, answer.text
    assert "Groups: developers." in browser.home()
    assert may_pull(own, "alice", browser.key())
    begun = own.client.post("/login/device").json
    form = {"device_code": begun["device_code"]}
    waiting = own.client.post("/login/device/key", data=form)
    assert waiting.json == {"error": "authorization_pending"}
    person.confirm(begun["verification_uri"], begun["user_code"])
    done = own.client.post("/login/device/key", data=form)
    assert done.status_code == 200, done.text
    assert done.json["account"] == "alice"
    assert may_pull(own, "alice", done.json["secret"])
    assert len(own.accounts.keys_of("alice")) == 2


@pytest.mark.slow
def test_ldap(guard: Callable[..., Guarded], server: Glewlwyd, tmp_path: Path) -> None:
    """People whom Glewlwyd finds in LDAP log in with their password there, and have its groups."""
    require("slapd", "ldapwhoami", package="slapd, ldap-utils")
    own = registry(guard, server, tmp_path)
    with slapd(tmp_path) as url:
        server.session().send("POST", "mod/user/", user_module(url))
        browser = Browser.at(own)
        answer = browser.back(server.session("dora", PASSWORD).authorize(browser.begin()))
        assert answer.status_code == 200, answer.text
        assert "Groups: developers." in browser.home()
        key = browser.key()
        with pytest.raises(AssertionError, match="401"):
            server.session("dora", "wrong password")
    assert may_pull(own, "dora", key)  # keys need neither
