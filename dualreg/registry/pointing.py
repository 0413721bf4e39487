"""Pointing: tags get another manifest, by rows and link files that were staged before the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin, RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.immutability import require_pointable
from dualreg.registry.state import State
from dualreg.storage.link_tree import StagedLink
from dualreg.storage.links import staged_tag


@dataclass(frozen=True, slots=True)
class Pointing:
    """Tags that are about to point at a manifest.

    Attributes:
        at: When they were pushed.
        files: The link files of the tags, which are staged, but not in their places.
    """

    state: State
    tags: Sequence[Tag]
    digest: Digest
    at: datetime
    files: Sequence[StagedLink]

    @classmethod
    def at_tags(
        cls,
        state: State,
        repository: RepositoryName,
        references: Sequence[Tag | Digest],
        digest: Digest,
        at: datetime | None = None,
    ) -> Self:
        """Return how the tags among *references* will point at a manifest; their files are to be staged.

        Args:
            at: When they were pushed; None: now.
        """
        tags, when = [each for each in references if isinstance(each, Tag)], at or state.catalog.now()
        return cls(state, tags, digest, when, [staged_tag(repository, tag, digest, when) for tag in tags])

    def leave(self, tx: Transaction, repository: RepositoryRow) -> tuple[Digest, ...]:
        """Lock the tags; return the manifests that they leave, which the caller notes.

        Raises:
            TagImmutable: one of them may not leave the manifest that it points at.
        """
        left = tx.tags.leave(repository.id, self.tags, self.digest)
        if left:
            require_pointable(self.state, tx, repository, self.tags, self.digest)
        return left

    def record(
        self,
        tx: Transaction,
        repository: RepositoryRow,
        origin: Origin,
        agent: str = "",
        *,
        files: Sequence[StagedLink] | None = None,
        checked: bool = False,
    ) -> None:
        """Point the tags at the manifest within a transaction, after ``leave``: rows, then all link files.

        Args:
            agent: The ``User-Agent`` of the client that pushed them, if it is to be recorded.
            files: All link files that are placed; None: those of the tags.
            checked: Whether upstream has just said that they point at it.
        """
        tx.tags.point(repository.id, self.tags, self.digest, origin, at=self.at, agent=agent, note_left=False)
        if checked:
            tx.tags.confirm(repository.id, self.tags)
        links = self.state.links
        links.place(self.files if files is None else files)
        for tag in self.tags:
            links.describe_tag(repository.name, tag, self.digest, unusual(origin), agent or None)


def unusual(origin: Origin) -> Origin | None:
    """Return the origin of a tag if link files must say it; they need not say that a V2 client pushed it."""
    return None if origin is Origin.V2 else origin
