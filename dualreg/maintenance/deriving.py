"""Deriving: editions of tagged images, made ahead; and tags that are pointed at them, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dualreg.catalog.rows import ManifestRow, Origin, PlacedTag
from dualreg.errors import BlobDamaged, BlobMissing, PreconditionFailed, RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.editions import Edition, Family
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.preconditions import Precondition


class Derived(NamedTuple):
    """What a tag has become.

    Attributes:
        new: Its edition; the manifest itself, if it is one; None: it cannot be made, or was not yet.
        reason: Why there is none; empty otherwise.
    """

    placed: PlacedTag
    edition: Edition
    new: Digest | None
    reason: str = ""

    @property
    def name(self) -> str:
        """The tag with its repository."""
        return f"{self.placed.repository}:{self.placed.row.name}"

    @property
    def is_same(self) -> bool:
        """Whether the tag points at such an image itself."""
        return self.new == self.placed.row.digest


class Moved(NamedTuple):
    """A tag that is pointed from one manifest at another; its origin stays."""

    repository: RepositoryName
    tag: Tag
    edition: str
    old: Digest
    new: Digest
    origin: Origin

    @classmethod
    def of(cls, derived: Derived, new: Digest) -> "Moved":
        """Return the move of a tag to its edition."""
        row = derived.placed.row
        return cls(derived.placed.repository, row.name, str(derived.edition), row.digest, new, row.origin)

    @classmethod
    def parse(cls, row: Mapping[str, str]) -> "Moved":
        """Return the move that a row of texts spells, by the names of the attributes.

        Raises:
            RegistryError, KeyError, ValueError: it spells none.
        """
        return cls(
            RepositoryName.parse(row["repository"]), Tag.parse(row["tag"]), row["edition"],
            Digest.parse(row["old"]), Digest.parse(row["new"]), Origin(row["origin"]),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The tag with its repository."""
        return f"{self.repository}:{self.tag}"

    def back(self) -> "Moved":
        """Return the move that undoes it."""
        return self._replace(old=self.new, new=self.old)


@dataclass(frozen=True, slots=True)
class Deriving:
    """Makes editions, for any number of threads.

    Attributes:
        dry_run: Make nothing: ``Derived.new`` is None of what would be made.
        whole: Whether editions of indexes must have all images, since tags are pointed at them.
    """

    registry: Registry
    dry_run: bool = False
    whole: bool = False

    def derive(self, placed: PlacedTag, edition: Edition) -> Derived:
        """Make an edition of a tagged image, and store it, unless there is one."""
        try:
            if not self._is_needed(placed, edition):
                return Derived(placed, edition, placed.row.digest)
            made = None if self.dry_run else self._make(placed, edition)
        except (RegistryError, BlobMissing, BlobDamaged, ValueError) as error:
            return Derived(placed, edition, None, str(error))
        if made and made.media_type in media_types.SCHEMA1_TYPES:
            return Derived(placed, edition, None, "schema 1 that cannot be converted")
        return Derived(placed, edition, made.digest if made else None)

    def _is_needed(self, placed: PlacedTag, edition: Edition) -> bool:
        """Return whether a tag points at something else than an image with what the edition promises."""
        media_type = placed.row.media_type
        if media_type in media_types.SCHEMA1_TYPES:
            return edition is not Edition.GZIP
        if media_type not in media_types.IMAGES | media_types.INDEXES:
            return False
        nature = self.registry.editions.nature(placed.repository, _row(placed))
        wanted = edition.family(media_type)
        others = {Family.of(media_type), *nature.families} - {wanted}
        is_other = bool(others) and edition is not Edition.GZIP
        return not nature.artifact and (nature.zstd or is_other)

    def _make(self, placed: PlacedTag, edition: Edition) -> ManifestRow:
        row = _row(placed)
        return self.registry.negotiation.edition(
            placed.repository, placed.row.name, row, edition, whole=self.whole
        )

    def move(self, moved: Moved) -> str:
        """Point a tag at the new manifest if it points at the old one; return why not, empty if it was."""
        condition = Precondition(match=frozenset({str(moved.old)}))
        try:
            self.registry.require_own(moved.repository)
            self.registry.manifests.retag(
                moved.repository, moved.tag, moved.new, moved.origin, condition=condition
            )
        except PreconditionFailed:
            row = self.registry.manifests.peek(moved.repository, moved.tag)
            is_done = row is not None and row.digest == moved.new
            return "" if is_done else "the tag was moved or deleted meanwhile"
        except RegistryError as error:
            return str(error)
        return ""


def _row(placed: PlacedTag) -> ManifestRow:
    tag = placed.row
    return ManifestRow(placed.repository_id, tag.digest, tag.media_type, tag.size, tag.origin)
