"""Plain requests: heads so simple that they mean the same to every server, read without gunicorn's parser.

For reads, clients of registries hardly send others. What is in any way unusual is left to gunicorn: other
methods and versions, a body, escapes in the path, headers that are not in the list.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

#: Bytes of a head, and lines. gunicorn allows more, as it is configured here.
HEAD_LIMIT, LINES_LIMIT = 8000, 64
#: Of HTTP.
VERSION = (1, 1)
_METHODS = (b"GET ", b"HEAD ")
_LINE = re.compile(r"(GET|HEAD) ((/[A-Za-z0-9/._~:@+-]*)(?:\?([A-Za-z0-9/._~:@+=&,*-]*))?) HTTP/1\.1")
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
#: Spellings of them that are remembered.
_SPELLINGS = 200
#: The only header that clients send more than once: a list, whose parts are joined.
_ACCEPT = "HTTP_ACCEPT"
#: The exception: this value is what HTTP/1.1 does anyway.
_CONNECTION, _KEPT = "HTTP_CONNECTION", "keep-alive"


def peer_of(client: object) -> dict[str, str]:
    """Return what the environments of all plain requests on a connection have in common.

    Args:
        client: The address of its other side, as of sockets.
    """
    common = {"SERVER_PROTOCOL": "HTTP/{}.{}".format(*VERSION)}
    if isinstance(client, tuple):
        return common | {"REMOTE_ADDR": str(client[0]), "REMOTE_PORT": str(client[1])}
    return common | {"REMOTE_ADDR": client.decode() if isinstance(client, bytes) else str(client)}


def read(head: bytes, peer: Mapping[str, str]) -> dict[str, str] | None:
    """Return the WSGI environment of a request as far as its head decides on it; None if it is not plain.

    It is that which gunicorn makes, without what is the same for all requests, and what it gives to the
    application beside the request.

    Args:
        peer: See ``peer_of``.

    Source: RFC 9112, "Request Line" and "Field Syntax".
    """
    if len(head) > HEAD_LIMIT or not head.startswith(_METHODS) or not head.isascii():
        return None
    first, *lines = head.decode("ascii").split("\r\n")
    match = _LINE.fullmatch(first)
    if match is None or len(lines) > LINES_LIMIT or lines[-2:] != ["", ""]:
        return None
    environ = {**peer}
    environ["REQUEST_METHOD"], environ["RAW_URI"] = match[1], match[2]
    environ["PATH_INFO"], environ["QUERY_STRING"] = match[3], match[4] or ""
    for line in lines[:-2]:
        name, colon, value = line.partition(":")
        key = _key(name)
        if key is None or not colon or not value.isprintable():
            return None
        if key not in environ:
            environ[key] = value.strip(" ")
        elif key == _ACCEPT:
            environ[key] += f",{value.strip(' ')}"
        else:
            return None
    return environ if environ.get(_CONNECTION, _KEPT).lower() == _KEPT else None


def headers_of(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers of a request, with names in capitals, given its environment."""
    keys = (key for key in environ if key.startswith("HTTP_"))
    return [(key.removeprefix("HTTP_").replace("_", "-"), environ[key]) for key in keys]


@lru_cache(_SPELLINGS)
def _key(name: str) -> str | None:
    """Return the name of a header in WSGI environments; None if it is not in the list."""
    return "HTTP_" + name.upper().replace("-", "_") if name.lower() in _HEADERS else None
