"""Upstream: other registries' content, which is imported when a client first asks for it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple, Protocol

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import BlobRow, ManifestRow, Origin
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag

#: Tags of another registry that are loaded because a V1 client wants to see all of them.
_LOADED_AT_ONCE = 20


class Freshness(NamedTuple):
    """What is known of a tag that comes from upstream.

    Attributes:
        until: When upstream is asked again what it points at.
        stale: Why upstream could not be asked the last time; empty if it was.
    """

    until: datetime
    stale: str = ""


class GrowingFile(Protocol):
    """A blob on its way, as a file. Reading waits for what has not arrived; nothing comes after the end.

    All methods but ``close`` raise RegistryError if upstream does not send the blob.
    """

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes from the position on; empty at the end."""

    def seek(self, offset: int, /) -> int:
        """Go to a byte, which need not have arrived."""

    def tell(self) -> int:
        """Return the position."""

    def fileno(self) -> int:
        """Return the descriptor of a file that has the byte at the position.

        Raises:
            UnsupportedOperation: that is in no file.
        """

    def reach(self, position: int) -> int:
        """Go to a byte, wait for it, and return where those end that ``fileno`` has."""

    def close(self) -> None:
        """Read no more; the blob goes on arriving."""


class ComingBlob(Protocol):
    """A blob that this registry does not have yet, but its upstream has."""

    @property
    def blob(self) -> BlobRow:
        """The blob, with the size that upstream gives."""

    def open(self) -> GrowingFile:
        """Return its bytes; the blob is set on its way.

        Raises:
            RegistryError: upstream does not send it; also while it is read.
        """

    def fetch(self) -> None:
        """Wait until the repository has the blob.

        Raises:
            RegistryError: upstream does not send it.
        """


class Content(Protocol):
    """What another registry has, or several.

    What it loads is imported, and found from then on. It neither loads nor lists what was deleted from this
    registry, unless it was pushed to the other one again later; of a registry that is asked again whether its
    tags have changed, what was deleted here is loaded again.
    """

    def origin_of(self, repository: RepositoryName) -> Origin:
        """Return the generation of clients that tags of the repository count as pushed by."""

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        """Import an image; return whether this registry has it now.

        Of a tag that it has, what it points at is compared with upstream. If that cannot be asked, the tag
        stays as it is, and ``freshness`` says so.

        Raises:
            SourceBusy, ServerBusy: too many images are being imported.
            UpstreamFailed: this registry does not have it, and upstream cannot be asked.
        """

    def is_due(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        """Return whether ``load`` may find something newer than *row*; None: there is nothing."""

    def freshness(self, repository: RepositoryName, reference: Tag | Digest) -> Freshness | None:
        """Return what this process knows of a tag since it last asked; None: nothing that would change."""

    def stale_list(self, repository: RepositoryName, subject: Digest | None = None) -> str:
        """Return why upstream could not be asked when its tags were listed the last time; empty if it was.

        Args:
            subject: Instead, when that which refers to this manifest was.
        """

    def coming_blob(self, repository: RepositoryName, digest: Digest) -> ComingBlob | None:
        """Return a blob that the repository lacks; None: upstream lacks it, too.

        Raises:
            ServerBusy, UpstreamFailed: upstream cannot be asked now.
        """

    def count_pull(self, repository: RepositoryName, tag: Tag) -> None:
        """Count that a client has pulled a tag."""

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        """Import a V1 image in the ancestry of an available tag, with its ancestors; as ``load``."""

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        """Import the manifests whose subject is *subject*, which need not exist; as ``load``.

        Raises:
            SourceBusy, ServerBusy, UpstreamFailed: this registry has none of them; ``stale_list`` says why.
        """

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


class Upstream(Content, Protocol):
    """What services consult for content that this registry does not have."""

    def close(self) -> None:
        """Write what was counted, for the last time."""

    def covers(self, repository: RepositoryName) -> bool:
        """Return whether blobs and children of manifests of the repository may be loaded when asked for."""

    def owner(self, repository: RepositoryName) -> str | None:
        """Return the URL of the registry that all content of a repository comes from; None: clients push."""

    def named(self, namespace: str, name: str) -> str | None:
        """Return the repository that is *name* of the registry *namespace*; None: that is unknown.

        Args:
            namespace: A host by which clients call a registry, such as ``docker.io``.
        """


class NoUpstream:
    """An upstream that has nothing."""

    def origin_of(self, repository: RepositoryName) -> Origin:
        del repository
        return Origin.V1

    def covers(self, repository: RepositoryName) -> bool:
        del repository
        return False

    def owner(self, repository: RepositoryName) -> str | None:
        del repository
        return None

    def named(self, namespace: str, name: str) -> str | None:
        del namespace
        return name

    def is_due(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        del repository, reference, row
        return False

    def freshness(self, repository: RepositoryName, reference: Tag | Digest) -> Freshness | None:
        del repository, reference
        return None

    def stale_list(self, repository: RepositoryName, subject: Digest | None = None) -> str:
        del repository, subject
        return ""

    def coming_blob(self, repository: RepositoryName, digest: Digest) -> ComingBlob | None:
        del repository, digest
        return None

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        del repository, reference
        return False

    def count_pull(self, repository: RepositoryName, tag: Tag) -> None:
        pass

    def close(self) -> None:
        pass

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


def load_blob(upstream: Upstream, repository: RepositoryName, digest: Digest) -> None:
    """Wait until the repository has a blob that it lacks, if *upstream* has it.

    Raises:
        RegistryError: upstream does not send it, or cannot be asked now.
    """
    if coming := upstream.coming_blob(repository, digest):
        coming.fetch()


def available_v1_tags(
    upstream: Upstream, repository: RepositoryName, shown: AbstractSet[Origin], known: Collection[Tag]
) -> dict[Tag, ImageId]:
    """Return the tags that only *upstream* has, as V1 clients see them, who see tags of the origins *shown*.

    Manifests have no V1 view before they are imported, so their tags are loaded, and left out. Of a registry
    with many tags, these are those that are *known* here, and the last ones.
    """
    origin = upstream.origin_of(repository)
    if origin not in shown:
        return {}
    if origin is Origin.V1:
        return {tag: ImageId(image) for tag, image in upstream.available_images(repository).items()}
    tags = upstream.available_tags(repository)
    if upstream.covers(repository):
        here = frozenset(known)
        tags = [*known, *[tag for tag in tags if tag not in here][-_LOADED_AT_ONCE:]]
    for tag in tags:
        upstream.load(repository, tag)
    return {}
