"""The protocols of sources, and the tags, images and manifests that they return.

A source has V1 images or manifests (saved images are different again: see ``docker_archive``). It is read
liberally, and never written to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId
from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.plan import full_name
from dualreg.storage.base import Keeps
from dualreg.storage.names import V1Name


class SourceInvalid(Exception):
    """There is no such source, or it cannot be read; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class SourceTag:
    """A tag, named as clients of the source name it; or an untagged image.

    Attributes:
        tag: Empty for an untagged image.
        image: A V1 image id, or the digest of a manifest. There may be no such image.
        updated: When it was pushed, or else when its image was created; None if neither is known.
        subjects: The images that it is about, for instance as a signature: it is imported with them.
        lost: Why it cannot be read; ``image`` is empty then. Without a tag, what cannot be read is the
            repository, or all repositories below that name; or, with an image, what is attached to that.
            None if it can be read.
    """

    repository: str
    tag: str
    image: str
    updated: datetime | None
    subjects: frozenset[str] = frozenset()
    lost: Finding | None = None

    @property
    def name(self) -> str:
        """The full name, as ``full_name`` returns it."""
        return full_name(self.repository, self.tag, self.image)

    @property
    def stamp(self) -> str:
        """``updated`` in ISO 8601; empty if it is unknown."""
        return self.updated.isoformat() if self.updated else ""


def lost_tag(kind: FindingKind, repository: str, tag: str, text: str, image: str = "") -> SourceTag:
    """Return a tag that cannot be read; or, without a tag, a repository, or what is attached to *image*."""
    finding = Finding(kind, full_name(repository, tag, image), text)
    return SourceTag(repository, tag, image, None, lost=finding)


@dataclass(frozen=True, slots=True)
class SourceBytes:
    """A layer or blob of a source, not read yet.

    Attributes:
        size: In bytes; 0 also if that is unknown until it is read.
        open: Returns a reader, positioned at the beginning.
        path: The file with exactly these bytes, if there is one.
        changed: Modification time in nanoseconds. If it and the size are unchanged, so are the bytes.
    """

    size: int
    open: Callable[[], BinaryIO]
    path: str | Path | None = None
    changed: int = 0

    @classmethod
    def of(cls, content: bytes) -> "SourceBytes":
        """Return bytes in memory."""
        return cls(len(content), lambda: BytesIO(content))

    @property
    def known_size(self) -> int | None:
        """The size; None if it is unknown until they are read."""
        return self.size if self.size or self.path else None


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A V1 image. JSON and layer are read on request, as there may be millions of images.

    Attributes:
        json: Returns its JSON, byte for byte; raises Broken if it cannot be read any more.
        marked: Whether it is marked as being pushed.
        checksums: Those that the source states, of any algorithm; may be empty.
        recorded: What another dualreg has recorded of it, and is taken over if the bytes agree; None: it is
            found out.
        left_out: Whether the source lacks its layer, since this registry has it.
    """

    id: ImageId
    parent: ImageId | None
    json: Callable[[], bytes]
    layer: SourceBytes
    marked: bool = False
    checksums: tuple[str, ...] = ()
    recorded: V1Name | None = None
    left_out: bool = False

    @property
    def size(self) -> int:
        """The bytes of its layer."""
        return self.layer.size

    @property
    def has_checksum(self) -> bool:
        """Whether the source states a checksum."""
        return bool(self.checksums)

    @property
    def likeness(self) -> int:
        """A number that is equal for images whose JSONs differ only in the ids."""
        return likeness_of(self.json(), self.id, self.parent)

    def share_id(self, images: Mapping[str, "SourceImage"]) -> None:
        """Name the parent, if it is among *images*, by the id that it has itself: there may be millions."""
        if self.parent and (parent := images.get(self.parent)):
            object.__setattr__(self, "parent", parent.id)


def likeness_of(json: bytes, id_: ImageId, parent: ImageId | None) -> int:
    """Return the ``SourceImage.likeness`` of an image."""
    bare = json
    for each in filter(None, (id_, parent)):
        bare = bare.replace(each.encode(), b"")
    return int.from_bytes(blake2b(bare, digest_size=8).digest())


class V1Source(Protocol):
    """A source of V1 images."""

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags, repository by repository, and findings about tags and repositories."""

    def image_ids(self) -> Iterator[str]:
        """Yield the id of each image, whether a tag uses it or not."""

    def image(self, id_: str) -> SourceImage:
        """Return an image, without reading its layer.

        Raises:
            Broken: a part of it is missing or damaged, or it has another id.
        """

    def ancestry(self, id_: str) -> Sequence[str] | None:
        """Return the stored list of an image and its ancestors, itself first; None if there is no list."""

    def agent(self, repository: str, tag: str) -> str:
        """Return the User-Agent of the client that pushed a tag; empty if it is not known."""

    def homes(self) -> Mapping[str, str]:
        """Return a repository that each image was pushed to, by id, if the source recorded it."""


@dataclass(frozen=True, slots=True)
class SourceManifest:
    """A manifest as a client would push it.

    Attributes:
        media_type: Empty if the source does not know: then the document says it.
        body: Of schema 1, with the signatures if they were kept.
    """

    media_type: str
    body: bytes


class ManifestSource(Protocol):
    """A source of manifests and blobs."""

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield all tags and untagged manifests, repository by repository, and findings about them."""

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        """Return a manifest.

        Raises:
            Broken: it is missing, cannot be read, or has another digest.
        """

    def pushed_at(self, repository: str, digest: Digest) -> datetime | None:
        """Return when a manifest was first pushed to the repository; None if that is unknown."""

    def pusher(self, repository: str, tag: str) -> tuple[Origin, str]:
        """Return the generation of the client that pushed a tag, and its User-Agent if that is known."""

    def v1_chain(self, repository: str, digest: Digest) -> tuple[SourceImage, ...]:
        """Return the images that V1 clients pushed and see a manifest as, base first; none if unknown.

        Raises:
            Broken: a part of them is missing or damaged.
        """

    def is_store(self, keeps: Keeps) -> bool:
        """Return whether the source is the store that *keeps* is of, which only lacks the catalog rows."""

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        """Return a blob, not read yet.

        Raises:
            Broken: it is missing.
        """


class OfV2Clients:
    """The part of a ManifestSource that knows nothing of V1 clients, nor of times."""

    __slots__ = ()

    def pushed_at(self, repository: str, digest: Digest) -> datetime | None:
        """Return None: the source does not say."""
        del repository, digest
        return None

    def pusher(self, repository: str, tag: str) -> tuple[Origin, str]:
        """Return what is assumed of every tag."""
        del repository, tag
        return Origin.V2, ""

    def v1_chain(self, repository: str, digest: Digest) -> tuple[SourceImage, ...]:
        """Return none: V1 images are derived."""
        del repository, digest
        return ()
