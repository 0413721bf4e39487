"""Plain requests: heads so simple that they mean the same to every server, read without gunicorn's parser.

Clients of registries hardly send others. What is in any way unusual is left to gunicorn: other methods and
versions, escapes in the path, headers that are not in the list, several words about where the body ends.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

#: Bytes of a head, and lines. gunicorn allows more, as it is configured here.
HEAD_LIMIT, LINES_LIMIT = 8000, 64
#: Of HTTP.
VERSION = (1, 1)
#: What ends a head.
END = b"\r\n\r\n"
_READS = ("GET", "HEAD")
_LINE = re.compile(
    r"(GET|HEAD|POST|PUT|PATCH|DELETE)"
    r" ((/[A-Za-z0-9/._~:@+-]*)(?:\?([A-Za-z0-9/._~:@+=&,*%-]*))?) HTTP/1\.1"
)
#: Settings of gunicorn of which another value than its own gives heads another meaning.
_USUAL = ("casefold_http_method", "limit_request_fields", "protocol", "proxy_protocol")
#: Headers that say nothing about where messages end, and nothing about the connection.
_HEADERS = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "authorization",
        "b3",
        "baggage",
        "cache-control",
        "connection",
        "cookie",
        "dnt",
        "docker-upload-uuid",
        "from",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "oci-chunk-min-length",
        "origin",
        "pragma",
        "priority",
        "range",
        "referer",
        "save-data",
        "traceparent",
        "tracestate",
        "user-agent",
        "via",
        "x-docker-token",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-forwarded-protocol",
        "x-forwarded-scheme",
        "x-forwarded-ssl",
        "x-meta-source-client",
        "x-real-ip",
        "x-request-id",
    }
)
#: Those of requests with a body.
_BODY_HEADERS = frozenset(
    {
        "content-length",
        "content-range",
        "content-type",
        "transfer-encoding",
        "x-docker-checksum",
        "x-docker-checksum-payload",
    }
)
#: Spellings of them that are remembered.
_SPELLINGS = 200
#: Two that WSGI names without the prefix of all others.
_LENGTH, _TYPE = "CONTENT_LENGTH", "CONTENT_TYPE"
#: The only header that clients send more than once: a list, whose parts are joined.
_ACCEPT = "HTTP_ACCEPT"
#: The exception: this value is what HTTP/1.1 does anyway.
_CONNECTION, _KEPT, _CLOSED = "HTTP_CONNECTION", "keep-alive", "close"
#: What says where a body ends, beside its length, which has as many digits as that of a file.
_CODING, _CHUNKED = "HTTP_TRANSFER_ENCODING", "chunked"
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


class Head(NamedTuple):
    """The head of a plain request.

    Attributes:
        uri: Path and query as they came.
        variables: The headers, under their names in WSGI environments.
        length: Bytes of the body; None: it is sent in chunks.
    """

    method: str
    uri: str
    path: str
    query: str
    variables: dict[str, str]
    length: int | None

    @property
    def is_last(self) -> bool:
        """Whether the client closes the connection after this request."""
        return self.variables.get(_CONNECTION, _KEPT).lower() == _CLOSED


def mean_the_same(cfg: Any) -> bool:  # noqa: ANN401 -- gunicorn's
    """Return whether gunicorn, with this configuration, takes plain requests for what they are here."""
    limit = min(cfg.limit_request_line, cfg.limit_request_field_size)
    is_usual = all(cfg.settings[name].get() == cfg.settings[name].default for name in _USUAL)
    return is_usual and limit >= HEAD_LIMIT


def parse(head: bytes) -> Head | None:
    """Return what a head says, without its END; None if it is not plain.

    Source: RFC 9112, "Request Line" and "Field Syntax".
    """
    if len(head) > HEAD_LIMIT or not head.isascii():
        return None
    first, *lines = head.decode("ascii").split("\r\n")
    match = _LINE.fullmatch(first)
    if match is None or len(lines) > LINES_LIMIT or not "".join(lines).isprintable():
        return None
    variables: dict[str, str] = {}
    for line in lines:
        spelled, colon, value = line.partition(":")
        name = _variable(spelled)
        if name is None or not colon or (name in variables and name != _ACCEPT):
            return None
        value = value.strip(" ")
        variables[name] = f"{variables[name]},{value}" if name in variables else value
    length = _length(variables)
    if length is None and (variables.get(_CODING) != _CHUNKED or _LENGTH in variables):
        return None  # a proxy may believe either, so that gunicorn refuses both
    method, uri, path, query = match.groups("")
    return Head(method, uri, path, query, variables, length)


def _length(variables: Mapping[str, str]) -> int | None:
    """Return how long the body is; None: it is sent in chunks, or that takes a closer look."""
    length = variables.get(_LENGTH)
    if _CODING in variables:
        return None
    if length is None:
        return 0
    return int(length) if _DIGITS.fullmatch(length) else None


def peer_of(client: object) -> dict[str, str]:
    """Return what the environments of all plain requests on a connection have in common.

    Args:
        client: The address of its other side, as of sockets.
    """
    common = {"SERVER_PROTOCOL": "HTTP/{}.{}".format(*VERSION)}
    if isinstance(client, tuple):
        return common | {"REMOTE_ADDR": str(client[0]), "REMOTE_PORT": str(client[1])}
    name = client.decode(errors="backslashreplace") if isinstance(client, bytes) else str(client)
    return common | {"REMOTE_ADDR": name}


def read(head: Head, peer: Mapping[str, str]) -> dict[str, str] | None:
    """Return the WSGI environment of a request that reads, as far as its head decides on it; or None.

    It is that which gunicorn makes, without what is the same for all requests, and what it gives to the
    application beside the request. None: it has a body, or is the last one of its connection.

    Args:
        peer: See ``peer_of``.
    """
    reads = head.method in _READS and _body_variables().isdisjoint(head.variables)
    if not reads or head.variables.get(_CONNECTION, _KEPT).lower() != _KEPT:
        return None
    return {**peer, **environment(head)}


def environment(head: Head) -> dict[str, str]:
    """Return what the head of a request decides on of its WSGI environment."""
    return {
        "REQUEST_METHOD": head.method,
        "RAW_URI": head.uri,
        "PATH_INFO": head.path,
        "QUERY_STRING": head.query,
        **head.variables,
    }


def headers_of(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a request, with names in capitals, given its environment."""
    names = [key for key in environ if key.startswith("HTTP_") or key in (_LENGTH, _TYPE)]
    return [(name.removeprefix("HTTP_").replace("_", "-"), environ[name]) for name in names]


@lru_cache(_SPELLINGS)
def _variable(spelled: str) -> str | None:
    """Return the name of a header in WSGI environments; None if it is in neither list."""
    if spelled.lower() not in _HEADERS | _BODY_HEADERS:
        return None
    name = spelled.upper().replace("-", "_")
    return name if name in (_LENGTH, _TYPE) else f"HTTP_{name}"


@cache
def _body_variables() -> frozenset[str | None]:
    """Return the names that those of requests with a body have there."""
    return frozenset(map(_variable, _BODY_HEADERS))
