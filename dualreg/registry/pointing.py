"""Pointing: tags get another manifest, by rows and link files that were staged before the transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin, RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.state import State
from dualreg.storage.base import StagedLink
from dualreg.storage.links import staged_tag


@dataclass(frozen=True, slots=True)
class Pointing:
    """Tags that are about to point at a manifest.

    Attributes:
        at: When they were pushed.
        files: The link files of the tags, and others, which are durable, but not in their places.
    """

    state: State
    tags: Sequence[Tag]
    digest: Digest
    at: datetime
    files: Sequence[StagedLink]

    def record(self, tx: Transaction, repository: RepositoryRow, origin: Origin, agent: str = "") -> None:
        """Point the tags at the manifest within a transaction: rows first, then all link files.

        Args:
            agent: The ``User-Agent`` of the client that pushed them, if it is to be recorded.
        """
        tx.tags.point(repository.id, self.tags, self.digest, origin, at=self.at, agent=agent)
        links = self.state.links
        links.place(self.files)
        for tag in self.tags:
            links.describe_tag(repository.name, tag, self.digest, unusual(origin), agent or None)


@contextmanager
def pointing(
    state: State,
    repository: RepositoryName,
    references: Sequence[Tag | Digest],
    digest: Digest,
    at: datetime | None = None,
    *,
    more: Sequence[StagedLink] = (),
) -> Iterator[Pointing]:
    """Prepare for the block that the tags among *references* point at a manifest.

    Args:
        at: When they were pushed; None: now.
        more: Link files that others have staged, to be placed with theirs.
    """
    tags, when = [each for each in references if isinstance(each, Tag)], at or state.catalog.now()
    files = [staged_tag(repository, tag, digest, when) for tag in tags]
    with state.links.staged(files):
        yield Pointing(state, tags, digest, when, [*more, *files])


def unusual(origin: Origin) -> Origin | None:
    """Return the origin of a tag if link files must say it; they need not say that a V2 client pushed it."""
    return None if origin is Origin.V2 else origin
