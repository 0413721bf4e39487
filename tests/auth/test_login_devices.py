"""Terminals log in by a browser that is elsewhere (RFC 8628), and get an API key."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.auth.conftest import Guarded, basic
from tests.auth.login_issuer import CLIENT, SECRET, Browser, LoginIssuer, issuing
from tests.migrate.fronts import status

DEVICE = {"device_code": "device-1"}


@pytest.fixture
def issuer() -> Iterator[LoginIssuer]:
    """A server on this machine."""
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def own(guard: Callable[..., Guarded], issuer: LoginIssuer, tmp_path: Path) -> Guarded:
    """A registry where people log in by the issuer."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    table = {"issuer": issuer.url, "client_id": CLIENT, "client_secret_file": str(secret)}
    return guard(login_issuers={"corp": table}, audit=str(tmp_path / "audit"))


def post(own: Guarded, path: str, **form: str) -> Any:
    """Send a form, as a terminal does."""
    return own.client.post(path, data=form)


def test_a_terminal_logs_in(own: Guarded, issuer: LoginIssuer, tmp_path: Path) -> None:
    """Ask for a code, wait until somebody has entered it, and get a key that is seen in a browser."""
    begun = post(own, "/login/device")
    assert begun.json == {
        "issuer": "corp",
        "device_code": "device-1",
        "user_code": "ABCD-EFGH",
        "verification_uri": f"{issuer.url}/enter",
        "expires_in": 600,
        "interval": 1,
    }
    waiting = post(own, "/login/device/key", **DEVICE)
    assert (waiting.status_code, waiting.json) == (400, {"error": "authorization_pending"})
    issuer.answer = [status(400, b'{"error": "slow_down"}')]
    assert post(own, "/login/device/key", **DEVICE).json == {"error": "slow_down"}
    issuer.confirmed = True
    done = post(own, "/login/device/key", **DEVICE, note="dualreg login on build-7", expires="90d")
    assert done.status_code == 200
    assert done.headers["Cache-Control"] == "no-store"
    assert done.json["account"] == "alice"
    me = own.client.get("/api/v1/me", headers=basic("alice", done.json["secret"]))
    assert me.json["key"] == done.json["key"]
    (row,) = own.accounts.keys_of("alice")
    assert row.note == "dualreg login on build-7"
    assert row.expires_at
    assert row.expires_at - row.created_at == timedelta(days=90)
    browser = Browser.at(own)
    browser.log_in(issuer)
    assert "build-7" in browser.home()
    events = [json.loads(line)["event"] for line in (tmp_path / "audit").read_text().splitlines()]
    assert events == ["write", "login", "write", "login"]


@pytest.mark.parametrize(
    ("form", "answer", "expected"),
    [
        (DEVICE, (400, "expired_token"), (403, "access_denied", "expired_token")),
        (DEVICE, (400, "access_denied"), (403, "access_denied", "the issuer says access_denied")),
        (DEVICE, (500, ""), (503, "temporarily_unavailable", "not as it should: retry")),
        ({}, None, (403, "access_denied", "no code")),
        ({"device_code": "x" * 5000}, None, (403, "access_denied", "no code")),
        (DEVICE | {"issuer": "other"}, None, (403, "access_denied", "no such issuer")),
        (DEVICE | {"expires": "soon"}, None, (400, "invalid_request", "expires")),
    ],
)
def test_what_comes_to_nothing(
    own: Guarded,
    issuer: LoginIssuer,
    form: dict[str, str],
    answer: tuple[int, str] | None,
    expected: tuple[int, str, str],
) -> None:
    """Errors that programs can tell apart and people can read, in the form of OAuth 2."""
    issuer.confirmed = True
    if answer:
        issuer.answer = [status(answer[0], json.dumps({"error": answer[1]}).encode())]
    found = post(own, "/login/device/key", **form)
    assert (found.status_code, found.json["error"]) == expected[:2]
    assert expected[2] in found.json["error_description"]
    assert not own.accounts.list()


def test_issuers_that_log_in_no_devices(own: Guarded, issuer: LoginIssuer) -> None:
    """The answer says what to do instead."""
    issuer.metadata = {"device_authorization_endpoint": None}
    found = post(own, "/login/device")
    assert found.status_code == 403
    assert "make a key in a browser" in found.json["error_description"]


def test_disabled_accounts(own: Guarded, issuer: LoginIssuer) -> None:
    """They get no key."""
    Browser.at(own).log_in(issuer)
    own.accounts.disable("alice")
    issuer.confirmed = True
    found = post(own, "/login/device/key", **DEVICE)
    assert "the account alice is disabled" in found.json["error_description"]
    assert not own.accounts.keys_of("alice")


@pytest.mark.slow
def test_devices_that_begin_many_logins(own: Guarded, issuer: LoginIssuer) -> None:
    """Thirty within a minute from one network; nothing is asked of the issuer for further ones."""
    del issuer
    answers = [post(own, "/login/device") for _ in range(40)]  # one more is allowed every two seconds
    assert {each.status_code for each in answers[:30]} == {200}
    found = next(each for each in answers if each.status_code != 200)
    assert (found.status_code, found.json["error"]) == (429, "temporarily_unavailable")
    assert found.headers["Retry-After"] in ("1", "2")
    other = {"REMOTE_ADDR": "192.0.2.1"}
    assert own.client.post("/login/device", environ_overrides=other).status_code == 200
    assert post(own, "/login/device/key", **DEVICE).json == {"error": "authorization_pending"}


@pytest.mark.parametrize("path", ["/login/device", "/login/device/key"])
def test_devices_need_https(guard: Callable[..., Guarded], issuer: LoginIssuer, path: str) -> None:
    """As browsers do."""
    issuer.confirmed = True
    table = {"issuer": issuer.url, "client_id": CLIENT}
    found = post(guard(login_issuers={"corp": table}, public_url="http://hub.example"), path, **DEVICE)
    assert found.status_code == 403
    assert "logins need https" in found.json["error_description"]
