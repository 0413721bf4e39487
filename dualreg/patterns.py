"""Patterns: the one language by which operators choose repositories, tags and claims.

``*`` stands for any characters, none and ``/`` included; every other character stands for itself. The setting
``bridge``, ``--include`` and ``--exclude``, permission rules and workload rules are all read here, so that a
pattern that was tried in one of them means the same in the others.
"""

#: Escape character of the LIKE patterns that ``to_like`` returns; no name contains it.
LIKE_ESCAPE = "!"

_WILDCARD = "*"
#: Special to shells, and easily taken for special here.
_UNSUPPORTED = "?["
_TO_LIKE = str.maketrans({_WILDCARD: "%"} | {each: LIKE_ESCAPE + each for each in ("%", "_", LIKE_ESCAPE)})


def check_pattern(pattern: str) -> str:
    """Return *pattern* unchanged.

    Raises:
        ValueError: it contains ``?`` or ``[``. Hardly any name does, so whoever writes them means what they
            mean to a shell; taken literally, such a pattern would choose nothing without a word.
    """
    if found := next((each for each in pattern if each in _UNSUPPORTED), None):
        raise ValueError(
            f'invalid pattern "{pattern}": "{found}" is not supported; '
            "only * is special: write one pattern for each alternative"
        )
    return pattern


def has_wildcard(pattern: str) -> bool:
    """Return whether *pattern* can match anything but itself."""
    return _WILDCARD in pattern


def matches(pattern: str, text: str) -> bool:
    """Return whether *pattern* matches all of *text*, in time proportional to their lengths."""
    first, *others = pattern.split(_WILDCARD)
    if not others:
        return text == pattern
    *middle, last = others
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    end, at = len(text) - len(last), len(first)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def to_like(pattern: str) -> str:
    """Return the SQL LIKE pattern that matches the same texts, to be used with ``ESCAPE LIKE_ESCAPE``.

    SQLite's LIKE ignores the case of ASCII letters, so the texts must be in lower case, as repository names
    are, and the pattern too.
    """
    return pattern.translate(_TO_LIKE)
