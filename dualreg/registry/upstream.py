"""Legacy: another registry's content that is taken in when somebody asks for it first."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag


class Upstream(Protocol):
    """What services ask when they do not find something. Whatever it takes in is then found.

    It takes in and offers nothing that was deleted here, unless it was pushed there again.

    Attributes:
        origin: The generation of clients that its tags count as pushed by.
    """

    @property
    def origin(self) -> Origin:
        """See the class."""

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Take in an image; tell whether to look again.

        Raises:
            SourceBusy: too many images are on their way.
        """

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """Take in a V1 image of one of the offered tags, with its ancestors; as ``bring``."""

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """Take in the manifests that are about *subject*, which need not be here; as ``bring``."""

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        """Return up to *limit* of the tags after *last* that it has and that are not here, in byte order.

        Where nothing was deleted here, it goes by their names: what one leads to need not make sense.
        """

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """Return all tags that it has and that are not here, and what they name: V1 image ids, or digests."""

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Tell whether it has something that ``bring`` would try to take in."""

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        """See to it that what is deleted here is not taken in again.

        Args:
            references: Tags, digests and V1 image ids; None: whatever the repository has.
        """


@dataclass(frozen=True, slots=True)
class NoUpstream:
    """There is no other registry."""

    origin: Origin = Origin.V1

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        del repository, reference
        return False

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """See Legacy."""
        del repository, image
        return False

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """See Legacy."""

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        """See Legacy."""
        del repository, last, limit
        return ()

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """See Legacy."""
        del repository
        return {}

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        del repository, reference
        return False

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        """See Legacy."""


def v1_tags(upstream: Upstream, repository: RepositoryName, shown: AbstractSet[Origin]) -> dict[Tag, ImageId]:
    """Return the tags that *legacy* offers, as V1 clients see them, who are *shown* tags of these origins.

    How they see manifests is only known here, so those are taken in.
    """
    if upstream.origin not in shown:
        return {}
    if upstream.origin is Origin.V1:
        return {tag: ImageId(image) for tag, image in upstream.available_images(repository).items()}
    for tag in upstream.available_tags(repository):
        upstream.load(repository, tag)
    return {}
