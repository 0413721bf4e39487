"""What every source is: tags, and what they name; read liberally, never written to.

One sort holds V1 images, which stand on each other; another holds manifests and blobs. (What was saved is a
third: see ``docker_archive``.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId
from dualreg.migrate.findings import Finding


class SourceInvalid(Exception):
    """There is no such source, or it cannot be read; the text says what was looked for."""


@dataclass(frozen=True, slots=True)
class SourceTag:
    """A tag, under the names that clients of the source know.

    Attributes:
        tag: Empty for what no tag leads to.
        image: What the tag names: a V1 image id, or a manifest's digest. It need not be there.
        updated: When it was pushed, or else when its image was made; None: nothing says so.
        along: The images that it is about, as a signature is: it comes along with them.
    """

    repository: str
    tag: str
    image: str
    updated: datetime | None
    along: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Its full name."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.image}"

    @property
    def stamp(self) -> str:
        """``updated`` in ISO 8601; empty if there is none."""
        return self.updated.isoformat() if self.updated else ""


@dataclass(frozen=True, slots=True)
class SourceBytes:
    """A layer or blob of a source, not read yet.

    Attributes:
        size: In bytes, as far as it can be told without reading; 0 if it cannot.
        open: Returns a reader from the beginning.
        path: The file that holds these bytes and nothing else, if there is one.
        changed: If this and the size are what they were, so are the bytes; nanoseconds of a file's time.
    """

    size: int
    open: Callable[[], BinaryIO]
    path: Path | None = None
    changed: int = 0

    @classmethod
    def of(cls, content: bytes) -> "SourceBytes":
        """Return bytes that are in memory."""
        return cls(len(content), lambda: BytesIO(content))


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A V1 image; its JSON and layer are read when they are asked for, as there may be millions.

    Attributes:
        json: Returns its JSON, byte for byte; raises Broken if it cannot be read any more.
        marked: Whether a push of it seems to be under way.
        checksums: What was stated of it, whichever sort; empty if nothing was.
    """

    id: ImageId
    parent: ImageId | None
    json: Callable[[], bytes]
    layer: SourceBytes
    marked: bool = False
    checksums: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Of its layer, in bytes."""
        return self.layer.size

    @property
    def is_stated(self) -> bool:
        """Whether a checksum was."""
        return bool(self.checksums)

    @property
    def likeness(self) -> int:
        """A number that images have in common whose JSONs differ in nothing but the ids."""
        return likeness_of(self.json(), self.id, self.parent)


def likeness_of(json: bytes, id_: ImageId, parent: ImageId | None) -> int:
    """See SourceImage."""
    bare = json
    for each in filter(None, (id_, parent)):
        bare = bare.replace(each.encode(), b"")
    return int.from_bytes(blake2b(bare, digest_size=8).digest())


@runtime_checkable
class RecordsAgents(Protocol):
    """A source that knows who pushed its tags."""

    def agent(self, repository: str, tag: str) -> str:
        """Return what the client that pushed a tag called itself; empty if nobody knows."""


class Live(Protocol):
    """What trees do more, which may stay behind a running registry: answer without being looked through."""

    def tag(self, repository: str, tag: str) -> SourceTag | None:
        """Return a tag; None if there is none."""

    def names_of(self, repository: str) -> Iterator[str]:
        """Yield what may be tags of a repository, unread; nothing if there is no such repository."""

    def folders_of(self, repository: str) -> Sequence[Path]:
        """Return the folders whose time changes when such a name comes or goes."""


@runtime_checkable
class V1Source(Protocol):
    """Somewhere that holds V1 images."""

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags, repository by repository, and what is to be said of tags and repositories."""

    def image_ids(self) -> Iterator[str]:
        """Yield the id of every image, whether a tag leads to it or not."""

    def image(self, id_: str) -> SourceImage:
        """Return an image, as far as it can be told without reading its layer.

        Raises:
            Broken: it lacks something, or is not what it is called.
        """

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """Return what is kept as the image's list of ancestors, itself first; None if there is no list."""

    def homes(self) -> Mapping[str, str]:
        """Return the repositories that images were pushed to, by id, as far as lists were kept of that."""


@dataclass(frozen=True, slots=True)
class SourceManifest:
    """A manifest as a client would push it.

    Attributes:
        media_type: As far as the source tells; empty: what the document says.
        body: With its signatures, if it is schema 1 and they were kept; without, if they were not.
    """

    media_type: str
    body: bytes


class ManifestSource(Protocol):
    """Somewhere that holds manifests and blobs."""

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags and untagged manifests, repository by repository, and what is to be said of them."""

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        """Return a manifest.

        Raises:
            Broken: it is not there, or cannot be read, or is not what its digest says.
        """

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        """Return a blob, not read yet.

        Raises:
            Broken: it is not there.
        """
