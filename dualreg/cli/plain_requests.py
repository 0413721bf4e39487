"""Plain requests: heads so simple that they mean the same to every server, read without gunicorn's parser.

Clients of registries hardly send others. What is in any way unusual is left to gunicorn: other methods and
versions, escapes in the path, headers that are not in the list. So is what a head says about the body.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

#: Bytes of a head, and lines. gunicorn allows more, as it is configured here.
HEAD_LIMIT, LINES_LIMIT = 8000, 64
#: Of HTTP.
VERSION = (1, 1)
#: What ends a head.
END = b"\r\n\r\n"
_READS = (b"GET ", b"HEAD ")
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
#: Those of requests with a body; gunicorn finds out where it ends.
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
#: The only header that clients send more than once: a list, whose parts are joined.
_ACCEPT = "ACCEPT"
#: The exception: this value is what HTTP/1.1 does anyway.
_CONNECTION, _KEPT = "HTTP_CONNECTION", "keep-alive"


class Head(NamedTuple):
    """The head of a plain request, in the words of gunicorn.

    Attributes:
        uri: Path and query as they came.
        headers: With names in capitals.
    """

    method: str
    uri: str
    path: str
    query: str
    headers: list[tuple[str, str]]


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
    if match is None or len(lines) > LINES_LIMIT:
        return None
    headers, seen = [], set()
    for line in lines:
        spelled, colon, value = line.partition(":")
        name = _name(spelled)
        if name is None or name in seen or not colon or not value.isprintable():
            return None
        if name != _ACCEPT:
            seen.add(name)
        headers.append((name, value.strip(" ")))
    method, uri, path, query = match.groups("")
    return Head(method, uri, path, query, headers)


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


def read(request: bytes, peer: Mapping[str, str]) -> dict[str, str] | None:
    """Return the WSGI environment of a request that reads, as far as its head decides on it; or None.

    It is that which gunicorn makes, without what is the same for all requests, and what it gives to the
    application beside the request. None: it is not plain, has a body, or is the last one of its connection.

    Args:
        peer: See ``peer_of``.
    """
    head = parse(request[: -len(END)]) if request.startswith(_READS) and request.endswith(END) else None
    if head is None:
        return None
    environ = {**peer}
    environ["REQUEST_METHOD"], environ["RAW_URI"] = head.method, head.uri
    environ["PATH_INFO"], environ["QUERY_STRING"] = head.path, head.query
    for name, value in head.headers:
        key = _variable(name)
        if key is None:
            return None
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ if environ.get(_CONNECTION, _KEPT).lower() == _KEPT else None


def headers_of(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a request, with names in capitals, given its environment."""
    keys = (key for key in environ if key.startswith("HTTP_"))
    return [(key.removeprefix("HTTP_").replace("_", "-"), environ[key]) for key in keys]


@lru_cache(_SPELLINGS)
def _name(spelled: str) -> str | None:
    """Return the name of a header in capitals; None if it is in neither list."""
    return spelled.upper() if spelled.lower() in _HEADERS | _BODY_HEADERS else None


@lru_cache(_SPELLINGS)
def _variable(name: str) -> str | None:
    """Return the name of a header in the environment of a request without a body; None of other requests."""
    return "HTTP_" + name.replace("-", "_") if name.lower() in _HEADERS else None
