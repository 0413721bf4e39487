"""The protocol of targets: blobs are written first, then the manifests that name them, then tags."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.registry.v1_seen import SeenImage
from dualreg.storage.names import V1Name


class TargetInvalid(Exception):
    """The target cannot be used; the text says why."""


#: Files of a step, about.
STEP_FILES = 1000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A manifest to be exported.

    Attributes:
        payload: The bytes that *digest* is computed from.
        subject: The manifest that it is about, if any.
        signed: Of schema 1, the document with its signatures.
        v1_images: Those that V1 clients pushed and see it as, base first, with their JSONs; their layers were
            written before. Only for targets that take them.
        seen: The V1 image that V1 clients see its tag as, and its ancestors, the base last; none if they see
            none. Only for targets that show them.
    """

    repository: RepositoryName
    media_type: str
    payload: bytes
    digest: Digest
    subject: Descriptor | None = None
    signed: bytes | None = None
    v1_images: tuple[tuple[V1Name, bytes], ...] = ()
    seen: tuple[SeenImage, ...] = ()


class Receiver(Protocol):
    """Takes blobs and manifests: blobs are written first, then the manifests that name them."""

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """Write a blob; return how many bytes were written, 0 if the target has it.

        Raises:
            Broken: its content has another digest.
        """

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """Write a manifest, and point *tags* at it; return whether that changed anything.

        Its blobs, and the manifests that it names or is about, were written before, if they are exported.

        Raises:
            Broken: the target cannot hold it.
        """


class Step(Receiver, Protocol):
    """Takes those of several tags, which get their names together."""

    @property
    def is_full(self) -> bool:
        """Whether no further tag should be begun."""


class Target(Protocol):
    """A place that images are exported to. Everything may be repeated; existing content is not written again.

    Attributes:
        takes_schema1: Whether it accepts schema 1; otherwise such manifests are converted to schema 2.
        takes_v1: Whether V1 images go with the manifests that they were made into.
        shows_v1: Whether V1 clients are served from it, so that it gets what they see tags as.
        renames: Whether manifests may get other digests, so that their subjects must be exported with them.
        one_by_one: Whether tags must be exported one at a time.
        is_quick: Whether a step takes many tags, with few waits for the disk.
    """

    takes_schema1: bool
    takes_v1: bool
    shows_v1: bool
    renames: bool
    one_by_one: bool
    is_quick: bool

    @property
    def served(self) -> AbstractSet[str] | None:
        """Media types of manifests that the current release of the target's registry serves; None: all."""

    @property
    def is_stream(self) -> bool:
        """Whether somebody may be reading what is written, so that stdout must be left to it."""

    def step(self) -> AbstractContextManager[Step]:
        """Return a step: a context, at whose end everything that it has taken is durable at the target.

        Until then, nothing of it has a name there, but for what is large. After a failure, some of it may;
        that is complete, and so is all that it names. Several threads may have a step each.

        Raises:
            OSError: it could not be written.
        """

    def forget(self, repository: RepositoryName) -> None:
        """Forget what is only needed for further tags of a repository: there are none."""

    def finish(self) -> None:
        """Write what can only be written after everything else, such as lists and indexes."""

    def close(self) -> None:
        """Release the target, and discard what was written to it unless it is usable; may be repeated."""


class SingleSteps:
    """The part of a target that writes each tag as it comes, and remembers nothing by repository."""

    shows_v1 = False
    is_quick = False
    is_full = True

    def step(self) -> AbstractContextManager[Self]:
        """Return the target itself."""
        return nullcontext(self)

    def forget(self, repository: RepositoryName) -> None:
        """Do nothing."""


def check_folder(path: Path) -> None:
    """Raise TargetInvalid unless *path* is a folder or can be created as one."""
    first = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not first.is_dir():
        raise TargetInvalid(f"{first} is not a directory")
