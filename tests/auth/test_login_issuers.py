"""People log in by an OpenID Connect issuer, in browsers: code flow, sessions, accounts, groups, keys."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from dualreg.auth import issuer_metadata
from dualreg.auth.secrets import SecretKind
from dualreg.catalog.database import Catalog
from tests.auth import test_forged_tokens as forged
from tests.auth.conftest import Guarded, basic, bearer
from tests.auth.login_issuer import CLIENT, KEY, ORIGIN, SECRET, Browser, LoginIssuer, issuing, query_of
from tests.conftest import Clock
from tests.migrate.fronts import status

READ = "repository:team/app:pull"
Make = Callable[..., Guarded]
VERIFIED, UNVERIFIED = {"email_verified": True}, {"email_verified": False}


@pytest.fixture
def issuer() -> Iterator[LoginIssuer]:
    """A server on this machine."""
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def make(guard: Make, issuer: LoginIssuer, tmp_path: Path) -> Make:
    """Makes a registry where people log in by the issuer."""
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")

    def make(also: Mapping[str, Any] | None = None, *, public_url: str = "", **chosen: Any) -> Guarded:
        table = {"issuer": issuer.url, "client_id": CLIENT, "client_secret_file": str(secret)} | chosen
        issuers = {"corp": table, **(also or {})}
        return guard(
            login_issuers=issuers, audit=str(tmp_path / "audit"), public_url=public_url, ui="readonly"
        )

    return make


def audit(tmp_path: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of an event."""
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def may_pull(own: Guarded, account: str, key: str) -> bool:
    """Return whether a client that logs in may pull."""
    answer = own.ask(READ, headers=basic(account, key))
    return answer.status_code == 200 and answer.json["scope"] == READ


def test_from_nothing_to_docker_login(make: Make, issuer: LoginIssuer, tmp_path: Path) -> None:
    """Log in, make a key, log in with it as the password, see it, revoke it, log out."""
    own = make(title="Example Corp")
    browser = Browser.at(own)
    assert "Log in with Example Corp" in browser.home()
    asked = query_of(url := browser.begin())
    assert url.startswith(f"{issuer.url}/authorize?tenant=one&")
    assert asked["response_type"] == "code"
    assert asked["scope"] == "openid profile email"
    assert asked["redirect_uri"] == f"{ORIGIN}/login/at/corp/callback"
    assert len(asked["nonce"]) == len(asked["state"]) == len(asked["code_challenge"]) == 43
    answer = browser.back(issuer.authorize(url))
    assert answer.status_code == 200
    assert 'url=/ui/"' in answer.text
    assert "<span>alice</span>" in browser.client.get("/ui/").text
    own.accounts.grant("alice", "team/*", "pull")
    assert "alice at localhost" in browser.home()
    key = browser.key(note="laptop", expires="30d", scope="repository:team/*:pull")
    assert may_pull(own, "alice", key)
    assert own.ask(READ, headers=basic("alice", "")).status_code == 401
    (row,) = own.accounts.keys_of("alice")
    assert (row.note, row.limits) == ("laptop", "repository:team/*:pull")
    home = browser.home()
    assert row.id in home
    assert key not in home
    assert browser.post(f"/login/keys/{row.id}/revoke").status_code == 303
    assert not may_pull(own, "alice", key)
    session = browser.cookies["dualreg_session"].value
    assert browser.post("/login/end").status_code == 303
    assert not browser.cookies
    browser.client.set_cookie("dualreg_session", session)
    assert "Log in with" in browser.home()  # it has ended here, not only in the browser
    assert [line["account"] for line in audit(tmp_path, "login")] == ["alice"]
    assert [line["key"] for line in audit(tmp_path, "write") if "key" in line] == [row.id, row.id]


def test_pages_and_cookies(make: Make, issuer: LoginIssuer) -> None:
    """No page is stored, framed, or runs scripts; cookies are for this host, and for no script."""
    browser = Browser.at(make())
    answers = [browser.client.get("/login"), browser.client.get("/login/at/corp")]
    answers += [browser.back(issuer.authorize(answers[1].headers["Location"])), browser.client.get("/login")]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert "<script" not in answer.text
    assert "HttpOnly" in answers[1].headers["Set-Cookie"]
    assert "SameSite=Lax" in answers[1].headers["Set-Cookie"]
    gone, session = answers[2].headers.getlist("Set-Cookie")
    assert "Max-Age=0" in gone
    assert re.search(r"^dualreg_session=drs_.*Max-Age=43200; HttpOnly; Path=/; SameSite=Strict$", session)


def test_cookies_over_https(guard: Make, issuer: LoginIssuer) -> None:
    """They are for https alone, and no other host of the domain can set them."""
    table = {"corp": {"issuer": issuer.url, "client_id": CLIENT}}
    own = guard(login_issuers=table, public_url="https://registry.example/sub")
    answer = own.client.get("/login/at/corp")
    assert query_of(answer.headers["Location"])["redirect_uri"].startswith(
        "https://registry.example/sub/login/"
    )
    assert re.search("^__Host-dualreg_login=.*Secure; HttpOnly; Path=/;", answer.headers["Set-Cookie"])
    assert 'href="/sub/login/at/corp"' in own.client.get("/ui/login").text
    assert own.client.get("/login").headers["Location"] == "/sub/ui/login"
    unsafe = guard(login_issuers=table, public_url="http://registry.example")
    answer = unsafe.client.get("/login/at/corp")
    assert answer.status_code == 403
    assert "logins need https" in answer.text


def test_hosts_that_are_none(make: Make, issuer: LoginIssuer) -> None:
    """A page says so."""
    del issuer
    answer = make().client.get("/login", headers={"Host": 'a"b'})
    assert answer.status_code == 400
    assert "the Host header is not a host" in answer.text


def test_a_public_url_that_browsers_write_otherwise(make: Make, issuer: LoginIssuer) -> None:
    """Forms come from an origin in lower case, without the port of its scheme."""
    url = "http://LOCALHOST:80"
    browser = Browser.at(make(public_url=url))
    answer = browser.client.get(issuer.authorize(browser.begin()).removeprefix(url))
    assert answer.status_code == 200
    assert browser.key().startswith("drk_")


FORGED: dict[str, tuple[Mapping[str, Any], str]] = {
    "no nonce": ({"nonce": None}, "nonce"),
    "another nonce": ({"nonce": "x" * 43}, "nonce"),
    "another audience": ({"aud": "other"}, "Audience"),
    "several, and another party": ({"aud": [CLIENT, "other"], "azp": "other"}, "azp"),
    "several, and no party": ({"aud": [CLIENT, "other"]}, "azp"),
    "another issuer": ({"iss": "https://other.example"}, "issuer"),
    "expired": ({"exp": time.time() - 3600}, "expired"),
    "of the future": ({"iat": time.time() + 3600}, "not yet valid"),
    "of another access token": ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "at_hash"),
    "no subject": ({"sub": None}, "sub"),
    "no expiry": ({"exp": None}, "exp"),
    "a subject that is no text": ({"sub": 4711}, "Subject"),
    "an empty subject": ({"sub": ""}, "subject"),
    "a long subject": ({"sub": "x" * 256}, "subject"),
    "a subject with a NUL": ({"sub": "a\0"}, "subject"),
}


@pytest.mark.parametrize("name", FORGED)
def test_id_tokens_that_are_not_right(make: Make, issuer: LoginIssuer, tmp_path: Path, name: str) -> None:
    """No account, no session, and a line in the audit log."""
    own = make()
    issuer.token, reason = dict(FORGED[name][0]), FORGED[name][1]
    answer = Browser.at(own).log_in(issuer)
    assert answer.status_code == 403
    assert reason in answer.text
    assert "drs_" not in str(answer.headers)
    assert not own.accounts.list()
    assert len(audit(tmp_path, "denied")) == 1


SIGNATURES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "another key": lambda claims: jwt.encode(
        dict(claims), forged.STRANGER.key, "ES256", headers={"kid": "login"}  # type: ignore[arg-type]
    ),
    "none": lambda claims: jwt.encode(dict(claims), "", "none", headers={"kid": "login"}),
        "no token": lambda _: "nothing",
    "an own key": lambda claims: jwt.encode(
        dict(claims), forged.STRANGER.key, "ES256",  # type: ignore[arg-type]
        headers={"jwk": forged.jwk_of(forged.STRANGER.key, "mine")},  # type: ignore[arg-type]
    ),
}  # fmt: skip


def _confused(claims: Mapping[str, Any]) -> str:
    """Return a token whose secret is the public key.  Source: CVE-2015-9235."""
    head = forged.part({"alg": "HS256", "typ": "JWT", "kid": "login"})
    signed = f"{head}.{forged.part(dict(claims))}"
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public = KEY.public_key().public_bytes(encoding, form)
    seal = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"


SIGNATURES["the public key as a secret"] = _confused


@pytest.mark.parametrize("name", SIGNATURES)
def test_id_tokens_that_are_not_the_issuers(make: Make, issuer: LoginIssuer, name: str) -> None:
    """A signature by somebody else, or by an algorithm that does not fit the key."""
    own = make()
    issuer.sign = SIGNATURES[name]
    answer = Browser.at(own).log_in(issuer)
    assert answer.status_code == 403
    assert "the ID token is refused" in answer.text
    assert not own.accounts.list()


def test_answers_to_other_browsers(make: Make, issuer: LoginIssuer) -> None:
    """Nobody logs somebody else in: the answer has to be that of the login which this browser began last."""
    own = make()
    attacker, victim = Browser.at(own), Browser.at(own)
    url = issuer.authorize(attacker.begin())
    assert "begun no login" in victim.back(url).text
    victim.begin()
    assert "not the login that this browser began" in victim.back(url).text
    # A code that was stolen, with the state of one's own login: the verifier does not fit.
    code, own_state = query_of(issuer.authorize(victim.begin()))["code"], query_of(attacker.begin())["state"]
    answer = attacker.client.get(f"/login/at/corp/callback?code={code}&state={own_state}&iss={issuer.url}")
    assert answer.status_code == 403
    assert "invalid_grant: the verifier is another one" in answer.text
    assert not own.accounts.list()


@pytest.mark.slow
def test_answers_of_other_issuers(make: Make, issuer: LoginIssuer) -> None:
    """An issuer cannot have the code of another one redeemed, nor answer for it."""
    with issuing() as other:
        own = make({"other": {"issuer": other.url, "client_id": CLIENT}})
        browser = Browser.at(own)
        back = query_of(issuer.authorize(browser.begin()))
        for path, iss in (("other", other.url), ("corp", other.url)):
            query = {"code": back["code"], "state": back["state"], "iss": iss}
            answer = browser.client.get(f"/login/at/{path}/callback", query_string=query)
            assert answer.status_code == 403
        assert not issuer.said
        assert not other.said


@pytest.mark.parametrize("named", [True, False])
def test_issuers_that_name_themselves(make: Make, issuer: LoginIssuer, *, named: bool) -> None:
    """RFC 9207: who says that it names itself has to."""
    issuer.metadata = {"authorization_response_iss_parameter_supported": named}
    browser = Browser.at(make())
    url = issuer.authorize(browser.begin()).replace(
        f"&iss={issuer.url}".replace(":", "%3A").replace("/", "%2F"), ""
    )
    assert "iss=" not in url
    assert browser.back(url).status_code == (403 if named else 200)


@pytest.mark.parametrize("path", ["/login/keys", "/login/keys/0000000000000000/revoke", "/login/end"])
def test_forms_of_other_pages(make: Make, issuer: LoginIssuer, path: str) -> None:
    """A form needs the session, the token of the page, and the page's origin."""
    own = make()
    browser = Browser.at(own)
    browser.log_in(issuer)
    found = re.search(r'name="token" value="([0-9a-f]+)"', browser.home())
    assert found
    good, origin = {"token": found[1]}, {"Origin": ORIGIN}
    for form, headers in (
        ({}, origin),
        ({"token": "0" * 64}, origin),
        (good, {}),
        (good, {"Origin": "null"}),
        (good, {"Origin": "https://evil.example"}),
        (good, {"Origin": "http://localhost:81"}),
    ):
        answer = browser.client.post(path, data=form, headers=headers)
        assert answer.status_code == 403
        assert "not of a page of this registry" in answer.text
    assert Browser.at(own).client.post(path, data=good, headers=origin).status_code == 403
    assert not own.accounts.keys_of("alice")
    assert "alice at" in browser.home()


@pytest.mark.slow
def test_a_session_is_valid_for_pages_alone(make: Make, issuer: LoginIssuer) -> None:
    """Neither as a password, nor as a token, nor for the API."""
    own = make()
    browser = Browser.at(own)
    browser.log_in(issuer)
    own.accounts.grant("alice", "team/*", "pull")
    session = browser.cookies["dualreg_session"].value
    assert own.ask(READ, headers=basic("alice", session)).status_code == 401
    for headers in (basic("alice", session), bearer(session), {"Cookie": f"dualreg_session={session}"}):
        assert own.client.get("/api/v1/me", headers=headers).status_code == 401


@pytest.mark.parametrize("name", ["admin", "ci", "Admin"])
def test_local_accounts_are_nobody_elses(make: Make, issuer: LoginIssuer, name: str) -> None:
    """Whoever is called so at the issuer gets none of their rights; with a prefix, an account beside them."""
    own = make()
    admin = own.account("admin", ("*", "admin"))
    own.accounts.add("ci", None)
    issuer.person["preferred_username"] = name
    answer = Browser.at(own).log_in(issuer)
    assert answer.status_code == 403
    assert f"another account {name.lower()}" in answer.text
    assert own.ask(READ, headers=admin).json["scope"] == READ
    own = make(account_prefix="corp-")
    browser = Browser.at(own)
    assert browser.log_in(issuer).status_code == 200
    assert not may_pull(own, f"corp-{name.lower()}", browser.key())


def test_an_account_is_the_subjects(make: Make, issuer: LoginIssuer) -> None:
    """Whoever is renamed keeps it; who gets the name afterwards does not; removed, it is made anew."""
    own = make()
    assert Browser.at(own).log_in(issuer).status_code == 200
    issuer.person["preferred_username"] = "alice.smith"
    browser = Browser.at(own)
    browser.log_in(issuer)
    assert "alice at" in browser.home()
    issuer.person = {"sub": "other", "preferred_username": "alice"}
    assert "another account alice" in Browser.at(own).log_in(issuer).text
    assert [row.name for row in own.accounts.list()] == ["alice"]
    key = browser.key()
    own.accounts.grant("alice", "team/*", "pull")
    assert may_pull(own, "alice", key)
    own.accounts.remove("alice")
    assert "Log in with" in browser.home()
    assert Browser.at(own).log_in(issuer).status_code == 200  # the other one, who now has the name
    assert not may_pull(own, "alice", key)


def test_first_logins_at_once(make: Make, issuer: LoginIssuer, catalog: Catalog) -> None:
    """Two browsers of the same person make one account."""
    own = make()
    browsers = [Browser.at(own) for _ in range(4)]
    urls = [issuer.authorize(browser.begin()) for browser in browsers]
    found: list[int] = []
    threads = [
        Thread(target=lambda browser=browser, url=url: found.append(browser.back(url).status_code))
        for browser, url in zip(browsers, urls, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 4
    with catalog.read() as tx:
        assert tx.accounts.subjects() == {"alice": (issuer.url, "4711")}


def test_groups(make: Make, issuer: LoginIssuer) -> None:
    """Those that the settings map, as the last login claimed them; those of the operator stay."""
    own = make(groups={"devs": "developers", "cn=ops,o=corp": "operators"})
    own.accounts.grant("@developers", "team/*", "pull")
    own.accounts.grant("@admins", "*", "admin")
    browser = Browser.at(own)
    issuer.person["groups"] = ["devs", "admins", "operators", 3]
    browser.log_in(issuer)
    assert "Groups: developers." in browser.home()
    key = browser.key()
    assert may_pull(own, "alice", key)
    own.accounts.join("local", "alice")
    for claim, groups in (
        (["cn=ops,o=corp"], "local, operators"),
        ("devs", "developers, local"),
        ({}, "local"),
    ):
        issuer.person["groups"] = claim
        browser.log_in(issuer)
        assert f"Groups: {groups}." in browser.home()
        assert may_pull(own, "alice", key) is ("developers" in groups)
    assert own.accounts.memberships() == [("local", "alice")]


def test_what_was_granted_to_a_name_is_not_for_the_first_who_has_it(make: Make, issuer: LoginIssuer) -> None:
    """Whether by rules or groups, unless the operator says so; what is granted later is for the account."""
    own = make()
    for grant, revoke in (
        (lambda: own.accounts.grant("alice", "team/*", "pull"),
         lambda: own.accounts.ungrant("alice", "team/*", None)),
        (lambda: own.accounts.join("admins", "alice"), lambda: own.accounts.leave("admins", "alice")),
    ):  # fmt: skip
        grant()
        refused = Browser.at(own).log_in(issuer)
        assert refused.status_code == 403
        assert "permission rules or groups name alice already" in refused.text
        assert not own.accounts.list()
        revoke()
    browser = Browser.at(own)
    assert browser.log_in(issuer).status_code == 200
    own.accounts.grant("alice", "team/*", "pull")
    assert browser.log_in(issuer).status_code == 200
    assert may_pull(own, "alice", browser.key())


def test_an_operator_may_grant_to_names_before(make: Make, issuer: LoginIssuer) -> None:
    """Where the issuer gives people their names."""
    own = make(granted_names=True)
    own.accounts.grant("alice", "team/*", "pull")
    browser = Browser.at(own)
    assert browser.log_in(issuer).status_code == 200
    assert may_pull(own, "alice", browser.key())


@pytest.mark.parametrize(
    ("chosen", "claims", "reason"),
    [
        ({"allowed_groups": ["staff"]}, {"groups": ["guests"]}, "none of the groups"),
        ({"allowed_groups": ["staff"]}, {}, "none of the groups"),
        ({"allowed_groups": ["staff"]}, {"groups": ["guests", "staff"]}, ""),
        ({"allowed_domains": ["example.com"]}, {"email": "a@example.com", **VERIFIED}, ""),
        ({"allowed_domains": ["example.com"]}, {"email": "a@Example.COM", **VERIFIED}, ""),
        ({"allowed_domains": ["example.com"]}, {"email": "a@example.com"}, "no e-mail address"),
        ({"allowed_domains": ["example.com"]}, {"email": "a@example.com", **UNVERIFIED}, "no e-mail"),
        ({"allowed_domains": ["example.com"]}, {"email": "a@evil.example.com", **VERIFIED}, "domains"),
        ({"allowed_domains": ["example.com"]}, {"email": "a@x@example.org", **VERIFIED}, "domains"),
        ({"account_claim": "email"}, {"email": "a@example.com", **VERIFIED}, ""),
        ({"account_claim": "email"}, {"email": "a@example.com"}, "no e-mail address"),
        ({}, {"preferred_username": None}, "says no preferred_username"),
        ({}, {"preferred_username": "a b"}, "cannot be named"),
        ({}, {"preferred_username": "authenticated"}, "cannot be named"),
        ({}, {"preferred_username": "oidc:ci"}, "cannot be named"),
        ({}, {"preferred_username": "<b>"}, "&lt;b&gt;"),
        ({}, {"preferred_username": "x" * 65}, "cannot be named"),
        ({"account_claim": "nick"}, {"nick": "Bob"}, ""),
    ],
)  # fmt: skip
def test_who_may_log_in(
    make: Make, issuer: LoginIssuer, chosen: Mapping[str, Any], claims: Mapping[str, Any], reason: str
) -> None:
    """Whom the operator allows, and whose claims make a name."""
    own = make(**chosen)
    issuer.person |= claims
    answer = Browser.at(own).log_in(issuer)
    assert answer.status_code == (403 if reason else 200)
    assert reason in answer.text
    assert len(own.accounts.list()) == (0 if reason else 1)


@pytest.mark.slow
def test_claims_of_the_userinfo_endpoint(make: Make, issuer: LoginIssuer) -> None:
    """What the ID token lacks comes from there, if it is of the same subject."""
    own = make(groups={"devs": "developers"})
    issuer.person = {"sub": "4711"}
    issuer.userinfo = {"sub": "4711", "preferred_username": "alice", "groups": ["devs"]}
    browser = Browser.at(own)
    assert browser.log_in(issuer).status_code == 200
    assert "Groups: developers." in browser.home()
    issuer.userinfo["sub"] = "other"
    assert "for somebody else" in Browser.at(own).log_in(issuer).text


def test_keys_end_unless_the_login_is_renewed(make: Make, issuer: LoginIssuer, clock: Clock) -> None:
    """Keys and tokens end; another login makes the keys valid again. Local accounts go on."""
    own = make(renewal="7d")
    local = own.account("bob", ("team/*", "pull"))
    browser = Browser.at(own)
    browser.log_in(issuer)
    own.accounts.grant("alice", "team/*", "pull")
    key = browser.key(expires="")
    clock.instant += timedelta(days=6, hours=23, minutes=59, seconds=50)
    headers = bearer(own.token(READ, headers=basic("alice", key)))
    assert own.client.get("/v2/team/app/tags/list", headers=headers).status_code == 404
    clock.instant += timedelta(seconds=11)
    answer = own.ask(READ, headers=basic("alice", key))
    assert answer.status_code == 401
    assert "alice has to log in in a browser again" in answer.text
    own.authority._endings._cache.clear()  # type: ignore[union-attr]  # as half a minute later
    assert own.client.get("/v2/team/app/tags/list", headers=headers).status_code == 401
    assert own.ask(READ, headers=local).json["scope"] == READ
    _settle(issuer, clock)
    assert browser.log_in(issuer).status_code == 200
    assert may_pull(own, "alice", key)
    # At once, although the process remembers for half a minute that the login had ended.
    headers = bearer(own.token(READ, headers=basic("alice", key)))
    assert own.client.get("/v2/team/app/tags/list", headers=headers).status_code == 404


def _settle(issuer: LoginIssuer, clock: Clock) -> None:
    """Have the issuer's clock be ours."""
    at = int(clock.instant.timestamp())
    issuer.token = {"iat": at, "exp": at + 300}


def test_disabled_accounts(make: Make, issuer: LoginIssuer) -> None:
    """Nothing of it works from then on: sessions, keys, another login."""
    own = make()
    browser = Browser.at(own)
    browser.log_in(issuer)
    own.accounts.grant("alice", "team/*", "pull")
    key = browser.key()
    own.accounts.disable("alice")
    assert not may_pull(own, "alice", key)
    assert "Log in with" in browser.home()
    assert "the account alice is disabled" in browser.log_in(issuer).text
    own.accounts.enable("alice")
    assert "Log in with" in browser.home()
    assert browser.log_in(issuer).status_code == 200
    assert "alice at" in browser.home()
    assert may_pull(own, "alice", key)


def test_sessions_end(make: Make, issuer: LoginIssuer, clock: Clock) -> None:
    """After their time, or when they are revoked; those that have ended are deleted."""
    own = make(session="1h")
    browser, other = Browser.at(own), Browser.at(own)
    browser.log_in(issuer)
    other.log_in(issuer)
    assert ["alice at" in each.home() for each in (browser, other)] == [True, True]
    assert browser.post("/login/end").status_code == 303
    assert ["alice at" in each.home() for each in (browser, other)] == [False, True]
    clock.instant += timedelta(hours=1)
    assert "Log in with" in browser.home()
    assert "Log in with" in other.home()
    _settle(issuer, clock)
    browser.log_in(issuer)
    assert len(own.accounts.secrets(SecretKind.SESSION)) == 1


def test_no_password(make: Make, issuer: LoginIssuer) -> None:
    """The operator cannot give one to somebody of an issuer: it would outlive the login."""
    Browser.at(own := make()).log_in(issuer)
    with pytest.raises(ValueError, match="alice logs in by an issuer"):
        own.accounts.set_password("alice", "a password")
    assert own.ask(READ, headers=basic("alice", "a password")).status_code == 401


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (status(500), 503, "answered 500"),
        (status(502, b"<html>"), 503, "answered 502"),
        (status(200, b"<html>"), 503, "no JSON object"),
        (status(200, b"[]"), 503, "no JSON object"),
        (status(200, b"{" * 100_000), 503, ""),
        (status(200, b'{"expires_in": [1]}'), 503, ""),
        (status(200, b'{"expires_in": Infinity}'), 503, ""),
        (status(200, b"{}"), 403, "the ID token is refused"),
        (status(302, Location="http://127.0.0.1:1/"), 503, ""),
        (status(400, b'{"error": "invalid_client", "error_description": "who<b>?"}'), 403, "who&lt;b&gt;?"),
        (status(200, b" " * (2 << 20)), 503, "exceeds"),
        (lambda handler: handler.connection.shutdown(2), 503, ""),
    ],
)  # fmt: skip
def test_issuers_that_fail(
    make: Make, issuer: LoginIssuer, caplog: pytest.LogCaptureFixture, *, answer: Any, code: int, reason: str
) -> None:
    """A page says so, and the log why, which may name hosts of the company; nobody has an account of it."""
    own = make()
    issuer.answer = [answer]
    found = Browser.at(own).log_in(issuer)
    assert found.status_code == code, found.text
    logged = [text for text in caplog.messages if text.startswith(f"the login issuer {issuer.url}: ")]
    assert len(logged) == (1 if code == 503 else 0)
    assert reason in (logged[0] if logged else found.text)
    assert issuer.url not in found.text
    assert ("or not as it should: retry in 30 seconds" in found.text) == (code == 503)
    assert not own.accounts.list()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "http://evil.example/"},
        {"token_endpoint": ["https://x"]},
        {"token_endpoint": "file:///etc/passwd"},
        {"token_endpoint_auth_methods_supported": 5},
    ],
)
def test_metadata_that_cannot_be_used(
    make: Make, issuer: LoginIssuer, metadata: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is sent anywhere; once they are right, logins go on."""
    monkeypatch.setattr(issuer_metadata, "_RETRY", 0.0)
    own = make()
    issuer.metadata = dict(metadata)
    answer = own.client.get("/login/at/corp")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "30"
    issuer.metadata = {}
    assert Browser.at(own).log_in(issuer).status_code == 200


def test_a_secret_of_any_characters(make: Make, issuer: LoginIssuer, tmp_path: Path) -> None:
    """It is encoded as RFC 6749 has it: a plus, as in base64, would be a blank for issuers that decode."""
    (tmp_path / "other").write_text("a+b%c: é/~=")
    found: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        found.append(base64.b64decode(handler.headers["Authorization"].removeprefix("Basic ")).decode())
        status(400, b'{"error": "invalid_client"}')(handler)

    issuer.answer = [answer]
    browser = Browser.at(make(client_secret_file=str(tmp_path / "other"), client_id="https://hub"))
    assert browser.log_in(issuer).status_code == 403
    assert found == ["https%3A%2F%2Fhub:a%2Bb%25c%3A+%C3%A9%2F~%3D"]


@pytest.mark.slow
def test_a_stalled_issuer_keeps_others_waiting_for_nothing(make: Make, issuer: LoginIssuer) -> None:
    """Some threads wait for it; further logins are sent away at once."""
    own, release = make(), Event()
    issuer.answer = [lambda handler: release.wait(30) and handler.connection.shutdown(2)] * 9  # type: ignore[func-returns-value]
    browsers = [Browser.at(own) for _ in range(6)]
    urls = [issuer.authorize(browser.begin()) for browser in browsers]
    found: list[int] = []
    threads = [
        Thread(target=lambda browser=browser, url=url: found.append(browser.back(url).status_code))
        for browser, url in zip(browsers, urls, strict=True)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while len(found) < 2 and time.monotonic() < began + 10:
        time.sleep(0.01)
    assert found == [429, 429]
    assert time.monotonic() - began < 2
    release.set()
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_failed_logins_count(make: Make, issuer: LoginIssuer, tmp_path: Path) -> None:
    """A hundred from one address within 15 minutes; passwords and other addresses are counted apart."""
    own = make()
    bob = own.account("bob", ("team/*", "pull"))
    issuer.token = {"nonce": "wrong"}
    browser = Browser.at(own)
    for _ in range(100):
        assert browser.log_in(issuer).status_code == 403
    issuer.token, count = {}, len(issuer.said)
    answer = browser.log_in(issuer)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 900
    assert len(issuer.said) == count
    assert [line["status"] for line in audit(tmp_path, "denied")] == [403] * 100 + [429]
    assert own.ask(READ, headers=bob).status_code == 200
    assert own.accounts.unlock_address("127.0.0.1") == 100
    assert browser.log_in(issuer).status_code == 200


def test_nothing_without_issuers(guarded: Guarded) -> None:
    """There is no page."""
    assert guarded.client.get("/login").status_code == 404
