"""Logins: who we are, said in the way that a registry asks for."""

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple, Protocol
from urllib.parse import urlencode, urljoin
from urllib.request import parse_http_list, parse_keqv_list

from urllib3.exceptions import HTTPError

from dualreg.remote.errors import RemoteError
from dualreg.remote.origins import endpoint_of, redact
from dualreg.remote.transport import Authorization, Request, Transport

#: What a request is about, in the words of a token server; of V1, the repository.
Scope = tuple[str, ...]
#: Seconds for which a token is used if nothing says for how long; as Docker has it.
_TOKEN_LIFE = 60
#: Seconds for which a token must be good if what goes with it cannot be sent again.
_LASTING = 30
_ANSWER_LIMIT = 1 << 20
_OK = 200
#: Wrong credentials; and too many of them, lately.
_REFUSED = (401, 429)
_CHALLENGE = re.compile(r"(?:^|,)\s*(Basic|Bearer)\b(.*)", re.IGNORECASE | re.DOTALL)
_TOKEN = re.compile(r"[!-~]+", re.ASCII)


class Authenticator(Protocol):
    """A way to log in."""

    def at_hand(self, scope: Scope, *, lasting: bool) -> str:
        """Return the ``Authorization`` to begin with; empty: none.

        Args:
            lasting: It has to be good for a while, as what goes with it cannot be sent twice.

        Raises:
            WireError: it cannot be had.
        """

    def answers(self, scope: Scope, challenge: str, refused: str) -> Iterator[str]:
        """Yield what else can be said, until it is not refused.

        Args:
            challenge: What the refusal asks for.
            refused: What was said.

        Raises:
            WireError: it cannot be had.
        """


class _Known(NamedTuple):
    value: str
    until: float
    challenge: str


@dataclass
class ChallengeAuthenticator:
    """A Login that says nothing before it is asked: Basic, or a token of the server that the registry names.

    Attributes:
        url: Of the registry.
        basic: See ``basic``.
    """

    transport: Transport
    url: str
    basic: str
    _known: dict[Scope, _Known] = field(default_factory=dict)
    _refused: RemoteError | None = None
    _lock: Lock = field(default_factory=Lock)

    def at_hand(self, scope: Scope, *, lasting: bool) -> str:
        """See Login: what was asked for before, made anew if it is not good for long enough."""
        with self._lock:
            known = self._known.get(scope)
        if known is None:
            return ""
        if known.until - time.monotonic() > (_LASTING if lasting else 0):
            return known.value
        return next(self.answers(scope, known.challenge, known.value), "")

    def answers(self, scope: Scope, challenge: str, refused: str) -> Iterator[str]:
        """See Login."""
        asked = _CHALLENGE.search(challenge)
        if asked is None:
            return
        if asked[1].lower() == "bearer":
            value, life = self._token(_parameters(asked[2]), scope)
        else:
            value, life = self.basic, float("inf")
        if value and (life < float("inf") or value != refused):
            with self._lock:
                self._known[scope] = _Known(value, time.monotonic() + life, challenge)
            yield value

    def _token(self, asked: Mapping[str, str], scope: Scope) -> tuple[str, float]:
        """Ask the token server that the registry names.

        Source: distribution, "Token Authentication Specification".
        """
        if self._refused:
            raise self._refused  # each further try would count as one more failed login
        realm = urljoin(self.url, asked.get("realm", ""))
        server, wanted = endpoint_of(realm), scope or tuple(asked.get("scope", "").split())
        if endpoint_of(self.url).scheme == "https" != server.scheme:
            raise RemoteError(f"{redact(realm)} would be told the password in clear")
        query = urlencode([("service", asked.get("service", "")), *(("scope", each) for each in wanted)])
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        response = self.transport.send(Request("GET", url), Authorization(self.basic, server)).response
        if self.basic and response.status in _REFUSED:
            response.close()
            self._refused = RemoteError(f"{redact(realm)} refuses the login of --user ({response.status})")
            raise self._refused
        try:
            answer = json.loads(response.read(_ANSWER_LIMIT))
            token = answer.get("token") or answer["access_token"]
            life = float(answer.get("expires_in") or _TOKEN_LIFE)
        except (HTTPError, ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
            raise _no_token(realm, wanted, response.status) from error
        finally:
            response.release_conn()
        if response.status != _OK or not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise _no_token(realm, wanted, response.status)
        return f"Bearer {token}", max(life - 10, 1)


def basic(user: str, password: str) -> str:
    """Return the ``Authorization`` of a user; empty if there is none."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""


def pulling(*repositories: str) -> Scope:
    """Return the scope of reading repositories."""
    return tuple(f"repository:{name}:pull" for name in repositories)


def pushing(repository: str) -> Scope:
    """Return the scope of writing to a repository."""
    return (f"repository:{repository}:pull,push",)


def _no_token(realm: str, wanted: Scope, status: int) -> RemoteError:
    return RemoteError(f"{redact(realm)} gives no token for {' '.join(wanted) or 'nothing'} ({status})")


def _parameters(text: str) -> Mapping[str, str]:
    with suppress(ValueError):
        return parse_keqv_list(parse_http_list(text))
    return {}
