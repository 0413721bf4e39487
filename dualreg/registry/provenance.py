"""Provenance: where a manifest comes from."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin, RepositoryRow
from dualreg.errors import ImageExists, ImageUnknown, ManifestUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId


class MadeOf(NamedTuple):
    """The manifest of the same repository that another one was made of, and as which kind of view."""

    manifest: Digest
    kind: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a manifest comes from, if not from the client that pushes it now.

    Attributes:
        v1_view: The V1 image that it was made from; V1 clients continue to see that.
        pushed_at: When it was first pushed, if it is new to the repository; None: now.
        upstream: URL of the registry that it was loaded from, where its children are, too.
        made_of: What this registry made it of, whose view it becomes.
        restored: Whether it was deleted, and is restored.
        lacking: Whether it is restored, and lacked children before it was deleted.
        lost: Whether the repository has it, and this registry makes lost bytes of it again.
    """

    v1_view: ImageId | None = None
    pushed_at: datetime | None = None
    upstream: str | None = None
    made_of: MadeOf | None = None
    restored: bool = False
    lacking: bool = False
    lost: bool = False

    @property
    def origin(self) -> Origin:
        """The generation whose clients see it as what they pushed."""
        return Origin.V1 if self.v1_view else Origin.V2

    @property
    def counts(self) -> bool:
        """Whether it counts for quotas: not if a pull made it."""
        return not (self.upstream or self.made_of or self.lost)

    def check(self, tx: Transaction, repository: RepositoryRow, manifest: Digest) -> None:
        """Refuse a manifest of what is gone, or as which V1 clients would see the tags of another image.

        Raises:
            ImageUnknown, ImageExists: of its V1 view.
            ManifestUnknown: of what it was made of.
        """
        if self.made_of and not tx.manifests.lock_existing(repository.id, [self.made_of.manifest]):
            raise ManifestUnknown(reference=str(self.made_of.manifest))
        if self.v1_view is None:
            return
        if tx.v1_images.find(repository.name, self.v1_view) is None:
            raise ImageUnknown(id=self.v1_view)  # it was derived from a manifest, and deleted with that
        known = tx.views.find(repository.id, manifest)
        if known is None or known == self.v1_view:
            return
        twin = tx.v1_images.find(repository.name, ImageId(known))
        if twin and twin.checksum:
            raise ImageExists(id=twin.id)


PUSHED_NOW = Provenance()
