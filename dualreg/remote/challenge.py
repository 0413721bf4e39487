"""Authentication at a registry, whose challenge names what it accepts: Basic, or a token.

Source: RFC 9110, section 11; distribution, "Token Authentication Specification".
"""

import base64
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple, Protocol
from urllib.parse import urlencode
from urllib.request import parse_http_list, parse_keqv_list

from urllib3.exceptions import HTTPError

from dualreg.remote.endpoint import Endpoint, RemoteError, endpoint_of, joined, redact
from dualreg.remote.transport import Authorization, HttpTransport, Request

#: What a request needs access to, as scopes of a token server; for V1, the repository's name.
Scope = tuple[str, ...]
#: Seconds that a token is used if the server does not say how long it is valid; as Docker does.
_DEFAULT_LIFETIME = 60
#: Scopes whose credentials are kept: any client of a proxy can name repositories.
_KNOWN = 1_000
#: Seconds before its end that a token is no longer used, as clocks differ and requests take time.
_MARGIN = 10
#: Seconds that a token must still be valid if the request cannot be repeated.
_DURABLE = 30
_TOKEN_RESPONSE_LIMIT = 1 << 20
_OK = 200
#: A token server's answers to wrong credentials, and to too many of them.
_REJECTED = (401, 429)
_CHALLENGE = re.compile(r"(?:^|,)\s*(Basic|Bearer)\b(.*)", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(r"[!-~]+", re.ASCII)


class TokenRefused(RemoteError):
    """A token server gave no token.

    Attributes:
        status: What it answered instead.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class CredentialsRejected(TokenRefused):
    """A token server rejected the user name or the password."""


class Authenticator(Protocol):
    """Chooses the ``Authorization`` header of requests to one registry."""

    def preemptive(self, scope: Scope, *, durable: bool) -> str:
        """Return the header to send at first; empty for none.

        Args:
            durable: It must stay valid for a while, as the request cannot be repeated.

        Raises:
            RemoteError: it cannot be obtained.
        """

    def respond(self, scope: Scope, challenge: str, rejected: str) -> Iterator[str]:
        """Yield headers to try after a 401, until one is accepted.

        Args:
            challenge: The ``WWW-Authenticate`` header of the 401.
            rejected: The ``Authorization`` that was sent; empty if none was.

        Raises:
            RemoteError: one cannot be obtained.
        """


class _Credential(NamedTuple):
    """A header that was accepted or issued, when it ends (monotonic), and the challenge to renew it by."""

    value: str
    expires: float
    challenge: str


@dataclass
class ChallengeAuthenticator:
    """Sends nothing before a challenge; then Basic, or a token from the server that the challenge names.

    Attributes:
        url: Of the registry.
        basic: The ``Authorization`` of the user; empty for anonymous access.
        token_servers: Hosts, besides the registry's own, whose token servers may receive it.
    """

    transport: HttpTransport
    url: str
    basic: str
    token_servers: Collection[str] = ()
    _credentials: dict[Scope, _Credential] = field(default_factory=dict)
    _rejection: CredentialsRejected | None = None
    _lock: Lock = field(default_factory=Lock)

    def preemptive(self, scope: Scope, *, durable: bool) -> str:
        with self._lock:
            known = self._credentials.get(scope)
        if known is None:
            return ""
        if known.expires - time.monotonic() > (_DURABLE if durable else 0):
            return known.value
        return next(self.respond(scope, known.challenge, known.value), "")

    def respond(self, scope: Scope, challenge: str, rejected: str) -> Iterator[str]:
        match = _CHALLENGE.search(challenge)
        if match is None:
            return
        if match[1].lower() == "bearer":
            value, lifetime = self._token(_parameters(match[2]), scope)
        else:
            value, lifetime = self.basic, float("inf")
        if value and (lifetime < float("inf") or value != rejected):
            with self._lock:
                self._credentials.pop(scope, None)
                self._credentials[scope] = _Credential(value, time.monotonic() + lifetime, challenge)
                while len(self._credentials) > _KNOWN:
                    del self._credentials[next(iter(self._credentials))]
            yield value

    def _token(self, parameters: Mapping[str, str], scope: Scope) -> tuple[str, float]:
        """Return a token of the server that a challenge's *parameters* name, and its lifetime in seconds.

        Raises:
            RemoteError: the server rejects the credentials, or returns no token.
        """
        if self._rejection:
            raise self._rejection  # every further attempt would count as one more failed login
        realm, server = self._token_server(parameters.get("realm", ""))
        scopes = scope or tuple(parameters.get("scope", "").split())
        query = urlencode([("service", parameters.get("service", "")), *(("scope", each) for each in scopes)])
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        answer = self.transport.send(Request("GET", url), Authorization(self.basic, server))
        response = answer.response
        if self.basic and response.status in _REJECTED:
            response.close()
            self._rejection = CredentialsRejected(
                f"token server {redact(realm)} rejected the user name or password ({response.status})",
                response.status,
            )
            raise self._rejection
        try:
            document = json.loads(answer.read(_TOKEN_RESPONSE_LIMIT))
            token = document.get("token") or document["access_token"]
            lifetime = float(document.get("expires_in") or _DEFAULT_LIFETIME)
        except (
            HTTPError,
            ValueError,
            OverflowError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise _no_token(realm, scopes, response.status) from error
        if response.status != _OK or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise _no_token(realm, scopes, response.status)
        return f"Bearer {token}", max(lifetime - _MARGIN, 1)

    def _token_server(self, named: str) -> tuple[str, Endpoint]:
        """Return the URL and the endpoint of the token server that a challenge named.

        Raises:
            RemoteError: it is not a URL, or not one that may receive the credentials.
        """
        realm, registry = joined(self.url, named), endpoint_of(self.url)
        try:
            server = endpoint_of(realm)
        except RemoteError as error:
            raise RemoteError(f"{redact(self.url)}: its token server: {error}") from error
        if registry.scheme == "https" != server.scheme:
            raise RemoteError(f"token server {redact(realm)} is not https; credentials not sent")
        if self.basic and server.host not in (registry.host, *self.token_servers):
            raise RemoteError(
                f"token server {redact(realm)} is not on the registry's host; credentials not sent;"
                f" if you trust it, add --token-server {server.host}"
            )
        return realm, server


def basic(user: str, password: str) -> str:
    """Return the ``Authorization`` of a user; empty if *user* is."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""


def pulling(*repositories: str) -> Scope:
    """Return the scope to read repositories."""
    return tuple(f"repository:{name}:pull" for name in repositories)


def pushing(repository: str) -> Scope:
    """Return the scope to write to a repository."""
    return (f"repository:{repository}:pull,push",)


def _no_token(realm: str, scopes: Scope, status: int) -> TokenRefused:
    return TokenRefused(
        f"token server {redact(realm)} returned no token for {' '.join(scopes) or 'no scope'} ({status})",
        status,
    )


def _parameters(text: str) -> Mapping[str, str]:
    with suppress(ValueError):
        return parse_keqv_list(parse_http_list(text))
    return {}
