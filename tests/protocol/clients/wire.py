"""One request over one new TCP connection, and its whole answer: what both clients are made of."""

import http.client
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: Seconds until a silent server counts as dead.
TIMEOUT = 20


class ProtocolError(Exception):
    """An answer that a real client would stop at."""


class Refused(ProtocolError):
    """An answer with another status than a client needs.

    Attributes:
        status: The one it has.
        retry_after: In seconds; 0 if it does not say.
    """

    def __init__(self, status: int, message: str, retry_after: int = 0) -> None:
        """Say *message*."""
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True)
class Answer:
    """A whole answer. *headers* has lower-case names; repeated ones are joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Request(NamedTuple):
    """A request, as ``Wire.send`` is given it."""

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: bytes | Iterable[bytes] | None
    read: int | None


@dataclass
class Wire:
    """Speaks to HOST:PORT, and remembers what it asked.

    Attributes:
        log: Method and path of every request, in order.
    """

    host: str
    log: list[str] = field(default_factory=list)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] | None = None,
        *,
        read: int | None = None,
    ) -> Answer:
        """Send one request and return its answer; a *body* that is not bytes is sent chunked.

        Args:
            read: Bytes of the answer's body to read before the connection is cut; default: all.
        """
        self.log.append(f"{method} {path}")
        pairs = [*headers.items()] if isinstance(headers, Mapping) else headers
        return self.answer(Request(method, path, pairs, body, read))

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request; other wires than TCP connections replace this."""
        body, connection = request.body, http.client.HTTPConnection(self.host, timeout=TIMEOUT)
        chunked = body is not None and not isinstance(body, bytes)
        try:
            connection.putrequest(request.method, request.path, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
            elif body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body, encode_chunked=chunked)
            response = connection.getresponse()
            received = response.read(request.read)
        finally:
            connection.close()
        joined: dict[str, str] = {}
        for name, value in response.getheaders():
            key = name.lower()
            joined[key] = f"{joined[key]},{value}" if key in joined else value
        return Answer(response.status, joined, received)


def need(answer: Answer, status: int | tuple[int, ...], what: str) -> None:
    """Raise Refused unless the answer has *status*, naming *what* was asked."""
    wanted = (status,) if isinstance(status, int) else status
    if answer.status not in wanted:
        message = f"{what}: {answer.status}, not {wanted}: {answer.body[:300]!r}"
        raise Refused(answer.status, message, int(answer.headers.get("retry-after", 0)))
