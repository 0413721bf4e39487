"""What every target takes: blobs first, then manifests that name them, then tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes


class TargetInvalid(Exception):
    """The target cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A manifest on its way out.

    Attributes:
        payload: What the digest is of.
        subject: The manifest that it is about, if any.
        signed: Schema 1 with its signatures.
    """

    repository: RepositoryName
    media_type: str
    payload: bytes
    digest: Digest
    subject: Descriptor | None = None
    signed: bytes | None = None


class Target(Protocol):
    """Somewhere that images can go. What is there already is not sent again; all of it may be repeated.

    Attributes:
        takes_schema1: Whether schema 1 has a place there; otherwise it goes as schema 2.
        renames: Whether manifests may get other digests there, so that what one is about must go with it.
        one_by_one: Whether tags must come one after the other.
    """

    takes_schema1: bool
    renames: bool
    one_by_one: bool

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """Bring a blob; return how many bytes were sent.

        Raises:
            Broken: its bytes are not what its digest says.
        """

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """Bring a manifest, and point *tags* at it; tell whether that changed anything.

        Its blobs are there, and the manifests that it names or is about, as far as they leave at all.

        Raises:
            Broken: it has no place there.
        """

    def finish(self) -> None:
        """Complete what can only be written when everything else is there."""


def check_folder(path: Path) -> None:
    """Raise NoTarget unless *path* is a folder, or can become one."""
    first = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not first.is_dir():
        raise TargetInvalid(f"{first} is no folder")
