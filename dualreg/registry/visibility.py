"""Visibility: whether tags that one generation of clients pushed are shown to the other.

It decides which tags each dialect lists and finds. Requests by digest and writes do not depend on it.
"""

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Self

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin, RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName
from dualreg.patterns import matches

_log = logging.getLogger(__name__)

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
        return _SHOWN[self.decided(repository)[1]][generation]

    def decided(self, repository: RepositoryName) -> tuple[str, str]:
        """Return the pattern that decides for a repository, and the mode; no pattern: the default."""
        matching = ((pattern, mode) for pattern, mode in self.patterns if matches(pattern, repository))
        return next(matching, ("", self.default))


def log_unseen(
    tx: Transaction, repository: RepositoryRow, manifest: Digest, taken: Sequence[ImageId]
) -> None:
    """Log that V1 clients do not see the tags of a manifest: from now on, if they saw them before.

    Args:
        taken: IDs that its images share with other images; empty: V1 clients cannot use it at all.
    """
    tags = ", ".join(sorted(tx.tags.pointing_at(repository.id, manifest))) or manifest
    if taken:
        text = "%s: V1 clients do not see %s: the repository has another image with the ID %s"
        _log.warning(text, repository.name, tags, taken[0])
    else:
        _log.info("%s: V1 clients do not see %s: it has no form that they can use", repository.name, tags)
