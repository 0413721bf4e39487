"""Visibility: whether tags that one generation of clients pushed are shown to the other.

It decides which tags each dialect lists and finds. Requests by digest and writes do not depend on it.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

from dualreg.catalog.rows import Origin
from dualreg.image.names import RepositoryName
from dualreg.patterns import matches

_BOTH = frozenset(Origin)
#: For each mode, the origins of tags that clients of a generation see.
_SHOWN: dict[str, dict[Origin, frozenset[Origin]]] = {
    "both": {Origin.V1: _BOTH, Origin.V2: _BOTH},
    "v1-to-v2": {Origin.V1: frozenset({Origin.V1}), Origin.V2: _BOTH},
    "v2-to-v1": {Origin.V1: _BOTH, Origin.V2: frozenset({Origin.V2})},
    "off": {Origin.V1: frozenset({Origin.V1}), Origin.V2: frozenset({Origin.V2})},
}


@dataclass(frozen=True, slots=True)
class Visibility:
    """The setting ``bridge``, parsed.

    Attributes:
        default: The mode of repositories that no pattern matches.
        patterns: Pattern and mode; the first one that matches a repository applies.
    """

    default: str = "both"
    patterns: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse comma-separated ``MODE`` and ``PATTERN=MODE``, which the settings have validated."""
        entries = [entry.strip().rpartition("=") for entry in text.split(",")]
        default = next((mode for pattern, _, mode in entries if not pattern), "both")
        return cls(default, tuple((pattern, mode) for pattern, _, mode in entries if pattern))

    def shown(self, repository: RepositoryName, generation: Origin) -> AbstractSet[Origin]:
        """Return the origins of the tags that clients of *generation* see in the repository."""
        matching = (mode for pattern, mode in self.patterns if matches(pattern, repository))
        return _SHOWN[next(matching, self.default)][generation]
