"""Paging: ``n`` and ``last`` in, ``Link`` out, for every list of names."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from urllib.parse import urlencode

from flask import request

from dualreg.errors import PageInvalid
from dualreg.registry.pages import Page

#: Names in one page at most; a client that asks for more gets this many, and a Link.
PAGE_LIMIT = 1000

Value = TypeVar("Value")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Microseconds since the epoch, and a name.
_CURSOR = re.compile(r"([0-9]{1,17})-(.{1,200})", re.ASCII)
_DECIMAL = re.compile(r"[0-9]+", re.ASCII)


def page_size(default: int | None) -> int | None:
    """Return the number of names asked for, at most PAGE_LIMIT; *default* if the client did not say.

    Raises:
        PageInvalid: ``n`` is not a decimal number.
    """
    text = request.args.get("n")
    if text is None:
        return default
    if _DECIMAL.fullmatch(text) is None:
        raise PageInvalid(n=text[:50])
    significant = text.lstrip("0") or "0"
    return min(int(significant[:5]), PAGE_LIMIT)


def positive(key: str) -> int:
    """Return the number from 1 on that the query gives for *key*; 1 if it gives none."""
    text = request.args.get(key, "")
    return max(int(text[:9]), 1) if _DECIMAL.fullmatch(text) else 1


def cursor(instant: datetime, name: object) -> str:
    """Return the text that leads to what follows the entry of that *instant* and *name*."""
    return f"{(instant - _EPOCH) // timedelta(microseconds=1)}-{name}"


def after(parse: Callable[[str], Value]) -> tuple[datetime, Value] | None:
    """Return the instant and name, read by *parse*, that the query's ``after`` was made of by ``cursor``.

    Raises:
        PageInvalid: it was not. Also whatever *parse* raises.
    """
    text = request.args.get("after")
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise PageInvalid(after=text[:200])
    return _EPOCH + timedelta(microseconds=int(match[1])), parse(match[2])


def link_header(page: Page[str], size: int | None) -> dict[str, str]:
    """Return the header that leads to what follows *page*; empty if nothing does.

    Source: RFC 8288; OCI distribution-spec v1.1, "Content Discovery".
    """
    if not page.more:
        return {}
    query = urlencode({"last": page.end, "n": size})
    return {"Link": f'<{request.path}?{query}>; rel="next"'}
