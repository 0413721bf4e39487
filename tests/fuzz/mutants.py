"""Requests that no client sends: those of the grammar, each with some changes."""

import random
import re
from dataclasses import replace

from tests.fuzz.grammar import Grammar, Request
from tests.fuzz.mutations import TEXTS, changed_bytes, changed_json, changed_text

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FOO")
_KEYS = (
    "n", "last", "digest", "mount", "from", "tag", "artifactType", "after", "prefix", "sort", "scope", "q",
    "page", "service", "account", "digest-algorithm", "offline_token",
)  # fmt: skip
_HEADERS = (
    "Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Range", "Content-Type",
    "Cookie", "Docker-Content-Digest", "Expect", "Forwarded", "Host", "If-Match", "If-Modified-Since",
    "If-None-Match", "If-Range", "Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers",
    "Range", "Referer", "User-Agent", "X-Docker-Checksum", "X-Docker-Checksum-Payload", "X-Docker-Endpoints",
    "X-Docker-Token", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
)  # fmt: skip
#: How many changes: most requests get through all checks but one.
_CHANGES = (0, 1, 1, 1, 2, 2, 3, 6)
#: What a server refuses before a program sees it.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Mutants:
    """Changes requests of a grammar by chance."""

    def __init__(self, chance: random.Random, grammar: Grammar) -> None:
        """Change requests of *grammar*."""
        self._chance, self._grammar = chance, grammar
        self._ways = (
            self._method,
            *[self._path] * 5,
            *[self._query] * 4,
            *[self._header] * 5,
            *[self._body] * 8,
            self._length,
            self._crossed,
        )

    def request(self) -> Request:
        """Return a request."""
        made = self._grammar.request()
        for _ in range(self._chance.choice(_CHANGES)):
            made = self._chance.choice(self._ways)(made)
        return made

    def _method(self, made: Request) -> Request:
        return replace(made, method=self._chance.choice(_METHODS))

    def _path(self, made: Request) -> Request:
        parts = made.path.split("/")
        at = self._chance.randrange(1, len(parts)) if len(parts) > 1 else 0
        parts[at] = changed_text(self._chance, parts[at])
        return replace(made, path=_sendable("/".join(parts), "/"))

    def _query(self, made: Request) -> Request:
        parts = [*made.query]
        at = self._chance.randint(0, len(parts))
        if parts[at:] and self._chance.random() < 0.7:
            key, _, value = parts[at].partition("=")
            parts[at] = f"{key}={changed_text(self._chance, value)}"
        else:
            parts.insert(at, f"{self._chance.choice(_KEYS)}={self._chance.choice(TEXTS)}")
        return replace(made, query=tuple(_sendable(part) for part in parts))

    def _header(self, made: Request) -> Request:
        headers = [*made.headers]
        at = self._chance.randint(0, len(headers))
        if headers[at:] and self._chance.random() < 0.7:
            name, value = headers[at]
            headers[at] = name, _sendable(changed_text(self._chance, value))
        elif headers[at:] and self._chance.random() < 0.3:
            del headers[at]
        else:
            headers.append((self._chance.choice(_HEADERS), _sendable(self._chance.choice(TEXTS))))
        return replace(made, headers=tuple(headers))

    def _body(self, made: Request) -> Request:
        change = self._chance.choice((changed_bytes, changed_json, changed_json, changed_json))
        return made.sending(change(self._chance, made.body))

    def _length(self, made: Request) -> Request:
        length = self._chance.choice((None, 0, len(made.body) + 1, len(made.body) // 2, 2**40))
        return replace(made, length=length)

    def _crossed(self, made: Request) -> Request:
        """Take the body, the query or the headers of another request."""
        other = self._grammar.request()
        part = self._chance.choice(("query", "headers", "body"))
        return made.sending(other.body) if part == "body" else replace(made, **{part: getattr(other, part)})


def _sendable(text: str, start: str = "") -> str:
    """Return what remains of *text* in a request line or header that a server accepts."""
    cleaned = _CONTROL.sub("", text).encode().decode("latin-1")
    return cleaned if cleaned.startswith(start) else start + cleaned
