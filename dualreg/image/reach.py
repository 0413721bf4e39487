"""Reach: which repositories, by pattern."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """The repositories whose names match a pattern of each group; without groups, all of them.

    In a pattern, ``*`` stands for any run of characters, slashes too; nothing else is special.
    """

    groups: tuple[tuple[str, ...], ...] = ()

    def covers(self, name: str) -> bool:
        """Tell whether the repository is among them."""
        return all(any(matches(pattern, name) for pattern in group) for group in self.groups)


#: Every repository there is.
EVERYWHERE = Reach()


def matches(pattern: str, name: str) -> bool:
    """Tell whether *name* is what *pattern* says; the time grows with their lengths, never faster."""
    first, *others = pattern.split("*")
    if not others:
        return name == pattern
    *middle, last = others
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    end, at = len(name) - len(last), len(first)
    for part in middle:
        at = name.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
