"""Wire: HTTP to another registry, with its ways of asking who we are; the only home of urllib3."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import BinaryIO, cast
from urllib.parse import urljoin

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from dualreg.image import media_types
from dualreg.remote.challenge import Authenticator, ChallengeAuthenticator, Scope, basic
from dualreg.remote.errors import RemoteError
from dualreg.remote.origins import Endpoint, endpoint_of, redact
from dualreg.remote.response import Response
from dualreg.remote.resume import ResumingBody
from dualreg.remote.transport import Answer, Authorization, Content, Request, Transport

#: Bytes of the largest answer that is read whole, and how often it is tried.
_ANSWER_LIMIT, _READS = 16 << 20, 3
_UNAUTHORIZED, _OK, _PARTIAL = 401, 200, 206


@dataclass
class Client:
    """Speaks to one registry, for any number of threads.

    Attributes:
        url: ``http(s)://HOST[:PORT]``, without a path.
        user, password: Sent only where the registry, or the token server that it names, asks for them.

    Raises:
        WireError: the URL is none.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str | None = None
    _origin: Endpoint = field(init=False, repr=False)
    _transport: Transport = field(init=False, repr=False)
    _login: Authenticator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Prepare to connect."""
        self._origin = endpoint_of(self.url)
        self._transport = Transport(self.ca)
        self._login = ChallengeAuthenticator(self._transport, self.url, self.basic)

    @property
    def basic(self) -> str:
        """The ``Authorization`` that V1 clients send without being asked; empty if there is no user."""
        return basic(self.user, self.password)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Content = None,
        *,
        scope: Scope = (),
        login: Authenticator | None = None,
    ) -> Response:
        """Send a request; return the answer, whatever its status.

        Args:
            path: Or a whole URL, as ``Location`` headers have it.
            body: If it is read from a file, sent once, with a token that is good for long enough.
            scope: What a token is to be good for.
            login: How to log in; None: as V2 registries ask for it.

        Raises:
            WireError.
        """
        asked = Request(method, urljoin(self.url, path), headers or {}, body)
        for left in reversed(range(_READS if method in ("GET", "HEAD") else 1)):
            answer = self._open(asked, scope, login or self._login)
            try:
                return _read(answer)
            except HTTPError as error:
                if not left:
                    raise answer.failure(error) from error
        raise AssertionError  # as the last one returns or raises

    def stream(self, path: str, *, scope: Scope = (), login: Authenticator | None = None) -> BinaryIO:
        """Return a reader of what is at *path*; a body that is cut short is taken up where it ended.

        Raises:
            WireError: it is not there, or the rest of it is not.
        """
        url = urljoin(self.url, path)

        def begin(headers: Mapping[str, str]) -> BaseHTTPResponse:
            response, _ = self._open(Request("GET", url, headers), scope, login or self._login)
            if response.status not in (_OK, _PARTIAL):
                response.drain_conn()
                raise RemoteError(f"GET {redact(url)}: {response.status}")
            return response

        return cast("BinaryIO", io.BufferedReader(ResumingBody(redact(url), begin({}), begin), 1 << 20))

    def _open(self, request: Request, scope: Scope, login: Authenticator) -> Answer:
        said = ""
        if endpoint_of(request.url) == self._origin:
            said = login.at_hand(scope, lasting=request.body is not None)
        answer = self._transport.send(request, Authorization(said, self._origin))
        if not request.is_repeatable or not self._asks(answer):
            return answer
        try:
            for other in login.answers(scope, answer.response.headers.get("WWW-Authenticate", ""), said):
                answer.response.drain_conn()
                answer = self._transport.send(request, Authorization(other, self._origin))
                if not self._asks(answer):
                    break
        except RemoteError:
            answer.response.close()
            raise
        return answer

    def _asks(self, answer: Answer) -> bool:
        """Tell whether the registry itself, and nobody it redirects to, asks who we are."""
        return answer.response.status == _UNAUTHORIZED and endpoint_of(answer.url) == self._origin


@cache
def accept() -> str:
    """Return the ``Accept`` for manifests that names everything, so that nothing is converted on its way."""
    return ", ".join(sorted({*media_types.IMAGES, *media_types.INDEXES, *media_types.SCHEMA1_TYPES}))


def _read(answer: Answer) -> Response:
    """Read an answer whole.

    Raises:
        HTTPError: it breaks off.
        WireError: it is too long.
    """
    response = answer.response
    try:
        content = response.read(_ANSWER_LIMIT + 1)
    finally:
        response.release_conn()
    if len(content) > _ANSWER_LIMIT:
        response.close()
        raise RemoteError(f"{redact(answer.url)}: too long an answer")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status, headers, content, answer.url)
