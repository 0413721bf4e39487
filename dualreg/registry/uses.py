"""Uses: what keeps a blob, and when the garbage collection deletes what nothing keeps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import RepositoryRow
from dualreg.catalog.uses import Use, UseQueries
from dualreg.errors import BlobUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.state import State

#: Paths of each repository, and repositories, that are returned at most.
PATHS, HOLDERS = 5, 20
#: Manifests and V1 images of a repository after which counting ends.
_NODES = 100_000


class Kept(StrEnum):
    """Why something is kept that is at the top of a path."""

    #: It is a tag.
    TAG = "tag"
    #: It is a manifest without a tag, and these are kept.
    UNTAGGED = "untagged"
    #: Nothing uses it, but it was used or asked for lately.
    GRACE = "grace"
    #: Nothing uses it, and only a full collection finds that out.
    NOT_NOTED = "not-noted"


class Step(NamedTuple):
    """A tag, a manifest or other blob, or a V1 image; *kind* is what it is to the step before."""

    kind: str
    name: str


class UsePath(NamedTuple):
    """What keeps a blob: the top, and what leads down from it to the blob.

    Attributes:
        until: When the top may go at the earliest; None: not as long as nothing changes. What is below it
            stays for another grace.
    """

    kept: Kept
    until: datetime | None
    steps: Sequence[Step]


class Holder(NamedTuple):
    """What keeps a blob in a repository that has it.

    Attributes:
        paths: The shortest ones from tags; if there are none, from what has no tag.
        more: How many more tags, or tops without a tag, there are; at least, where there are very many.
    """

    repository: RepositoryName
    paths: Sequence[UsePath]
    more: int


class Explanation(NamedTuple):
    """What keeps a blob.

    Attributes:
        size: Bytes.
        until: When the bytes may go at the earliest, if no repository has the blob; None: as long as one
            does, or if only a full collection finds out that none does.
        more: How many more repositories have it.
    """

    digest: Digest
    size: int
    until: datetime | None
    repositories: Sequence[Holder]
    more: int


@dataclass(frozen=True, slots=True)
class Uses:
    """Explains what keeps blobs."""

    state: State

    def explain(self, digest: Digest, repository: RepositoryName | None = None) -> Explanation:
        """Return what keeps the blob in all repositories, or in one.

        Raises:
            BlobUnknown: the catalog does not know it, or *repository* does not have it.
        """
        with self.state.catalog.read() as tx:
            stored = tx.uses.stored(digest)
            if stored is None:
                raise BlobUnknown(digest=str(digest))
            if repository:
                row = tx.repositories.find(repository)
                if row is None or tx.blobs.find(repository, digest) is None:
                    raise BlobUnknown(digest=str(digest))
                holders, more = [row], 0
            else:
                holders = [*tx.uses.holders(digest, HOLDERS)]
                more = max(stored.links - len(holders), 0)
            retention, condemned = self.state.retention, None if stored.links else stored.condemned_at
            until = condemned and condemned + retention.grace
            if until and stored.deleted_at:
                until = max(until, stored.deleted_at + retention.undelete)
            found = [self._holder(tx, each, digest) for each in holders]
        return Explanation(digest, stored.size, until, found, more)

    def _holder(self, tx: Transaction, repository: RepositoryRow, digest: Digest) -> Holder:
        climb = _Climb(tx.uses, repository.id)
        climb.run(str(digest))
        if climb.tags:
            found = [UsePath(Kept.TAG, None, climb.down(use)) for use in climb.tags]
            return Holder(repository.name, found, climb.tagged - len(found))
        found = [
            self._without_tag(tx, repository, climb.down(Use(top, "", ""))) for top in climb.tops[:PATHS]
        ]
        return Holder(repository.name, found, len(climb.tops) - len(found))

    def _without_tag(self, tx: Transaction, repository: RepositoryRow, steps: Sequence[Step]) -> UsePath:
        """Return the path whose first step is something that nothing references."""
        top = steps[0].name
        is_manifest = ":" in top and tx.uses.is_manifest(repository.id, Digest.parse(top))
        kind = "V1 image" if ":" not in top else "manifest" if is_manifest else "blob"
        steps = [Step(kind, top), *steps[1:]]
        retention, since = self.state.retention, tx.uses.noted_at(repository.id, top)
        rule = retention.untagged if is_manifest else retention.grace
        if rule is None:
            return UsePath(Kept.UNTAGGED, None, steps)
        if since is None:
            return UsePath(Kept.NOT_NOTED, None, steps)
        return UsePath(Kept.GRACE, since + max(rule, retention.grace), steps)


@dataclass
class _Climb:
    """A search from a blob up to what keeps it, level by level, so that the shortest paths are found first.

    Attributes:
        tags: The first tags, and *tagged* how many there are.
        tops: What no tag and nothing else references.
        below: How each node that was reached keeps another one.
    """

    uses: UseQueries
    repository_id: int
    tags: list[Use] = field(default_factory=list)
    tagged: int = 0
    tops: list[str] = field(default_factory=list)
    below: dict[str, Use] = field(default_factory=dict)

    def run(self, node: str) -> None:
        """Search from a node; each one is looked at once, and not all if there are very many."""
        level, known = [node], {node}
        while level and len(known) < _NODES:
            uses = [*islice(self.uses.above(self.repository_id, level), _NODES)]
            tags = [*islice(self.uses.tags(self.repository_id, level), _NODES)]
            self.tags += tags[: PATHS - len(self.tags)]
            self.tagged += len(tags)
            used = {use.below for use in (*uses, *tags)}
            self.tops += [each for each in level if each not in used]
            level = []
            for use in uses:
                if use.above not in known:
                    known.add(use.above)
                    self.below[use.above] = use
                    level.append(use.above)

    def down(self, use: Use) -> list[Step]:
        """Return the steps from what *use* keeps down to the blob, behind the tag if it is that of one."""
        steps = [Step("tag", use.above)] if use.above else []
        step: Use | None = use
        while step:
            steps.append(Step(step.kind, step.below))
            step = self.below.get(step.below)
        return steps
