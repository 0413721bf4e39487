"""Wire: HTTP to another registry, with its ways of asking who we are; the only home of urllib3."""

import base64
import io
import json
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any, BinaryIO, cast
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import urllib3
from urllib3.exceptions import HTTPError

from dualreg.image import media_types
from dualreg.migrate.wire.bodies import Body
from dualreg.migrate.wire.errors import WireError

#: Bytes of the largest answer that is read whole.
_ANSWER_LIMIT = 16 << 20
#: Statuses after which it is worth to try again.
_BUSY = (429, 500, 502, 503, 504)
#: Seconds for which a token is used if nothing says for how long; as Docker has it.
_TOKEN_LIFE = 60
_UNAUTHORIZED, _OK, _PARTIAL = 401, 200, 206


__all__ = ["Reply", "Wire", "WireError", "accept", "next_page"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read whole; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Any:  # noqa: ANN401 -- whatever the other side says
        """Return the document.

        Raises:
            WireError: there is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise WireError(f"no JSON: {self.body[:80]!r}") from error


@dataclass
class Wire:
    """Speaks to one registry, for any number of threads.

    Attributes:
        url: ``http(s)://HOST[:PORT]``, without a path.
        user, password: Sent only where the registry, or the token server that it names, asks for them.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str | None = None
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        """Prepare to connect."""
        again = urllib3.Retry(
            total=5,
            connect=2, backoff_factor=0.2, status_forcelist=_BUSY, allowed_methods=("GET", "HEAD"),
            raise_on_status=False, redirect=5,
        )  # fmt: skip
        self._pool = urllib3.PoolManager(
            maxsize=32, retries=again, timeout=urllib3.Timeout(connect=20, read=120), ca_certs=self.ca
        )

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: BinaryIO | Iterable[bytes] | bytes | None = None,
        *,
        scope: str = "",
    ) -> Reply:
        """Send a request; return the answer, whatever its status.

        Args:
            path: Or a whole URL, as ``Location`` headers have it.
            body: Sent once; if it is read from a file, after it is known that it may be sent.
            scope: What a token is to be good for.

        Raises:
            WireError.
        """
        response = self._open(method, path, headers or {}, body, scope)
        try:
            content = response.read(_ANSWER_LIMIT + 1)
        except HTTPError as error:
            raise self._failure(method, path, error) from error
        finally:
            response.release_conn()
        if len(content) > _ANSWER_LIMIT:
            raise WireError(f"{method} {self._told(path)}: too long an answer")
        return Reply(response.status, _lower(response.headers), content)

    def stream(self, path: str, headers: Mapping[str, str] | None = None, *, scope: str = "") -> BinaryIO:
        """Return a reader of what is at *path*; a body that is cut short is taken up where it ended.

        Raises:
            WireError: it is not there, or the rest of it is not.
        """
        body = Body(self._told(path), lambda more: self._begin(path, {**(headers or {}), **more}, scope))
        return cast("BinaryIO", io.BufferedReader(body, 1 << 20))

    @property
    def basic(self) -> Mapping[str, str]:
        """The header that V1 clients log in with, without being asked; empty if there is nobody to log in."""
        return {"Authorization": self._basic()} if self.user else {}

    def _begin(self, path: str, headers: Mapping[str, str], scope: str) -> urllib3.BaseHTTPResponse:
        response = self._open("GET", path, headers, None, scope)
        if response.status not in (_OK, _PARTIAL):
            response.release_conn()
            raise WireError(f"GET {self._told(path)}: {response.status}")
        return response

    def _open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: BinaryIO | Iterable[bytes] | bytes | None,
        scope: str,
    ) -> urllib3.BaseHTTPResponse:
        url = urljoin(self.url, path)
        sent = {**self._credentials(url, scope), **headers}
        try:
            response = self._pool.request(method, url, headers=sent, body=body, preload_content=False)
            if response.status == _UNAUTHORIZED and "Authorization" not in headers and body is None:
                response.drain_conn()
                again = self._authorize(response.headers.get("WWW-Authenticate", ""), url, scope)
                if again:
                    sent |= {"Authorization": again}
                    response = self._pool.request(method, url, headers=sent, preload_content=False)
        except HTTPError as error:
            raise self._failure(method, path, error) from error
        return response

    def _credentials(self, url: str, scope: str) -> dict[str, str]:
        """Return what was asked for before, for as long as it is good; nothing for another host."""
        if urlsplit(url).netloc != urlsplit(self.url).netloc:
            return {}
        with self._lock:
            token, until = self._tokens.get(scope, ("", 0.0))
        return {"Authorization": token} if token and time.monotonic() < until else {}

    def _authorize(self, challenge: str, url: str, scope: str) -> str:
        """Return the header that answers *challenge*; empty if nothing does."""
        if urlsplit(url).netloc != urlsplit(self.url).netloc:
            return ""
        sort, _, rest = challenge.partition(" ")
        if sort.lower() == "basic" and self.user:
            header, life = self._basic(), float("inf")
        elif sort.lower() == "bearer":
            header, life = self._token(_parameters(rest), scope)
        else:
            return ""
        with self._lock:
            self._tokens[scope] = (header, time.monotonic() + life)
        return header

    def _token(self, asked: Mapping[str, str], scope: str) -> tuple[str, float]:
        """Ask the token server that the registry names.

        Source: distribution, "Token Authentication Specification".
        """
        realm, wanted = asked.get("realm", ""), scope or asked.get("scope", "")
        query = urlencode([("service", asked.get("service", "")), *([("scope", wanted)] if wanted else [])])
        try:
            response = self._pool.request(
                "GET", f"{realm}{'&' if '?' in realm else '?'}{query}", headers=self.basic
            )
            told = json.loads(response.data)
            token = told.get("token") or told["access_token"]
            life = float(told.get("expires_in") or _TOKEN_LIFE)
        except (HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WireError(f"{realm} gives no token for {wanted or 'nothing'}") from error
        return f"Bearer {token}", max(life - 10, 1)

    def _basic(self) -> str:
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"

    def _failure(self, method: str, path: str, error: Exception) -> WireError:
        reason = getattr(error, "reason", None) or error
        return WireError(f"{method} {self._told(path)}: {type(reason).__name__}: {str(reason)[:200]}")

    def _told(self, path: str) -> str:
        return urljoin(self.url, path).partition("?")[0]


@cache
def accept() -> str:
    """Return the ``Accept`` for manifests that names everything, so that nothing is converted on its way."""
    return ", ".join(sorted({*media_types.IMAGES, *media_types.INDEXES, *media_types.SCHEMA1_TYPES}))


def next_page(headers: Mapping[str, str]) -> str:
    """Return what a ``Link`` header says of the next page; empty if there is none.

    Source: RFC 8288; OCI distribution-spec v1.1, "Listing Tags".
    """
    match = re.search(r'<([^>]*)>\s*;[^,]*rel="?next"?', headers.get("link", ""))
    return match[1] if match else ""


def _parameters(text: str) -> Mapping[str, str]:
    with suppress(ValueError):
        return parse_keqv_list(parse_http_list(text))
    return {}


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
