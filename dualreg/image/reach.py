"""Reach: which repositories somebody may act on, by pattern."""

from dataclasses import dataclass

from dualreg.patterns import matches


@dataclass(frozen=True, slots=True)
class Reach:
    """The repositories whose names match at least one pattern of every group.

    Without groups that is all of them; an empty group matches none. See ``dualreg.patterns``.
    """

    groups: tuple[tuple[str, ...], ...] = ()

    def covers(self, name: str) -> bool:
        """Return whether the repository called *name* is among them."""
        return all(any(matches(pattern, name) for pattern in group) for group in self.groups)


#: Every repository there is.
EVERYWHERE = Reach()
