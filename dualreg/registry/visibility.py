"""Visibility: whether a tag that one generation of client pushed is shown to the other.

The conversions stay where they are; this only says which tags each dialect lists and finds. What is asked for
by digest, and what is written, does not depend on it.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

from dualreg.catalog.rows import Origin
from dualreg.image.names import RepositoryName
from dualreg.patterns import matches

_BOTH = frozenset(Origin)
#: What each mode shows to the clients of a generation beside their own tags.
_SHOWN: dict[str, dict[Origin, frozenset[Origin]]] = {
    "both": {Origin.V1: _BOTH, Origin.V2: _BOTH},
    "v1-to-v2": {Origin.V1: frozenset({Origin.V1}), Origin.V2: _BOTH},
    "v2-to-v1": {Origin.V1: _BOTH, Origin.V2: frozenset({Origin.V2})},
    "off": {Origin.V1: frozenset({Origin.V1}), Origin.V2: frozenset({Origin.V2})},
}


@dataclass(frozen=True, slots=True)
class Visibility:
    """The setting ``bridge``, read.

    Attributes:
        default: The mode of repositories that no pattern takes.
        patterns: Pattern and mode; the first that takes a repository counts.
    """

    default: str = "both"
    patterns: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``MODE`` and ``PATTERN=MODE``, by comma; the settings have checked them."""
        entries = [entry.strip().rpartition("=") for entry in text.split(",")]
        default = next((mode for pattern, _, mode in entries if not pattern), "both")
        return cls(default, tuple((pattern, mode) for pattern, _, mode in entries if pattern))

    def shown(self, repository: RepositoryName, reader: Origin) -> AbstractSet[Origin]:
        """Return the origins of the tags that clients of the *reader*'s generation see."""
        matching = (mode for pattern, mode in self.patterns if matches(pattern, repository))
        return _SHOWN[next(matching, self.default)][reader]
