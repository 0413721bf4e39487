"""Legacy: another registry's content that is taken in when somebody asks for it first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag


class Legacy(Protocol):
    """What services ask when they do not find something. Whatever it takes in is then found.

    Attributes:
        origin: The generation of clients that its tags count as pushed by.
    """

    @property
    def origin(self) -> Origin:
        """See the class."""

    def bring(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Take in an image; tell whether to look again."""

    def bring_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """Take in a V1 image of one of the repository's tags, with its ancestors; tell as ``bring``."""

    def tags(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """Return all tags that it has, whether they are here already or not: V1 image ids, or digests."""

    def forget(self, tx: Transaction, repository: RepositoryName, tags: Iterable[Tag]) -> None:
        """See to it that tags which are deleted here are not taken in again."""


@dataclass(frozen=True, slots=True)
class NoLegacy:
    """There is no other registry."""

    origin: Origin = Origin.V1

    def bring(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """See Legacy."""
        del repository, reference
        return False

    def bring_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """See Legacy."""
        del repository, image
        return False

    def tags(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """See Legacy."""
        del repository
        return {}

    def forget(self, tx: Transaction, repository: RepositoryName, tags: Iterable[Tag]) -> None:
        """See Legacy."""


def v1_tags(legacy: Legacy, repository: RepositoryName) -> dict[Tag, ImageId]:
    """Return the tags of *legacy* as V1 clients see them.

    How they see manifests is only known here, so those are taken in.
    """
    offered = legacy.tags(repository)
    if legacy.origin is Origin.V1:
        return {tag: ImageId(image) for tag, image in offered.items()}
    for tag in offered:
        legacy.bring(repository, tag)
    return {}
