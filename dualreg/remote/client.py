"""A client of one remote registry."""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from dualreg.image import media_types
from dualreg.image.formats import FORMATS
from dualreg.remote.challenge import Authenticator, ChallengeAuthenticator, Scope, basic
from dualreg.remote.endpoint import Endpoint, Refused, RemoteError, endpoint_of, joined, redact
from dualreg.remote.reach import Reach
from dualreg.remote.response import Response
from dualreg.remote.resume import ATTEMPTS, ResumingBody
from dualreg.remote.transport import (
    PERSISTENT,
    Answer,
    Authorization,
    Content,
    Effort,
    HttpTransport,
    Request,
    discard,
    failure,
)

#: Bytes of the largest response that is read whole.
_RESPONSE_LIMIT = 16 << 20
#: How often a response that is cut short is requested.
_ATTEMPTS = 3
_BUFFER = 1 << 20
_UNAUTHORIZED, _OK, _PARTIAL_CONTENT = 401, 200, 206


@dataclass
class Client:
    """Speaks to one registry, from any number of threads.

    Attributes:
        url: ``http(s)://HOST[:PORT]``, without a path.
        user, password: Sent to the registry, or to the token server that it names, when it asks for them.
        token_servers: Hosts, besides the registry's own, whose token servers may receive them; a hostile
            registry could name any other.
        redirect_hosts: Hosts that the registry may lead to though their addresses are not public.
        ca: PEM file of the authorities that are trusted; None: the system's.
        repeat_failed: Whether a request that was answered with 500, or with less than was promised, is
            repeated several times; not if that is what is to be found out.
        effort: How much is done for an answer.
        headers: Sent with every request; a list that the request has, too, is joined to it.

    Raises:
        RemoteError: the URL is invalid.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str | None = None
    token_servers: Collection[str] = ()
    redirect_hosts: Collection[str] = ()
    repeat_failed: bool = True
    effort: Effort = PERSISTENT
    headers: Mapping[str, str] = field(default_factory=dict)
    _endpoint: Endpoint = field(init=False, repr=False)
    _transport: HttpTransport = field(init=False, repr=False)
    _authenticator: Authenticator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._endpoint = endpoint_of(self.url)
        reach = Reach(self._endpoint, {*self.redirect_hosts, *self.token_servers})
        self._transport, tokens = (
            HttpTransport(each, self.ca, repeat_failed=self.repeat_failed, effort=self.effort)
            for each in (reach, replace(reach, own_ports=True))
        )
        self._authenticator = ChallengeAuthenticator(tokens, self.url, self.basic, self.token_servers)

    @property
    def basic(self) -> str:
        """The ``Authorization`` of the user, for registries that expect it unasked; empty without a user."""
        return basic(self.user, self.password)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Content = None,
        *,
        scope: Scope = (),
        authenticator: Authenticator | None = None,
    ) -> Response:
        """Send a request; return the response, whatever its status.

        Args:
            path: A path, or an absolute URL such as a ``Location`` header's.
            body: A stream is sent once, with a token that stays valid for a while.
            scope: What a token must give access to.
            authenticator: Default: respond to challenges as V2 clients do.

        Raises:
            RemoteError: there is no response, or not a complete one.
        """
        request = Request(method, joined(self.url, path), self._with(headers or {}), body)
        repeatable = method in ("GET", "HEAD") and self.repeat_failed
        for attempts_left in reversed(range(_ATTEMPTS if repeatable else 1)):
            answer = self._open(request, scope, authenticator or self._authenticator)
            try:
                return _read(answer, self.effort.whole)
            except HTTPError as error:
                if not attempts_left:
                    raise failure(method, answer.url, error) from error
        raise AssertionError  # unreachable: the last attempt returns or raises

    def stream(
        self,
        path: str,
        *,
        scope: Scope = (),
        authenticator: Authenticator | None = None,
        offset: int = 0,
    ) -> io.BufferedReader:
        """Return a reader of the body at *path*, which is resumed if it is cut short.

        Args:
            offset: Where it begins, in bytes.

        Raises:
            RemoteError: there is no answer; also while reading, if the body cannot be resumed.
            Refused: the status is not 200.
        """
        url = joined(self.url, path)

        def get(headers: Mapping[str, str]) -> BaseHTTPResponse:
            response, _ = self._open(
                Request("GET", url, self._with(headers)), scope, authenticator or self._authenticator
            )
            if response.status not in (_OK, _PARTIAL_CONTENT):
                discard(response)
                raise Refused(f"GET {redact(url)}: {response.status}", response.status)
            return response

        attempts = ATTEMPTS if self.repeat_failed else 1
        body = ResumingBody(redact(url), get, attempts, offset)
        return io.BufferedReader(body, _BUFFER)

    def _with(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        both = {name: f"{value}, {headers[name]}" for name, value in self.headers.items() if name in headers}
        return {**self.headers, **headers, **both}

    def _open(self, request: Request, scope: Scope, authenticator: Authenticator) -> Answer:
        """Send a request, with further credentials as long as the registry rejects them."""
        sent = ""
        if endpoint_of(request.url) == self._endpoint:
            sent = authenticator.preemptive(scope, durable=request.body is not None)
        answer = self._transport.send(request, Authorization(sent, self._endpoint))
        if not request.is_repeatable or not self._is_challenged(answer):
            return answer
        try:
            challenge = answer.response.headers.get("WWW-Authenticate", "")
            for value in authenticator.respond(scope, challenge, sent):
                discard(answer.response)
                answer = self._transport.send(request, Authorization(value, self._endpoint))
                if not self._is_challenged(answer):
                    break
        except RemoteError:
            answer.response.close()
            raise
        return answer

    def _is_challenged(self, answer: Answer) -> bool:
        """Return whether the registry itself, and not a server that it redirects to, wants credentials."""
        return answer.response.status == _UNAUTHORIZED and endpoint_of(answer.url) == self._endpoint


def as_stored() -> dict[str, str]:
    """Return the headers of a request for a manifest of any type that the registry must not convert.

    Source: RFC 9111, section 5.2.1.6, ``no-transform``.
    """
    types = sorted({*FORMATS, *media_types.SCHEMA1_TYPES})
    return {"Accept": ", ".join(types), "Cache-Control": "no-transform"}


def _read(answer: Answer, seconds: float) -> Response:
    """Return the whole response.

    Raises:
        HTTPError: it is cut short.
        RemoteError: it is too long.
    """
    content = answer.read(_RESPONSE_LIMIT, seconds)
    headers = {name.lower(): value for name, value in answer.response.headers.items()}
    return Response(answer.response.status, headers, content, answer.url)
