"""Upstream: another registry's content, which is imported when a client first asks for it."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag


class Upstream(Protocol):
    """What services consult for content that this registry does not have.

    What it loads is imported, and found from then on. It neither loads nor lists what was deleted from this
    registry, unless it was pushed to the other one again later.
    """

    @property
    def origin(self) -> Origin:
        """The generation of clients that its tags count as pushed by."""

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Import an image; return whether this registry has it now.

        Raises:
            SourceBusy: too many images are being imported.
        """

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """Import a V1 image in the ancestry of an available tag, with its ancestors; as ``load``."""

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """Import the manifests whose subject is *subject*, which need not exist; as ``load``."""

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        """Return up to *limit* tags after *last* that this registry does not have, in byte order.

        Images are not looked at unless something was deleted from the repository, so loading a tag may fail.
        """

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        """Return all tags that this registry does not have, with their V1 image IDs or manifest digests."""

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Return whether ``load`` would try to import *reference*."""

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        """Record that content was deleted from this registry, so that it is not imported again.

        Args:
            references: Tags, digests and V1 image IDs; None: everything in the repository.
        """


@dataclass(frozen=True, slots=True)
class NoUpstream:
    """An upstream that has nothing."""

    origin: Origin = Origin.V1

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        del repository, reference
        return False

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        del repository, image
        return False

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        del repository, subject

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        del repository, last, limit
        return ()

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        del repository
        return {}

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        del repository, reference
        return False

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        del tx, repository, references


def available_v1_tags(
    upstream: Upstream, repository: RepositoryName, shown: AbstractSet[Origin]
) -> dict[Tag, ImageId]:
    """Return the tags that only *upstream* has, as V1 clients see them, who see tags of the origins *shown*.

    Manifests have no V1 view before they are imported, so their tags are loaded, and left out.
    """
    if upstream.origin not in shown:
        return {}
    if upstream.origin is Origin.V1:
        return {tag: ImageId(image) for tag, image in upstream.available_images(repository).items()}
    for tag in upstream.available_tags(repository):
        upstream.load(repository, tag)
    return {}
