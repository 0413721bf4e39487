"""Paging: ``n`` and ``last`` in, ``Link`` out, for every list of names."""

import re
from urllib.parse import urlencode

from flask import request

from dualreg.errors import PageInvalid
from dualreg.registry.pages import Page

#: Names in one page at most; a client that asks for more gets this many, and a Link.
PAGE_LIMIT = 1000

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
    """Return the number from 1 to PAGE_LIMIT that the query gives for *key*.

    It is 1 if it gives none or another.
    """
    text = request.args.get(key, "")
    return min(max(int(text[:5]), 1), PAGE_LIMIT) if _DECIMAL.fullmatch(text) else 1


def link_header(page: Page[str], size: int | None) -> dict[str, str]:
    """Return the header that leads to what follows *page*; empty if nothing does.

    Source: RFC 8288; OCI distribution-spec v1.1, "Content Discovery".
    """
    if not page.more:
        return {}
    query = urlencode({"last": page.names[-1], "n": size})
    return {"Link": f'<{request.path}?{query}>; rel="next"'}
