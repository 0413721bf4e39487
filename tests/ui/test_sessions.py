"""Logging in and out of the pages: sessions, cookies, forms, and what ends a session."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dualreg.auth.secrets import SecretKind
from dualreg.auth.sessions import Sessions
from dualreg.web import context
from tests.auth.conftest import PASSWORD, Guarded
from tests.conftest import Clock
from tests.ui.conftest import ORIGIN, Browser

OWN = "/ui/repositories?own=1"


def is_in(browser: Browser, account: str = "writer") -> bool:
    """Return whether pages say who has logged in."""
    return f"<span>{account}</span>" in browser.get("/ui/").text


def test_in_and_out(own: Guarded) -> None:
    """The form leads home; the end of a session is one here, and not only in the browser."""
    browser = Browser.of(own)
    assert not is_in(browser)
    answer = browser.log_in("writer")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/")
    kept, form = answer.headers.getlist("Set-Cookie")
    assert kept.startswith("dualreg_session=drs_")
    assert kept.endswith("; Max-Age=43200; HttpOnly; Path=/; SameSite=Strict")
    assert form.startswith("dualreg_form=;")
    assert is_in(browser)
    session = browser.client.get_cookie("dualreg_session")
    assert session
    assert browser.post("/ui/logout").status_code == 303
    assert not is_in(browser)
    browser.client.set_cookie("dualreg_session", session.value)
    assert not is_in(browser)
    assert own.accounts.logins_of("writer") == []


def test_only_hashes_are_stored(own: Guarded) -> None:
    """Who reads the database cannot log in."""
    browser = Browser.of(own, "writer")
    cookie = browser.client.get_cookie("dualreg_session")
    assert cookie
    (row,) = own.accounts.logins_of("writer")
    assert cookie.value.rpartition("_")[2] not in repr(row) + row.hash + row.binding


def test_wrong_credentials(own: Guarded) -> None:
    """One answer for a wrong name and a wrong password; neither API keys nor tokens log in."""
    key = own.accounts.add_key("writer", limits="", note="").text
    token = own.token("repository:team/app:pull", headers={})
    browser = Browser.of(own)
    answers = [browser.log_in(*each) for each in (("writer", "wrong"), ("nobody", "wrong"))]
    assert [each.status_code for each in answers] == [401, 401]
    assert (
        len(
            {
                each.text.replace("nobody", "writer").replace(browser.token("/ui/login"), "")
                for each in answers
            }
        )
        == 1
    )
    assert 'value="writer"' in answers[0].text
    for text in (key, token, "", "\0", "x" * 5000):
        answer = browser.log_in("writer", text)
        assert answer.status_code == 401
    assert "API keys are for clients" in browser.log_in("writer", key).text
    assert not is_in(browser)


@pytest.mark.slow
def test_guessing_is_limited(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """As for every login, and together with those of clients; the audit log has each of them."""
    own = guard(audit=str(tmp_path / "audit"), login_limits="pair=3,address=100,account=200")
    own.account("writer")
    browser = Browser.of(own)
    assert [browser.log_in("writer", f"wrong{n}").status_code for n in range(4)] == [401, 401, 401, 429]
    answer = browser.log_in("writer")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert own.ask("repository:x:pull", headers={"Authorization": "Basic d3JpdGVyOng="}).status_code == 429
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert {(line["event"], line["account"], line["path"]) for line in lines[:5]} == {
        ("denied", "writer", "/ui/login")
    }


def test_logins_are_in_the_audit_log(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """With the account and the address."""
    own = guard(audit=str(tmp_path / "audit"))
    own.account("writer")
    browser = Browser.of(own, "writer")
    browser.post("/ui/logout")
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(line["event"], line["account"], line["command"]) for line in lines] == [
        ("write", "writer", "log in"),
        ("write", "writer", "log out"),
    ]


def test_logging_in_as_somebody_else(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """Ends the session that the browser has; the audit log names the account that was tried."""
    own = guard(audit=str(tmp_path / "audit"))
    for name in ("reader", "writer"):
        own.account(name)
    browser = Browser.of(own, "reader")
    assert browser.log_in("writer", "wrong").status_code == 401
    assert is_in(browser, "reader")
    assert browser.log_in("writer").status_code == 303
    assert is_in(browser)
    assert own.accounts.logins_of("reader") == []
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(line["event"], line["account"]) for line in lines] == [
        ("write", "reader"),
        ("denied", "writer"),
        ("write", "writer"),
    ]


@pytest.mark.parametrize(
    "end",
    [
        lambda own: own.accounts.set_password("writer", "another password"),
        lambda own: own.accounts.disable("writer"),
        lambda own: own.accounts.remove("writer"),
        lambda own: own.accounts.log_out("writer", keys=False),
        lambda own: (own.accounts.disable("writer"), own.accounts.enable("writer")),
        lambda own: (own.accounts.remove("writer"), own.accounts.add("writer", PASSWORD)),
    ],
    ids=["password", "disabled", "removed", "logged out", "disabled and enabled", "removed and made again"],
)
def test_what_ends_sessions(own: Guarded, end: Callable[[Guarded], Any]) -> None:
    """All of an account, at once; those of others stay."""
    browsers, other = [Browser.of(own, "writer") for _ in range(2)], Browser.of(own, "reader")
    end(own)
    assert [is_in(each) for each in browsers] == [False, False]
    assert is_in(other, "reader")


def test_sessions_end_by_themselves(own: Guarded, clock: Clock) -> None:
    """After twelve hours; each login deletes what has ended."""
    browser = Browser.of(own, "writer")
    clock.instant += timedelta(hours=12) - timedelta(seconds=1)
    assert is_in(browser)
    clock.instant += timedelta(seconds=1)
    assert not is_in(browser)
    Browser.of(own, "reader")
    assert [row.account for row in own.accounts.secrets(SecretKind.SESSION)] == ["reader"]


def test_when_sessions_were_used(own: Guarded, clock: Clock) -> None:
    """As of keys, to five minutes, in the background: pages write nothing."""
    browser = Browser.of(own, "writer")
    assert is_in(browser)
    with browser.client.application.app_context():
        uses = context.key_uses()
    assert uses
    uses.flush()
    assert [row.used_at for row in own.accounts.logins_of("writer")] == [clock.instant]


def test_the_number_of_sessions_is_limited(own: Guarded, clock: Clock) -> None:
    """The oldest one ends."""
    logins = own.authority.logins
    assert logins
    browser = Browser.of(own, "writer")
    for _ in range(20):
        clock.instant += timedelta(seconds=1)
        Sessions(logins).begin("writer", timedelta(hours=1))
    assert not is_in(browser)
    assert len(own.accounts.logins_of("writer")) == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": f"{ORIGIN}.evil.example"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_pages(own: Guarded, headers: dict[str, str]) -> None:
    """Neither log in nor out, whatever they contain."""
    browser = Browser.of(own, "writer")
    data = {"token": browser.token("/ui/")}
    assert browser.client.post("/ui/logout", data=data, headers=headers).status_code == 403
    assert is_in(browser)
    other = Browser.of(own)
    form = {"token": other.token("/ui/login"), "account": "writer", "password": PASSWORD}
    assert other.client.post("/ui/login", data=form, headers=headers).status_code == 403
    assert not is_in(other)


@pytest.mark.slow
def test_tokens_of_forms(own: Guarded) -> None:
    """Each session has its own, and a browser without one cannot guess any."""
    one, two, nobody = Browser.of(own, "writer"), Browser.of(own, "writer"), Browser.of(own)
    tokens = {one.token("/ui/"), two.token("/ui/"), nobody.token("/ui/login"), ""}
    assert len(tokens) == 4
    for browser, mine in ((one, one.token("/ui/")), (nobody, nobody.token("/ui/login"))):
        for token in (tokens - {mine}) | {"x", mine.upper()}:
            answer = browser.client.post("/ui/logout", data={"token": token}, headers={"Origin": ORIGIN})
            assert answer.status_code == 403
    without = own.client.post("/ui/logout", data={"token": ""}, headers={"Origin": ORIGIN})
    assert without.status_code == 403
    assert is_in(one)


def test_passwords_are_not_sent_in_the_clear(guard: Callable[..., Guarded]) -> None:
    """Logins need https, but on this machine; over https, cookies are for that alone."""
    own = guard(public_url="http://registry.example")
    own.account("writer")
    client = own.client.application.test_client()
    page = client.get("/ui/login").text
    token = page.partition('name="token" value="')[2].partition('"')[0]
    form = {"token": token, "account": "writer", "password": PASSWORD}
    answer = client.post("/ui/login", data=form, headers={"Origin": "http://registry.example"})
    assert answer.status_code == 403
    assert "logins need https" in answer.text


def test_cookies_over_https(guard: Callable[..., Guarded]) -> None:
    """No other host of the domain can set them, and they are sent over https alone."""
    own = guard(public_url="https://registry.example")
    own.account("writer")
    client = own.client.application.test_client()
    answer = client.get("/ui/login", base_url="https://localhost")
    assert answer.headers["Set-Cookie"].startswith("__Host-dualreg_form=")
    assert answer.headers["Set-Cookie"].endswith("; Secure; HttpOnly; Path=/; SameSite=Strict")
    token = answer.text.partition('name="token" value="')[2].partition('"')[0]
    form = {"token": token, "account": "writer", "password": PASSWORD}
    answer = client.post(
        "/ui/login", base_url="https://localhost", data=form, headers={"Origin": "https://registry.example"}
    )
    assert answer.status_code == 303
    assert answer.headers["Set-Cookie"].startswith("__Host-dualreg_session=drs_")
    assert "Secure" in answer.headers["Set-Cookie"]


def test_sessions_are_for_pages_alone(own: Guarded) -> None:
    """Neither the API nor a client is let in by the cookie."""
    browser = Browser.of(own, "root")
    assert browser.get("/api/v1/accounts").status_code == 401
    assert browser.get("/v2/secret/app/tags/list").status_code == 401
    assert browser.get("/v1/repositories/secret/app/tags").status_code == 401


def test_htpasswd(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """People of such a file log in, too; another password in it ends their sessions."""
    import bcrypt  # noqa: PLC0415 -- of this test alone

    path = tmp_path / "users"

    def write(password: str) -> None:
        path.write_text(f"writer:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n")

    write(PASSWORD)
    own = guard(auth="htpasswd", htpasswd=str(path))
    browser = Browser.of(own, "writer")
    assert is_in(browser)
    write("another password, which is longer")
    assert not is_in(browser)
