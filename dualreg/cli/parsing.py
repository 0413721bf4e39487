"""Parsing: gunicorn's parser of requests, with other ways to read plain heads, and bodies."""

from typing import Any

from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser

from dualreg.cli import bodies, plain_requests


class _Streamed(Request):  # type: ignore[misc]  # gunicorn is untyped
    """A request whose body is read as it arrives."""

    def set_body_reader(self) -> None:
        """Let gunicorn choose how the body is read, and read it so."""
        super().set_body_reader()
        bodies.stream(self)


class _Plain(_Streamed):
    """A request whose head gunicorn reads only if it is not plain."""

    def parse(self, unreader: Any) -> bytes:  # noqa: ANN401 -- gunicorn's
        """Read the head; return what has arrived of the rest."""
        data = unreader.read()
        start, end, rest = data.partition(plain_requests.END)
        head = plain_requests.parse(start) if end else None
        if head is None:
            unreader.unread(data)
            unused: bytes = super().parse(unreader)
            return unused
        self.method, self.uri, self.path, self.query, self.headers = head
        self.version, self.fragment = plain_requests.VERSION, ""
        return bytes(rest)


class Parser(RequestParser):  # type: ignore[misc]  # gunicorn is untyped
    """gunicorn's parser, whose requests have a ``bodies.Body``."""

    def __init__(self, cfg: Any, source: Any, client: Any) -> None:  # noqa: ANN401 -- gunicorn's
        """Parse the requests from *source*, a socket."""
        super().__init__(cfg, source, client)
        reads_plain = plain_requests.mean_the_same(cfg) and not cfg.secure_scheme_headers
        self.mesg_class = _Plain if reads_plain else _Streamed
