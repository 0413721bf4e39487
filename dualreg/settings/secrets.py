"""Secrets in the values of settings, which no message may show."""

import re

#: What must not be shown of a URL: a password, which may contain any character; the user of an HTTP URL, who
#: may be a token; and values of the query.
_SECRETS = (
    re.compile(r"(://[^:/@?#]*:).*(@)"),
    re.compile(r"(\bhttps?://)[^:/@?#]+(@)", re.IGNORECASE),
    re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&#]*()", re.IGNORECASE),
)


def without_secrets(text: str) -> str:
    """Return *text* with ``***`` for what is secret in a URL."""
    for secret in _SECRETS:
        text = secret.sub(r"\1***\2", text)
    return text
