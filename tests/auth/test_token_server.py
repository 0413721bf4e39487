"""``/token``: Docker's token protocol, as its clients use it."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from dualreg.auth.attempts import WINDOW, Limits
from dualreg.auth.secrets import SecretKind
from dualreg.image.names import RepositoryName, Tag
from tests import builders
from tests.auth.conftest import PASSWORD, Guarded, basic, bearer
from tests.conftest import Clock
from tests.properties.registries import push_v2
from tests.protocol.exchange import v2_codes

IMAGE = builders.image(builders.layer({"a": b"1"}))
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')


def codes(response: TestResponse) -> list[str]:
    """Return the codes of an error answer of ``/token``, which is V2's in its form."""
    return [entry["code"] for entry in response.json["errors"]]  # type: ignore[index]  # or the test fails


def challenge(response: TestResponse) -> dict[str, str]:
    """Return the parameters of a Bearer challenge, as Docker reads them."""
    header = response.headers["WWW-Authenticate"]
    assert header.startswith("Bearer ")
    assert header == "Bearer " + ",".join(f'{key}="{value}"' for key, value in _PARAMETER.findall(header))
    return dict(_PARAMETER.findall(header))


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/", None),
        ("GET", "/v2", None),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        ("GET", "/v2/_oci/ext/discover", None),
        ("GET", "/v2/a/b/tags/list", "repository:a/b:pull"),
        ("HEAD", "/v2/a/b/manifests/x", "repository:a/b:pull"),
        ("POST", "/v2/a/b/blobs/uploads/", "repository:a/b:pull,push"),
        ("PUT", "/v2/a/b/manifests/x", "repository:a/b:pull,push"),
        ("DELETE", "/v2/a/b/manifests/x", "repository:a/b:delete"),
        ("DELETE", "/v2/a/b/_dualreg/repository", "repository:a/b:admin"),
    ],
)
def test_challenges(guarded: Guarded, method: str, path: str, scope: str | None) -> None:
    """Where to get which token; every value is quoted, and nothing says more than it must."""
    answer = guarded.client.open(path, method=method)
    assert answer.status_code == 401
    told = {"realm": "http://localhost/token", "service": "dualreg"} | ({"scope": scope} if scope else {})
    assert challenge(answer) == told
    if method != "HEAD":
        assert v2_codes(answer) == ["UNAUTHORIZED"]


def test_challenges_say_what_is_wrong_with_a_token(guarded: Guarded) -> None:
    """RFC 6750's words, upon which clients get another one."""
    alice = guarded.account("alice", ("a/*", "pull"))
    token = guarded.token("repository:a/b:pull,push", headers=alice)
    push = guarded.client.post("/v2/a/b/blobs/uploads/", headers=bearer(token))
    assert challenge(push)["error"] == "insufficient_scope"
    assert challenge(push)["scope"] == "repository:a/b:pull,push"
    lacks = "the token of alice lacks push on repository a/b"
    assert challenge(push)["error_description"].startswith(lacks)
    other = guarded.client.get("/v2/a/c/tags/list", headers=bearer(token))
    assert (other.status_code, challenge(other)["error"]) == (401, "insufficient_scope")
    broken = guarded.client.get("/v2/a/b/tags/list", headers=bearer(token[:-4] + "AAAA"))
    assert (broken.status_code, challenge(broken)["error"]) == (401, "invalid_token")
    assert challenge(broken)["error_description"] == "Signature verification failed"
    denied = guarded.client.post("/v2/a/b/blobs/uploads/", headers=alice)
    assert (denied.status_code, v2_codes(denied)) == (403, ["DENIED"])


def test_the_realm_follows_the_settings_and_the_host(guard: Callable[..., Guarded]) -> None:
    """The public URL if there is one, else the host that was asked; it cannot leave its quotes."""
    own = guard(public_url="https://hub.example/")
    assert challenge(own.client.get("/v2/"))["realm"] == "https://hub.example/token"
    asked = guard().client.get("/v2/", headers={"Host": 'a"b,x="c'})
    assert asked.status_code in (400, 401)
    if asked.status_code == 401:
        assert '"b' not in asked.headers["WWW-Authenticate"]


def test_get(guarded: Guarded) -> None:
    """Both names of the token, how long it is good, since when, and nothing that lasts unasked."""
    alice = guarded.account("alice", ("a/*", "pull,push"))
    answer = guarded.ask("repository:a/b:pull", headers=alice, service="dualreg", client_id="docker")
    told = answer.json
    assert told["token"] == told["access_token"]
    assert (told["expires_in"], told["scope"]) == (300, "repository:a/b:pull")
    assert datetime.fromisoformat(told["issued_at"]).tzinfo is not None
    assert "refresh_token" not in told
    assert answer.headers["Cache-Control"] == "no-store"
    assert guarded.client.get("/v2/", headers=bearer(told["token"])).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "granted"),
    [
        ([], ""),
        (["repository:a/b:pull"], "repository:a/b:pull"),
        (["repository:a/b:push,pull"], "repository:a/b:pull,push"),
        (["repository:a/b:pull,push,delete"], "repository:a/b:pull,push"),
        (["repository:a/b:*"], "repository:a/b:pull,push"),
        (["repository:a/b:pull repository:a/c:pull"], "repository:a/b:pull repository:a/c:pull"),
        (["repository:a/b:pull", "repository:other:pull"], "repository:a/b:pull"),
        (["repository(plugin):a/b:pull"], "repository:a/b:pull"),
        (["repository:other:pull"], ""),
        (["repository:a/*:pull"], ""),
        (["repository:A/b:pull"], ""),
        (["repository:host:5000/a:pull"], ""),
        (["repository:a/b:fly"], ""),
        (["repository:a/b:"], ""),
        (["registry:catalog:*"], "registry:catalog:*"),
        (["registry:other:*"], ""),
        ([" repository:a/b:pull "], "repository:a/b:pull"),
    ],
)
def test_scopes_are_cut_to_what_is_allowed(guarded: Guarded, scopes: list[str], granted: str) -> None:
    """Too much is no error; the token carries what is left, literally."""
    alice = guarded.account("alice", ("a/*", "pull,push"))
    assert guarded.ask(*scopes, headers=alice).json["scope"] == granted


def test_the_longest_token_is_taken(guarded: Guarded) -> None:
    """That of a key with as many limits as it can have, for as many repositories as a token can have."""
    guarded.account("alice", ("*", "pull,push,delete"))
    patterns = [f"{number:02}/{'x' * 230}/*" for number in range(64)]
    limits = " ".join(f"repository:{pattern}:*" for pattern in patterns)
    key = guarded.accounts.add_key("alice", limits=limits, note="", lifetime=None).text
    scopes = [f"repository:{pattern[:-1]}y:pull,push,delete" for pattern in patterns]
    form = {"grant_type": "password", "service": "dualreg", "client_id": "x", "scope": " ".join(scopes)}
    told = guarded.client.post("/token", data=form | {"username": "alice", "password": key}).json
    assert len(told["scope"].split()) > 60
    headers = bearer(told["token"])
    assert len(headers["Authorization"]) < 64 << 10
    assert guarded.client.get("/v2/", headers=headers).status_code == 200
    name = patterns[0][:-1] + "y"
    assert guarded.client.post(f"/v2/{name}/blobs/uploads/", headers=headers).status_code == 202


def test_a_key_cannot_have_limits_that_would_be_left_out(guarded: Guarded) -> None:
    """As a request for a token, it is read up to a limit."""
    guarded.account("alice", ("*", "pull"))
    limits = " ".join(f"repository:r{number}:pull" for number in range(65))
    with pytest.raises(ValueError, match="more than"):
        guarded.accounts.add_key("alice", limits=limits, note="", lifetime=None)


@pytest.mark.parametrize(
    "scope", ["repository", "repository:a", "a:b:c:D", "Repository:a:pull", "r:a:pull,,PUSH", "x" * 5000]
)
def test_scopes_that_are_none(guarded: Guarded, scope: str) -> None:
    """A sentence about the scope, and no token."""
    answer = guarded.ask(scope)
    assert (answer.status_code, codes(answer)) == (400, ["UNSUPPORTED"])


def test_nobody_gets_a_token_too(guarded: Guarded) -> None:
    """Without credentials, or with empty ones: for what anonymous may."""
    guarded.accounts.grant("anonymous", "public/*", "pull")
    push_v2(guarded.registry, RepositoryName("public/x"), Tag("one"), IMAGE)
    for headers in ({}, basic("", "")):
        token = guarded.token("repository:public/x:pull,push", headers=headers)
        assert guarded.client.get("/v2/public/x/manifests/one", headers=bearer(token)).status_code == 200
        assert guarded.client.post("/v2/public/x/blobs/uploads/", headers=bearer(token)).status_code == 401
    assert guarded.client.get("/v2/public/x/manifests/one").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        basic("alice", "wrong"),
        basic("nobody"),
        basic("alice", ""),
        basic("", PASSWORD),
        basic("alice\0"),
        basic("alice", PASSWORD + "\0"),
        basic("alice", PASSWORD + "x" * 72),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic YWÃ¤x"},
        {"Authorization": "Bearer eyJÃ.eyJ.Ã¤"},
        {"Authorization": "Token signature=Ã¤"},
        {"Authorization": "Basic " + "YWxpY2U="},
        {"Authorization": "Basic"},
        {"Authorization": "Digest x"},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Token signature=x"},
    ],
    ids=repr,
)
def test_wrong_credentials_make_nobody_anonymous(guarded: Guarded, headers: dict[str, str]) -> None:
    """401 everywhere, also for what anonymous may do."""
    guarded.account("alice", ("*", "pull"))
    guarded.accounts.grant("anonymous", "*", "pull")
    answer = guarded.ask("repository:a:pull", headers=headers)
    assert (answer.status_code, codes(answer)) == (401, ["UNAUTHORIZED"])
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="dualreg"'
    for path in (
        "/v2/",
        "/v2/a/tags/list",
        "/v2/_catalog",
        "/v1/users/",
        "/v1/repositories/a/tags",
        "/v1/search?q=",
    ):
        unproved = "search" in path and headers == basic("alice", "")  # of Docker 1.11; see test_limits
        assert guarded.client.get(path, headers=headers).status_code == (200 if unproved else 401)


@pytest.mark.slow
def test_a_token_is_no_login(guarded: Guarded) -> None:
    """Otherwise one that leaked could be renewed for ever."""
    token = guarded.token("repository:a:pull", headers=guarded.account("alice", ("a", "pull")))
    for headers in (bearer(token), basic("alice", token), basic("x", token)):
        assert guarded.ask("repository:a:pull", headers=headers).status_code == 401


def form(guarded: Guarded, **fields: str) -> Any:
    """POST to ``/token`` with what every client sends, and *fields*."""
    sent = {"service": "dualreg", "client_id": "docker"} | fields
    return guarded.client.post("/token", data={key: value for key, value in sent.items() if value})


def test_post_with_a_password(guarded: Guarded) -> None:
    """OAuth 2's form, with the scope that was granted."""
    guarded.account("alice", ("a/*", "pull"))
    own = {"grant_type": "password", "username": "alice", "password": PASSWORD}
    answer = form(guarded, **own, scope="repository:a/b:pull,push registry:catalog:*")
    assert (answer.status_code, answer.json["scope"]) == (200, "repository:a/b:pull registry:catalog:*")
    token = answer.json["access_token"]
    assert guarded.client.get("/v2/a/b/tags/list", headers=bearer(token)).status_code == 404
    assert "refresh_token" not in answer.json
    assert form(guarded, **own | {"password": "wrong"}).status_code == 401


@pytest.mark.parametrize(
    "fields",
    [
        {"grant_type": ""},
        {"grant_type": "magic"},
        {"grant_type": "password", "client_id": ""},
        {"grant_type": "password", "service": ""},
        {"grant_type": "password", "service": "elsewhere"},
    ],
    ids=repr,
)
def test_posts_that_say_too_little(guarded: Guarded, fields: dict[str, str]) -> None:
    """400, before any password is looked at."""
    assert form(guarded, **fields).status_code == 400
    assert guarded.ask(service="elsewhere").status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refresh_tokens(guarded: Guarded, method: str) -> None:
    """They log in without the password, come back unchanged, and end by revoking or with the password."""
    alice = guarded.account("alice", ("a/*", "pull"))
    own = {"grant_type": "password", "username": "alice", "password": PASSWORD, "access_type": "offline"}

    def got() -> str:
        if method == "GET":
            return str(guarded.ask(headers=alice, offline_token="true").json["refresh_token"])
        return str(form(guarded, **own).json["refresh_token"])

    refresh = got()
    renewed = form(guarded, grant_type="refresh_token", refresh_token=refresh, scope="repository:a/b:pull")
    assert (renewed.status_code, renewed.json["refresh_token"]) == (200, refresh)
    token = renewed.json["access_token"]
    assert guarded.client.get("/v2/a/b/tags/list", headers=bearer(token)).status_code == 404
    # It is for the token server alone, and no password.
    assert guarded.client.get("/v2/", headers=bearer(refresh)).status_code == 401
    assert guarded.client.get("/v2/", headers=basic("alice", refresh)).status_code == 401
    (row,) = guarded.accounts.secrets(SecretKind.REFRESH)
    assert refresh not in repr(row)
    guarded.accounts.revoke(SecretKind.REFRESH, row.id)
    assert form(guarded, grant_type="refresh_token", refresh_token=refresh).status_code == 401
    refresh = got()
    guarded.accounts.set_password("alice", "another password")
    assert form(guarded, grant_type="refresh_token", refresh_token=refresh).status_code == 401
    assert form(guarded, grant_type="refresh_token", refresh_token="drr_x").status_code == 401
    assert form(guarded, grant_type="refresh_token").status_code == 401


def test_what_does_not_last_is_not_made_to(guarded: Guarded, clock: Clock) -> None:
    """A key gives no refresh token, ends when it ends, and with its account."""
    guarded.accounts.add("ci", None)
    guarded.accounts.grant("ci", "a/*", "pull,push")
    keys = [
        guarded.accounts.add_key("ci", limits=limits, note="", lifetime=timedelta(days=1))
        for limits in ("", "repository:a/b:pull")
    ]
    free, limited = (basic("ci", key.text) for key in keys)
    assert guarded.ask("repository:a/b:*", headers=free, offline_token="true").json.keys() >= {"token"}
    assert "refresh_token" not in guarded.ask(headers=free, offline_token="true").json
    assert guarded.ask("repository:a/b:*", headers=free).json["scope"] == "repository:a/b:pull,push"
    assert (
        guarded.ask("repository:a/b:* repository:a/c:*", headers=limited).json["scope"]
        == "repository:a/b:pull"
    )
    assert guarded.ask(headers=basic("alice", keys[0].text)).status_code == 401
    clock.advance(timedelta(days=1))
    assert guarded.ask(headers=free).status_code == 401
    clock.advance(-timedelta(hours=1) + WINDOW)
    assert guarded.ask(headers=free).status_code == 200
    guarded.accounts.remove("ci")
    assert guarded.ask(headers=free).status_code == 401
    guarded.accounts.add("ci", None)
    assert guarded.ask(headers=free).status_code == 401


def test_rotation(guarded: Guarded, clock: Clock) -> None:
    """A new key signs; the old one's tokens are good for the grace, and no longer."""
    ring = guarded.authority.keyring
    alice = guarded.account("alice")
    old = guarded.token(headers=alice)
    assert ring.rotate(timedelta(minutes=2))[1] == 1
    new = guarded.token(headers=alice)
    assert guarded.client.get("/v2/", headers=bearer(old)).status_code == 200
    assert guarded.client.get("/v2/", headers=bearer(new)).status_code == 200
    clock.advance(timedelta(minutes=2))
    ring._accepted_cache.clear()
    assert guarded.client.get("/v2/", headers=bearer(old)).status_code == 401
    assert guarded.client.get("/v2/", headers=bearer(new)).status_code == 200
    assert ring.rotate(timedelta(0))[1] == 0
    assert guarded.client.get("/v2/", headers=bearer(new)).status_code == 401


@pytest.mark.parametrize("mode", ["none", "token"])
def test_it_is_served_only_where_passwords_are_checked(guard: Callable[..., Guarded], mode: str) -> None:
    """Otherwise there is nothing there."""
    own = {"token_realm": "https://x/token", "token_issuer": "x", "token_keys": "http://127.0.0.1:1/jwks"}
    settings = own if mode == "token" else {}
    assert guard(auth=mode, **settings).client.get("/token").status_code == 404


def test_failed_logins_have_to_wait(guarded: Guarded, clock: Clock) -> None:
    """By account and address: the right password too has to, elsewhere and for others it does not."""
    alice, bob = guarded.account("alice"), guarded.account("bob")
    for number in range(Limits().pair):
        assert guarded.ask(headers=basic("alice", f"wrong {number}")).status_code == 401
    for headers in (basic("alice", "wrong"), alice):
        waiting = guarded.ask(headers=headers)
        assert (waiting.status_code, codes(waiting)) == (429, ["TOOMANYREQUESTS"])
        assert 0 < int(waiting.headers["Retry-After"]) <= WINDOW.total_seconds()
    old = guarded.client.get("/v1/users/", headers=alice)
    assert (old.status_code, old.json) == (429, {"error": "too many failed logins: retry in 900 seconds"})
    assert guarded.ask(headers=bob).status_code == 200
    elsewhere = guarded.client.get("/token", headers=alice, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    assert elsewhere.status_code == 200
    clock.advance(WINDOW)
    assert guarded.ask(headers=alice).status_code == 200


@pytest.mark.slow
def test_a_success_forgives(guarded: Guarded) -> None:
    """Whoever mistypes now and then never has to wait."""
    alice = guarded.account("alice")
    for number in range(3 * Limits().pair):
        headers = basic("alice", f"wrong {number}") if number % 5 else alice
        assert guarded.ask(headers=headers).status_code == (401 if number % 5 else 200)


@pytest.mark.parametrize("who", ["address", "account"])
def test_many_accounts_or_many_addresses(guard: Callable[..., Guarded], who: str) -> None:
    """One address that tries many accounts has to wait, and so has one account tried from many addresses."""
    guarded = guard(login_limits=f"{who}=4")
    alice = guarded.account("alice")
    for number in range(4):
        account = f"nobody{number}" if who == "address" else "alice"
        place = {} if who == "address" else {"REMOTE_ADDR": f"192.0.2.{number}"}
        wrong = basic(account, f"wrong {number}")
        assert guarded.client.get("/token", headers=wrong, environ_overrides=place).status_code == 401
    assert guarded.ask(headers=alice).status_code == 429
