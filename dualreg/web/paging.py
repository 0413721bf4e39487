"""Paging: parse the parameters of lists (``n``, ``page``, ``after``) and write their ``Link`` headers."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlencode

from flask import request

from dualreg.errors import PageInvalid
from dualreg.operations.places import parse_place
from dualreg.web.address import own_path

#: Maximum number of entries on a page; a client that asks for more gets this many and a Link.
PAGE_LIMIT = 1000

Value = TypeVar("Value")

_DECIMAL = re.compile(r"[0-9]+", re.ASCII)


def page_size(default: int | None) -> int | None:
    """Return the requested number of entries, at most PAGE_LIMIT; *default* without ``n``.

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


def page_number() -> int:
    """Return the requested ``page``, counted from 1; 1 if it is absent or malformed."""
    text = request.args.get("page", "")
    return max(int(text[:9]), 1) if _DECIMAL.fullmatch(text) else 1


def parse_cursor(parse_name: Callable[[str], Value]) -> tuple[datetime, Value] | None:
    """Return the instant and name of the ``after`` parameter; None without one.

    Raises:
        PageInvalid: it is malformed. Also what *parse_name* raises.
    """
    return parse_place(request.args.get("after"), parse_name)


def next_link(query: Mapping[str, object]) -> dict[str, str]:
    """Return the Link header to the next page of this URL, which has the given query, and its namespace.

    Source: RFC 8288; OCI distribution-spec v1.1, "Content Discovery".
    """
    named = {"ns": namespace} if (namespace := request.args.get("ns")) else {}
    return {"Link": f'<{own_path()}{request.path}?{urlencode({**query, **named})}>; rel="next"'}
