"""An OpenID Connect issuer for tests, which does what a test says, and browsers that log in by it."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from flask.testing import FlaskClient

from dualreg.web.browser import SESSION
from dualreg.web.login.page import ATTEMPT
from tests.auth import test_forged_tokens as forged
from tests.auth.conftest import Guarded
from tests.migrate.fronts import _body, _serving, status

CLIENT, SECRET = "dualreg", "client-secret"
ORIGIN = "http://localhost"
KEY = forged.LEAF


def _half(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:16]).rstrip(b"=").decode()


@dataclass
class LoginIssuer:
    """An issuer.

    Attributes:
        person: Claims of who logs in.
        token: Changes the claims of ID tokens; None leaves one out.
        sign: Makes a token of claims.
        metadata: Changes its metadata.
        said: Forms that were sent to the token endpoint.
        answer: Answers the next forms in its place, one each.
        confirmed: Whether devices were confirmed.
    """

    url: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "4711", "preferred_username": "alice"})
    token: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[Mapping[str, Any]], str] = lambda claims: jwt.encode(
        dict(claims), KEY, "ES256", headers={"kid": "login"}
    )
    metadata: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] | None = None
    said: list[dict[str, str]] = field(default_factory=list)
    answer: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    confirmed: bool = False
    begun: dict[str, dict[str, str]] = field(default_factory=dict)

    def authorize(self, url: str) -> str:
        """Do as a person in a browser: log in at the URL; return where the browser is sent back."""
        query = dict(parse_qsl(urlsplit(url).query))
        code = f"code-{len(self.begun)}"
        self.begun[code] = query
        back = {"code": code, "state": query["state"], "iss": self.url}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def step(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        form = dict(parse_qsl(_body(handler).decode()))
        path = urlsplit(handler.path).path
        if path == "/token":
            self.said.append(form)
        if path == "/token" and self.answer:
            self.answer.pop(0)(handler)
            return
        documents = {
            "/.well-known/openid-configuration": self._configuration,
            "/keys": lambda *_: json.loads(forged.jwks(forged.jwk_of(KEY, "login"))),
            "/token": self._token,
            "/device": self._device,
            "/userinfo": lambda *_: self.userinfo,
        }
        code, document = 200, documents[path](handler, form)
        if "error" in document:
            code = 400
        status(code, json.dumps(document).encode(), Content_Type="application/json")(handler)

    def _configuration(self, *_: object) -> dict[str, Any]:
        return (
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize?tenant=one",
                "token_endpoint": f"{self.url}/token",
                "device_authorization_endpoint": f"{self.url}/device",
                "jwks_uri": f"{self.url}/keys",
            }
            | ({"userinfo_endpoint": f"{self.url}/userinfo"} if self.userinfo else {})
            | self.metadata
        )

    def _device(self, _: object, form: dict[str, str]) -> dict[str, Any]:
        assert form["scope"].split()[0] == "openid"
        return {
            "device_code": "device-1",
            "user_code": "ABCD-EFGH",
            "verification_uri": f"{self.url}/enter",
            "expires_in": 600,
            "interval": 1,
        }

    def _token(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> dict[str, Any]:
        known = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        assert handler.headers["Authorization"] == f"Basic {known}"
        if form["grant_type"].endswith("device_code"):
            if not self.confirmed:
                return {"error": "authorization_pending"}
            return self._tokens({})
        begun = self.begun.pop(form["code"], None)
        if begun is None:
            return {"error": "invalid_grant", "error_description": "no such code"}
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert begun["code_challenge_method"] == "S256"
        if base64.urlsafe_b64encode(verifier).rstrip(b"=").decode() != begun["code_challenge"]:
            return {"error": "invalid_grant", "error_description": "the verifier is another one"}
        assert form["redirect_uri"] == begun["redirect_uri"]
        return self._tokens({"nonce": begun["nonce"]})

    def _tokens(self, more: Mapping[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        times = {"iat": now, "exp": now + 300, "at_hash": _half("access-1")}
        claims = {"iss": self.url, "aud": CLIENT, **times, **self.person, **more, **self.token}
        signed = self.sign({name: value for name, value in claims.items() if value is not None})
        return {"access_token": "access-1", "token_type": "Bearer", "id_token": signed, "expires_in": 60}


@contextmanager
def issuing() -> Iterator[LoginIssuer]:
    """Run one."""
    issuer = LoginIssuer()
    with _serving(issuer.step) as issuer.url:
        yield issuer


@dataclass
class Browser:
    """A browser, at a registry by which people log in."""

    client: FlaskClient

    @classmethod
    def at(cls, own: Guarded) -> "Browser":
        """Open one."""
        return cls(own.client.application.test_client())

    def begin(self, issuer: str = "corp") -> str:
        """Follow the link to the issuer; return its URL."""
        answer = self.client.get(f"/login/at/{issuer}")
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def back(self, url: str) -> Any:
        """Follow the issuer's redirect."""
        return self.client.get(url.removeprefix(ORIGIN))

    def log_in(self, issuer: LoginIssuer) -> Any:
        """Log in; return the last answer."""
        return self.back(issuer.authorize(self.begin()))

    def home(self) -> str:
        """Return the page of who has logged in."""
        answer = self.client.get("/login", follow_redirects=True)
        assert answer.status_code == 200
        return str(answer.text)

    def post(self, path: str, **form: str) -> Any:
        """Send a form of the page."""
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.home())
        token = {"token": found[1]} if found else {}
        return self.client.post(path, data=token | form, headers={"Origin": ORIGIN})

    def key(self, **form: str) -> str:
        """Make a key; return its text."""
        answer = self.post("/login/keys", **form)
        assert answer.status_code == 200, answer.text
        found = re.search(r"drk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", answer.text)
        assert found
        return found[0]

    @property
    def cookies(self) -> Mapping[str, Any]:
        """What it keeps."""
        names = (SESSION, ATTEMPT)
        return {name: found for name in names if (found := self.client.get_cookie(name))}


def query_of(url: str) -> dict[str, str]:
    """Return the parameters of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
