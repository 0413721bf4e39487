"""The page of one's own account: what it shows, and what its forms change."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dualreg.auth.secrets import SecretKind
from dualreg.web import context
from tests.auth.conftest import PASSWORD, Guarded, basic
from tests.conftest import Clock
from tests.ui.conftest import ORIGIN, Browser
from tests.ui.test_pages import HOSTILE, Parsed
from tests.ui.test_sessions import is_in

PAGE = "/ui/account"
NEW = "another password"
#: Forms, with what they send besides the token.
FORMS = {
    f"{PAGE}/password": {"old": PASSWORD, "new": NEW, "again": NEW},
    f"{PAGE}/keys": {"note": "laptop"},
    f"{PAGE}/keys/revoke": {"id": "0" * 16},
    f"{PAGE}/logins/end": {"id": "0" * 16},
    f"{PAGE}/logins/end-others": {},
}


def state(own: Guarded) -> object:
    """Return what the forms of somebody change."""
    return own.accounts.logins_of("writer"), own.ask(headers=basic("writer")).status_code


def test_what_it_shows(own: Guarded) -> None:
    """The account, its groups, and what rules allow it: its own, those of its groups, and of everybody."""
    own.accounts.join("dev", "reader")
    for who, pattern, actions in (
        ("@dev", "dev/*", "pull,manage"),
        ("authenticated", "{account}/*", "admin"),
        ("anonymous", "public/*", "pull"),
        ("@dev", "team/*", "push"),
        ("@ops", "ops/*", "pull"),
    ):
        own.accounts.grant(who, pattern, actions)
    text = Browser.of(own, "reader").get(PAGE).text
    rows = re.findall(r'<th scope="row"><code class="long">([^<]*)</code></th><td>([^<]*)</td>', text)
    assert rows == [
        ("dev/*", "pull, manage"),
        ("public/*", "pull"),
        ("reader/*", "admin"),
        ("team/*", "pull, push"),
    ]
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text))
    assert facts == {
        "Account": "reader",
        "Groups": "dev",
        "Logs in with": "a password",
        "Manages the rules of": "dev/*",
    }
    assert "this browser" in text


@pytest.mark.parametrize("path", FORMS)
def test_who_may_send_its_forms(own: Guarded, path: str) -> None:
    """Who has logged in, by a form of a page of ours, and while the registry may be changed."""
    browser, nobody = Browser.of(own, "writer"), Browser.of(own)
    Browser.of(own, "writer")
    before = state(own)
    assert nobody.post(path, page="/ui/login", **FORMS[path]).status_code == 403
    other = Browser.of(own, "reader").token(PAGE)
    for token in ("", other):
        answer = browser.client.post(path, data={"token": token, **FORMS[path]}, headers={"Origin": ORIGIN})
        assert answer.status_code == 403
    with own.client.application.app_context():
        context.writes().set_mark("moving", own.registry.now())
        try:
            answer = browser.post(path, **FORMS[path])
        finally:
            context.writes().remove_mark()
    assert (answer.status_code, "moving" in answer.text) == (405, True)
    assert state(own) == before


def test_pages_that_change_nothing(guard: Callable[..., Guarded]) -> None:
    """With ``ui = readonly``, there is no form but that which logs out."""
    own = guard(ui="readonly")
    own.account("writer")
    browser = Browser.of(own, "writer")
    assert browser.get(PAGE).text.count('method="post"') == 1
    assert {browser.post(path, **form).status_code for path, form in FORMS.items()} == {403}


def test_the_password_is_changed(own: Guarded, tmp_path: Path) -> None:
    """This browser stays logged in, others and refresh tokens do not, keys stay; the audit log knows."""
    key = own.accounts.add_key("writer", limits="", note="").text
    browser, other, reader = Browser.of(own, "writer"), Browser.of(own, "writer"), Browser.of(own, "reader")
    assert own.ask(headers=basic("writer"), offline_token="true").json["refresh_token"]
    before = browser.client.get_cookie("dualreg_session")
    answer = browser.post(f"{PAGE}/password", old=PASSWORD, new=NEW, again=NEW)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{PAGE}?done=1")
    assert "The password is changed" in browser.get(PAGE, done="1").text
    assert [is_in(browser), is_in(other), is_in(reader, "reader")] == [True, False, True]
    after = browser.client.get_cookie("dualreg_session")
    assert before
    assert after
    assert before.value != after.value
    assert {row.kind for row in own.accounts.logins_of("writer")} == {SecretKind.KEY, SecretKind.SESSION}
    headers = [basic("writer"), basic("writer", NEW), basic("writer", key)]
    assert [own.ask(headers=each).status_code for each in headers] == [401, 200, 200]
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["event"], line["account"]) for line in lines if line["path"] == f"{PAGE}/password"] == [
        ("write", "writer")
    ]
    assert all(secret not in json.dumps(lines) for secret in (PASSWORD, NEW))


def test_passwords_that_are_not_changed(own: Guarded) -> None:
    """What was typed wrong, and what no password may be; no page has what was typed."""
    key = own.accounts.add_key("writer", limits="", note="").text
    browser = Browser.of(own, "writer")
    for old, new, again, code, said in (
        ("wrong", NEW, NEW, 403, "the old password is wrong"),
        (key, NEW, NEW, 403, "API key"),
        (PASSWORD, NEW, f"{NEW}x", 400, "typed in two ways"),
        (PASSWORD, "x", "x", 400, "at least 2"),
        (PASSWORD, "y" * 73, "y" * 73, 400, "at most 72"),
    ):
        answer = browser.post(f"{PAGE}/password", old=old, new=new, again=again)
        assert (answer.status_code, said in answer.text) == (code, True), answer.text
        assert all(f'value="{each}"' not in answer.text for each in (old, new, again))
    assert is_in(browser)
    assert own.ask(headers=basic("writer")).status_code == 200


def test_guesses_count_as_failed_logins(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """Together with those of clients; the audit log has each of them."""
    own = guard(audit=str(tmp_path / "audit"), login_limits="pair=3,address=100,account=200")
    own.account("writer")
    browser = Browser.of(own, "writer")
    form = {"new": NEW, "again": NEW}
    codes = [browser.post(f"{PAGE}/password", old=f"wrong{n}", **form).status_code for n in range(4)]
    assert codes == [403, 403, 403, 429]
    answer = browser.post(f"{PAGE}/password", old=PASSWORD, **form)
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (429, True)
    assert own.ask(headers=basic("writer")).status_code == 429
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    denied = [(line["account"], line["path"]) for line in lines if line["event"] == "denied"]
    assert denied[:5] == [("writer", f"{PAGE}/password")] * 5


def test_a_password_in_a_file(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """Has no form: the operator changes it there."""
    import bcrypt  # noqa: PLC0415 -- of this test alone

    path = tmp_path / "users"
    path.write_text(f"writer:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    own = guard(auth="htpasswd", htpasswd=str(path))
    browser = Browser.of(own, "writer")
    text = browser.get(PAGE).text
    assert "keeps it in a file" in text
    assert 'name="old"' not in text
    form = {"old": PASSWORD, "new": NEW, "again": NEW}
    assert browser.post(f"{PAGE}/password", **form).status_code == 400


def test_keys_come_and_go(own: Guarded, clock: Clock) -> None:
    """A key is shown once, and is valid until it is revoked; those of others are not listed."""
    other = own.accounts.add_key("reader", limits="", note="of the reader").id
    browser = Browser.of(own, "writer")
    scope = "repository:team/*:pull"
    answer = browser.post(f"{PAGE}/keys", note=HOSTILE, scope=scope, expires="30d")
    (text,) = re.findall(r"drk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", answer.text)
    assert own.ask(headers=basic("writer", text)).status_code == 200
    (row,) = own.accounts.keys_of("writer")
    assert (row.note, row.limits) == (HOSTILE, scope)
    assert row.expires_at == clock.instant + timedelta(days=30)
    shown = browser.get(PAGE).text
    assert text not in shown
    assert other not in shown
    assert "alert(1)</script>" not in shown
    assert Parsed(shown).all("img") == []
    assert scope in shown
    for form in ({"expires": "soon"}, {"scope": "everything"}, {"note": "x" * 201}):
        assert browser.post(f"{PAGE}/keys", **form).status_code == 400
    assert browser.post(f"{PAGE}/keys/revoke", id=other).status_code == 404
    assert browser.post(f"{PAGE}/keys/revoke", id=row.id).status_code == 303
    assert own.ask(headers=basic("writer", text)).status_code == 401
    assert "You have none." in browser.get(PAGE).text
    assert [each.id for each in own.accounts.keys_of("reader")] == [other]


def test_logins_end(own: Guarded, clock: Clock) -> None:
    """One, or all but this browser; those of others stay."""
    browsers = []
    for _ in range(3):
        browsers.append(Browser.of(own, "writer"))
        clock.instant += timedelta(seconds=1)
    reader = Browser.of(own, "reader")
    assert own.ask(headers=basic("writer"), offline_token="true").json["refresh_token"]
    mine, text = browsers[2], browsers[2].get(PAGE).text
    assert text.count("this browser</td>") == 1
    assert "a refresh token of dualreg" in text
    ids = re.findall(r'logins/end">.*?name="id" value="([^"]+)"', text)
    assert ids == [row.id for row in own.accounts.logins_of("writer") if row.id in ids]
    assert len(ids) == 3
    assert mine.post(f"{PAGE}/logins/end", id=ids[0]).status_code == 303
    assert [is_in(each) for each in browsers] == [False, True, True]
    (theirs,) = own.accounts.logins_of("reader")
    assert mine.post(f"{PAGE}/logins/end", id=theirs.id).status_code == 404
    assert mine.post(f"{PAGE}/logins/end-others").status_code == 303
    assert [is_in(each) for each in browsers] == [False, False, True]
    assert [row.kind for row in own.accounts.logins_of("writer")] == [SecretKind.SESSION]
    assert is_in(reader, "reader")
