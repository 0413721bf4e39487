"""What messages, logs and reports may contain: nothing that a terminal obeys, and no secrets.

Names come from sources, clients and servers that may be hostile: they may move the cursor, reverse the
direction of text, or pretend to be a line of ours. Secrets may be part of any URL.
"""

import json
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Any

#: What is masked: all between the groups. Hostile texts must not cost much, so what could be tried at every
#: place of a long text is bounded.
_SECRETS = (
    # The password in the URL of a database, which may contain any character.
    re.compile(
        r"\b((?!(?:v[12]\+)?https?:)[a-z][\w+.-]{0,30}://[^\s:/@?#\"]*:)[^\s\"]{0,4000}(@)", re.IGNORECASE
    ),
    # User and password in the URL of a server: the user may be a token. A port is none.
    re.compile(
        r"(\bhttps?://)(?:[^\s:/@?#\"\[]*:(?!\d{1,5}(?:[/?#\s\"]|$))[^\s\"]{0,4000}|[^\s:/@?#\"]+)(@)",
        re.IGNORECASE,
    ),
    # Values of a query, such as a presigned URL's.
    re.compile(
        r"([?&](?=[^\s=?&#\"]*(?:pass|pwd|secret|token|key|sig|cred|auth|code))[^\s=?&#\"]*=)[^\s&#\"']+()",
        re.IGNORECASE,
    ),
    # The header, in whatever way it is written.
    re.compile(
        r"(authorization[\"']?\s*[:=,]\s*[\"']?(?:(?:basic|bearer|token)\s+)?)[^\s\"',]+()", re.IGNORECASE
    ),
    # A JSON Web Token.
    re.compile(r"()\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*()"),
)


def mask(text: str) -> str:
    """Return *text* with ``***`` for passwords and tokens in URLs and headers."""
    for secret in _SECRETS:
        if secret.search(text):  # which is rare, and costs a third of looking for what to replace
            text = secret.sub(r"\1***\2", text)
    return text


def printable(text: str) -> str:
    """Return *text* with escapes for characters that a terminal would obey, or that have no encoding."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def safe_line(text: object) -> str:
    """Return *text* as one line that may be shown: printable, and without secrets."""
    return printable(mask(str(text)))


def safe_lines(text: str) -> str:
    """Return the same of each line of *text*."""
    return "\n".join(map(safe_line, text.split("\n")))


def json_text(value: object, *, indent: int | None = None, default: Callable[[Any], object] = str) -> str:
    """Return *value* as JSON in printable ASCII; *default* turns types that JSON lacks into others."""
    return _encoder(indent, default).encode(value).replace("\x7f", "\\u007f")


@lru_cache(8)  # to make one takes as long as to encode a line of a log
def _encoder(indent: int | None, default: Callable[[Any], object]) -> json.JSONEncoder:
    return json.JSONEncoder(indent=indent, default=default)


class LogFormatter(logging.Formatter):
    """Writes a record as one line that may be shown, and a traceback as indented lines below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's
        return safe_line(super().formatMessage(record))

    def formatException(  # noqa: N802 -- logging's
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {safe_line(line)}" for line in lines)


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return ``1 tag`` or ``2 tags``; with *plural*, ``2 repositories``."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
