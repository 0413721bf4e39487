"""Parsing: gunicorn's parser of requests, with other ways to read plain heads, and bodies."""

from functools import lru_cache
from typing import Any

from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import IterUnreader

from dualreg.cli import bodies, plain_requests
from dualreg.cli.plain_requests import END, Head


class _Streamed(Request):  # type: ignore[misc]  # gunicorn is untyped
    """A request whose body is read as it arrives."""

    def set_body_reader(self) -> None:
        """Let gunicorn choose how the body is read, and read it so."""
        super().set_body_reader()
        bodies.stream(self)


class PlainRequest(_Streamed):
    """A request whose head gunicorn does not read.

    Attributes:
        head: What was read of it.
    """

    def __init__(self, cfg: Any, unreader: Any, client: Any, head: Head) -> None:  # noqa: ANN401 -- gunicorn's
        """Begin with the body, which *unreader* is at the first byte of."""
        self.__dict__.update(_common(cfg))
        self.unreader, self.peer_addr, self.remote_addr = unreader, client, client
        self.head = head
        self.trailers: list[tuple[str, str]] = []
        self.method, self.uri, self.path, self.query = head[:4]
        self.must_close = head.is_last
        self.body = bodies.body_of(self, head.length)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers, with names in capitals."""
        return plain_requests.headers_of(self.head.variables)

    def should_close(self) -> bool:
        """Return whether this is the last request of its connection."""
        return self.must_close


@lru_cache(1)
def _common(cfg: Any) -> dict[str, Any]:  # noqa: ANN401 -- gunicorn's
    """Return what gunicorn's requests have by its configuration, and plain ones in common."""
    members = {**vars(Request(cfg, IterUnreader([b"GET / HTTP/1.1" + END]), None))}
    del members["headers"]
    return members


class Parser(RequestParser):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's parser, whose requests have a ``bodies.Body``.

    Attributes:
        reads_plain: Whether plain requests mean here what they are taken for.
    """

    mesg_class = _Streamed

    def __init__(self, cfg: Any, source: Any, client: Any) -> None:  # noqa: ANN401 -- gunicorn's
        """Parse the requests from *source*, a socket."""
        super().__init__(cfg, source, client)
        self.reads_plain = plain_requests.mean_the_same(cfg) and not cfg.secure_scheme_headers
        self.mesg: Request | None = None
        self._given: Head | None = None

    def give(self, head: Head | None, data: bytes) -> None:
        """Take *data*, which begins with a request, or after its head if that is plain and given, too."""
        self.mesg = None  # the request before ended where this one begins
        self._given = head
        self.unreader.unread(data)

    def __next__(self) -> Request:
        """Return the request that was given, or that gunicorn reads."""
        head, self._given = self._given, None
        if head is None:
            return super().__next__()
        self.mesg = PlainRequest(self.cfg, self.unreader, self.source_addr, head)
        return self.mesg
