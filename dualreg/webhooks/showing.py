"""Showing: URLs of webhooks as lists, messages and logs have them, without what may be a secret.

Some receivers take a token in the query, others have it in the path: who knows the URL may post there.
"""

import re

from dualreg.remote.endpoint import redact

#: What stands in place of a part that may be a secret.
_HIDDEN = "***"
#: A part of a path that may be one: long, with letters and digits.
_SECRET = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[^/]{20,}", re.ASCII)


def shown_url(url: str) -> str:
    """Return a URL without user, password, query, and what may be a token in its path."""
    scheme, slashes, rest = redact(url).partition("://")
    host, *parts = rest.split("/")
    shown = (_HIDDEN if _SECRET.fullmatch(part) else part for part in parts)
    return f"{scheme}{slashes}{'/'.join((host, *shown))}"


def hide(text: str, url: str) -> str:
    """Return a message about a request to a URL, with that as ``shown_url`` has it."""
    return text.replace(redact(url), shown_url(url))
