"""Patterns: the one language by which operators choose repositories, tags and claims.

``*`` matches any characters, including none and ``/``; every other character matches itself. The setting
``bridge``, ``--include`` and ``--exclude``, permission rules and workload rules all use this module, so that
a pattern means the same in each of them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

#: Escape character of the LIKE patterns that ``to_like`` returns; no name contains it.
LIKE_ESCAPE = "!"

_WILDCARD = "*"
#: Special in shell patterns, but not in these.
_UNSUPPORTED = "?["
#: Of what names of repositories consist.
_NAMES = re.compile(r"[a-z0-9._/*-]{1,255}", re.ASCII)
_TO_LIKE = str.maketrans({_WILDCARD: "%"} | {each: LIKE_ESCAPE + each for each in ("%", "_", LIKE_ESCAPE)})


def check_pattern(pattern: str) -> str:
    """Return *pattern* unchanged.

    Raises:
        ValueError: it contains ``?`` or ``[``, which are special in shell patterns. Hardly any name contains
            them, so a pattern that took them literally would silently match nothing.
    """
    if found := next((each for each in pattern if each in _UNSUPPORTED), None):
        raise ValueError(
            f'invalid pattern "{pattern}": "{found}" is not supported; '
            "only * is special: write one pattern for each alternative"
        )
    return pattern


def is_for_repositories(pattern: str) -> bool:
    """Return whether *pattern* consists of what names of repositories do: then ``to_like`` means the same."""
    return _NAMES.fullmatch(pattern) is not None


def has_wildcard(pattern: str) -> bool:
    """Return whether *pattern* can match anything but itself."""
    return _WILDCARD in pattern


def fixed_start(pattern: str) -> str:
    """Return what every text that a pattern matches begins with."""
    return pattern.partition(_WILDCARD)[0]


def matches(pattern: str, text: str) -> bool:
    """Return whether *pattern* matches all of *text*, in time proportional to their lengths."""
    if pattern == _WILDCARD:
        return True
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


def within(inner: str, outer: str) -> bool:
    """Return whether every text that *inner* matches is matched by *outer*.

    A wildcard of *inner* stands for any text, also for a character that *outer* does not contain. Only a
    wildcard of *outer* takes that, and what takes one character takes any text. So it is enough to look at
    one text. No name contains NUL.
    """
    return matches(outer, inner.replace(_WILDCARD, "\0"))


def may_match_below(pattern: str, prefix: str) -> bool:
    """Return whether *pattern* matches a text that begins with *prefix*."""
    literal, wildcard, _ = pattern.partition(_WILDCARD)
    return literal.startswith(prefix) or bool(wildcard and prefix.startswith(literal))


@dataclass(frozen=True, slots=True)
class Reach:
    """The repositories whose names match at least one pattern of every group.

    Without groups, these are all repositories; an empty group matches none.
    """

    groups: tuple[tuple[str, ...], ...] = ()

    def covers(self, name: str) -> bool:
        """Return whether the repository called *name* is among them."""
        return all(any(matches(pattern, name) for pattern in group) for group in self.groups)

    def including(self, patterns: Iterable[str]) -> Self:
        """Return these repositories and those that match one of *patterns*."""
        return type(self)(tuple((*group, *patterns) for group in self.groups))


#: All repositories.
EVERYWHERE = Reach()


def to_like(pattern: str) -> str:
    """Return the SQL LIKE pattern that matches the same texts, to be used with ``ESCAPE LIKE_ESCAPE``.

    SQLite's LIKE ignores the case of ASCII letters, so the texts must be in lower case, as repository names
    are, and the pattern too.
    """
    return pattern.translate(_TO_LIKE)
