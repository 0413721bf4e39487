"""What the link files of a repository say, read as a whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.storage.names import ManifestName, Names, OddEntry, TagName, V1Name

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Said:
    """What the tree says of a repository; nothing, if it does not have it.

    Attributes:
        blobs: What may be read from it, and since when.
        odd: What was not understood.
    """

    blobs: dict[Digest, datetime] = field(default_factory=dict)
    manifests: dict[Digest, ManifestName] = field(default_factory=dict)
    tags: dict[Tag, TagName] = field(default_factory=dict)
    images: dict[ImageId, V1Name] = field(default_factory=dict)
    odd: list[OddEntry] = field(default_factory=list)

    @classmethod
    def read(cls, names: Names, name: RepositoryName) -> "Said":
        """Read the link files of a repository, tags first: what a tag needs may arrive meanwhile."""
        odd = list[OddEntry]()

        def understood(entries: Iterable[_Item | OddEntry]) -> Iterator[_Item]:
            for entry in entries:
                if isinstance(entry, OddEntry):
                    odd.append(entry)
                else:
                    yield entry

        tags = {each.tag: each for each in understood(names.tags(name))}
        manifests = {each.digest: each for each in understood(names.manifests(name))}
        images = {each.id: each for each in understood(names.v1_images(name))}
        blobs = {each.digest: each.at for each in understood(names.blobs(name))}
        return cls(blobs, manifests, tags, images, odd)

    @property
    def is_readable(self) -> bool:
        """Whether everything could be read, so that what is not said is not there."""
        return not any(entry.unread for entry in self.odd)
