"""Token exchange (RFC 8693): CI jobs get tokens of the registry for those of their issuer, a server."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from tests.auth import test_forged_tokens as forged
from tests.auth.conftest import Guarded, bearer, ends
from tests.migrate.fronts import Hostile, hostile, status

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:"
SCOPE = "repository:acme/app:pull,push"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Issuer:
    """A server of OpenID Connect: its configuration, and the keys of its tokens."""

    server: Hostile

    @property
    def url(self) -> str:
        """Its name."""
        return self.server.url

    def token(self, **changed: Any) -> str:
        """Return the token of a job."""
        return forged.job(**{"iss": self.url} | changed)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A server on this machine."""
    with hostile() as server:
        keys = f"{server.url}/keys"
        configuration = {"issuer": server.url, "jwks_uri": keys}
        server.answers["/.well-known/openid-configuration"] = [
            status(200, json.dumps(configuration).encode())
        ]
        server.answers["/keys"] = [status(200, forged.jwks(forged.jwk_of(forged.LEAF, "ci")))]
        yield Issuer(server)


@pytest.fixture
def ours(guard: Callable[..., Guarded], issuer: Issuer, tmp_path: Path) -> Guarded:
    """A registry that trusts it, and writes an audit log."""
    own = guard(**forged.OIDC | {"oidc_issuer": issuer.url, "audit": str(tmp_path / "audit")})
    own.accounts.grant("@builds", "acme/app", "pull,push")
    own.accounts.grant("@checks", "acme/*", "pull")
    return own


def ask(own: Guarded, token: str, *more: tuple[str, str], **changed: str | None) -> Any:
    """Ask for an exchange; parameters that are None are left out."""
    form = {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": TYPE + "jwt",
        "scope": SCOPE,
    }
    fields = [(name, value) for name, value in (form | changed).items() if value is not None]
    return own.client.post("/token", data=urlencode([*fields, *more]), content_type=FORM)


def denials(tmp_path: Path) -> list[dict[str, Any]]:
    """Return the lines of denials in the audit log."""
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    return [line for line in lines if line["event"] == "denied"]


@pytest.mark.parametrize(
    ("fields", "granted"),
    [
        ({}, SCOPE),
        ({"subject_token_type": TYPE + "id_token"}, SCOPE),
        ({"subject_token_type": TYPE + "access_token", "requested_token_type": TYPE + "jwt"}, SCOPE),
        ({"audience": "dualreg", "service": "dualreg", "client_id": "any"}, SCOPE),
        ({"resource": "http://localhost/v2/"}, SCOPE),
        ({"scope": "repository:acme/other:pull,push registry:catalog:*"},
         "repository:acme/other:pull registry:catalog:*"),
        ({"scope": "repository:else:pull"}, ""),
        ({"scope": None}, ""),
    ],
)  # fmt: skip
def test_a_job_gets_a_token(
    ours: Guarded, issuer: Issuer, fields: dict[str, str | None], granted: str
) -> None:
    """For what its rules grant of the scope, until its own token ends."""
    began = ours.registry.now().timestamp()  # the clock of a test stands still
    job = issuer.token(exp=int(began) + 90)
    answer = ask(ours, job, **fields)
    assert answer.status_code == 200, answer.data
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json
    assert document["issued_token_type"] == fields.get("requested_token_type", TYPE + "access_token")
    assert (document["token_type"], document["scope"]) == ("Bearer", granted)
    assert 0 < document["expires_in"] <= 91  # the clock of a database may be a moment behind
    assert ends(document["access_token"]) <= ends(job)
    headers = bearer(document["access_token"])
    pushed = ours.client.post("/v2/acme/app/blobs/uploads/", headers=headers).status_code
    assert pushed == (202 if granted == SCOPE else 401)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"subject_token": None}, "invalid_request", "subject_token is missing"),
        ({"subject_token": ""}, "invalid_request", "subject_token is missing"),
        ({"subject_token_type": None}, "invalid_request", "subject_token_type is missing"),
        ({"subject_token_type": TYPE + "saml2"}, "invalid_request", "subject_token_type must be"),
        ({"requested_token_type": TYPE + "refresh_token"}, "invalid_request", "requested_token_type must"),
        ({"actor_token": "x"}, "invalid_request", "actor_token is not supported"),
        ({"actor_token_type": TYPE + "jwt"}, "invalid_request", "actor_token is not supported"),
        ({"audience": "elsewhere"}, "invalid_target", "this registry is dualreg"),
        ({"service": "elsewhere"}, "invalid_target", "this registry is dualreg"),
        ({"resource": "https://elsewhere/v2/"}, "invalid_target", "not a URL of this registry"),
        ({"resource": "http://[/"}, "invalid_target", "not a URL of this registry"),
        ({"resource": "http://localhost/v2/#x"}, "invalid_target", "not a URL of this registry"),
        ({"resource": "localhost"}, "invalid_target", "not a URL of this registry"),
        ({"scope": "fly"}, "invalid_scope", "invalid scope"),
    ],
)
def test_requests_that_are_refused(
    ours: Guarded, issuer: Issuer, fields: dict[str, str | None], error: str, text: str
) -> None:
    """As RFC 6749 and RFC 8693 say, before the token is looked at."""
    answer = ask(ours, issuer.token(), **fields)
    assert (answer.status_code, answer.json["error"]) == (400, error)
    assert text in answer.json["error_description"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert issuer.server.seen == []


@pytest.mark.parametrize("name", ["scope", "subject_token", "grant_type"])
def test_parameters_are_given_once(ours: Guarded, issuer: Issuer, name: str) -> None:
    """But for audience and resource, of which all have to be ours."""
    value = EXCHANGE if name == "grant_type" else "x"
    answer = ask(ours, issuer.token(), (name, value))
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_request")
    several = [("audience", "dualreg"), ("audience", "dualreg"), ("resource", "http://localhost/")]
    assert ask(ours, issuer.token(), *several).status_code == 200
    assert ask(ours, issuer.token(), *several, ("audience", "x")).json["error"] == "invalid_target"


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"exp": 1}, "expired"),
        ({"aud": "another"}, "udience"),
        ({"iss": "https://else.example"}, "ssuer"),
        ({"repository": "other/app"}, "no rule matches"),
        ({"sub": None}, "no rule matches"),
        ({"nbf": int(time.time()) + 3600}, "not yet valid"),
    ],
)
def test_tokens_that_are_refused(
    ours: Guarded, issuer: Issuer, tmp_path: Path, changed: dict[str, Any], text: str
) -> None:
    """With the reason for the job's log, and a line in the audit log."""
    answer = ask(ours, issuer.token(**changed))
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_request")
    assert text in answer.json["error_description"]
    (line,) = denials(tmp_path)
    assert (line["path"], line["status"]) == ("/token", 400)


def test_no_other_token_is_exchanged(ours: Guarded, issuer: Issuer) -> None:
    """Neither one of ours, nor of a forger, nor an API key; what was exchanged is not exchanged again."""
    alice = ours.account("alice", ("acme/*", "pull,push"))
    key = ours.accounts.add_key("alice", limits="", note="", lifetime=None).text
    exchanged = ask(ours, issuer.token()).json["access_token"]
    stranger = jwt.encode({"iss": issuer.url, "aud": "hub", "exp": 9**9, "sub": "x"}, "s" * 32, "HS256")
    for token in (ours.token(SCOPE, headers=alice), exchanged, key, stranger, "eyJ.e.e", "x", "x" * 60_000):
        answer = ask(ours, token)
        assert (answer.status_code, answer.json["error"]) == (400, "invalid_request"), token[:50]
    assert ask(ours, "x" * 70_000).status_code == 413


def test_without_an_issuer(guarded: Guarded, issuer: Issuer) -> None:
    """The answer says which setting is missing."""
    answer = ask(guarded, issuer.token())
    assert answer.status_code == 400
    assert "oidc_issuer" in answer.json["error_description"]


def test_requests_are_counted(guard: Callable[..., Guarded], issuer: Issuer) -> None:
    """Like all others, by the setting request_limit."""
    own = guard(**forged.OIDC | {"oidc_issuer": issuer.url, "request_limit": "3/m"})
    answers = [ask(own, "x").status_code for _ in range(5)]
    assert answers == [400, 400, 400, 429, 429]
