"""LinkTree: the interface of the part of a driver that keeps link files.

``tests/contracts/blob_store.py`` tests these promises, too, against every driver.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from dualreg.image.names import UploadId


@dataclass(frozen=True, slots=True)
class LinkFile:
    """The content of a link file, and when it was written or what it was dated (aware, UTC)."""

    content: bytes
    at: datetime


class StagedLink(NamedTuple):
    """A link file that is about to be *name* in *folder*, dated *at*; until then, it is kept as *upload*.

    Attributes:
        once: A file with this content is right, whatever its date.
    """

    upload: UploadId
    folder: str
    name: str
    content: bytes
    at: datetime
    once: bool = False

    @property
    def path(self) -> str:
        """Where it will be."""
        return f"{self.folder}/{self.name}"

    @property
    def due(self) -> datetime | None:
        """What a file must be dated to be right; None: anything."""
        return None if self.once else self.at


class FolderLinks(NamedTuple):
    """A folder of link files that is about to be removed; *files* are all that services write in it."""

    path: str
    files: Sequence[str] = ()


class LinkReader(Protocol):
    """Reads link files; paths are relative to the folder of repositories."""

    def read_link(self, path: str) -> LinkFile | None:
        """Return a file; None if there is none.

        Raises:
            OSError: it cannot be read, or is not a regular file, or is far larger than any link.
        """

    def list_links(self, folder: str) -> Sequence[str]:
        """Return the names in *folder*, sorted; those of folders end in a slash; none if it is absent.

        Raises:
            OSError: it cannot be read.
        """


class LinkTree(LinkReader, Protocol):
    """The part of a driver that keeps link files.

    All methods may be called by several threads and processes at once.
    """

    def read_links(self, paths: Sequence[str]) -> Sequence[LinkFile | None]:
        """Return several files, each as ``read_link``."""

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        """Create or replace a file, atomically and durably, and date it *at*.

        Args:
            at: None: now; a file that has this content already is then left as it is.
        """

    def stage_links(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> None:
        """Write files durably that are not in their folders yet; they are kept until placed or dropped.

        Nothing need be written if the file that is there is right.

        Args:
            links: All of one repository. Where several need the same new folder, to place one may place all.
            waits: Called meanwhile, or when the files are durable; what ``prepare`` of the same driver
                returned is waited for together with them.
        """

    def place_links(self, links: Sequence[StagedLink]) -> None:
        """Create or replace files by those that were staged: each atomically, and all durably."""

    def remove_link(self, *paths: str) -> None:
        """Remove files, durably, and folders that become empty. It is not an error if there are none."""

    def quarantine_link(self, path: str) -> None:
        """Move a file, durably, to where no name reaches it; it is kept for the operator.

        It is not an error if there is none.
        """

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        """Remove *folders* durably, each at once: with all files in them, or with those that they name.

        Absent ones are no error. The files are kept as *aside*, where no name reaches them, until they are
        brought back or dropped. Those that a crash leaves are collected like staged bytes.
        """

    def bring_back(self, aside: UploadId, *folders: FolderLinks) -> None:
        """Return files to the folders that were set aside, durably; those that were written since stay."""

    def drop(self, aside: UploadId) -> None:
        """Delete files that were set aside, or one that was staged, if there are any."""

    def link_paths(self) -> Iterator[str]:
        """Yield the path of every file, in order, without reading any."""

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path and content of every file, ordered by path."""
