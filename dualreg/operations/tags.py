"""Tags: where they point, what they pointed at, and changes of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dualreg.auth.access import Action
from dualreg.catalog.moves import HistoryPlace, HistoryRow
from dualreg.catalog.orders import TagOrder, TagPlace
from dualreg.catalog.rows import Origin, TagRow
from dualreg.catalog.sizes import TagSize
from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, parse_reference
from dualreg.operations.places import (
    format_number_place,
    format_place,
    parse_number_place,
    parse_place,
    parse_row_number,
)
from dualreg.operations.session import Group, Listing, page_size
from dualreg.registry.deletion import STEP
from dualreg.registry.history import Forgotten, Restoration
from dualreg.registry.tag_details import TagDetail

#: Tags of a page with details.
DETAILS_LIMIT = 100

#: Tags that are deleted or restored at once.
TAGS_AT_ONCE = STEP


@dataclass(frozen=True, slots=True)
class SizedTag:
    """A tag, the manifest that it points at, and what it needs.

    Attributes:
        size: That of the manifest, in bytes.
        pushed_at: When the tag was last pushed.
        pulled_at: When it was last pulled, which is recorded with some delay; null: never.
        origin: The generation of the client that pushed it.
        bytes: Of all that it needs; null: that was not asked for, or is too much to be added up.
        own: Of those, what nothing else needs; null as *bytes*.
        details: Null: they were not asked for.
    """

    name: Tag
    digest: Digest
    media_type: str
    size: int
    pushed_at: datetime
    pulled_at: datetime | None
    origin: Origin
    bytes: int | None
    own: int | None
    details: TagDetail | None = None


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """A tag that was deleted, and what it pointed at."""

    repository: RepositoryName
    tag: Tag
    digest: Digest


@dataclass(frozen=True, slots=True)
class KeptTag:
    """A tag that was left as it is, and why."""

    tag: Tag
    reason: str


@dataclass(frozen=True, slots=True)
class DeletedTags:
    """Tags that were deleted, and those that were not.

    Attributes:
        bytes: Of all that those need together that were deleted; what several need counts once. Null: that is
            too much to be added up.
        own: Of those, what nothing else needs; null as *bytes*. It is freed when their manifests are
            collected.
    """

    repository: RepositoryName
    deleted: Sequence[DeletedTag]
    kept: Sequence[KeptTag]
    bytes: int | None
    own: int | None


@dataclass(frozen=True, slots=True)
class RestoredTags:
    """Tags that were restored, and those that were not."""

    repository: RepositoryName
    restored: Sequence[Tag]
    kept: Sequence[KeptTag]


@dataclass(frozen=True)
class TagChanges(Group):
    """Tags."""

    def list(
        self,
        repository: RepositoryName,
        *,
        prefix: str = "",
        sort: TagOrder = TagOrder.NAME,
        sizes: bool = True,
        details: bool = False,
        n: int = 100,
        after: str | None = None,
    ) -> Listing[SizedTag]:
        """List tags with what they point at and need, and when they were pushed and pulled.

        Args:
            prefix: Only tags that begin with it.
            sort: What they are ordered by; with a minus, what is greatest comes first.
            sizes: Measure what each tag needs.
            details: Find platforms, signatures and other tags of the images, up to 100 on a page.
            n: The length of the page.
            after: The end of the page before.

        Raises:
            ValueError: there are too many for an order that is not by name or push, or they need too much.
            RepositoryUnknown, PageInvalid, ServerBusy.
        """
        registry, place = self.session.registry, parse_number_place(after, Tag.parse)
        limit = min(page_size(n), DETAILS_LIMIT) if details else page_size(n)
        page, end = registry.tags.ordered(
            repository, sort, prefix=prefix, after=TagPlace(*place) if place else None, limit=limit
        )
        found = registry.usage.sizes(repository, page.rows) if sizes else {}
        known = registry.tag_details.of(repository, page.rows) if details else {}
        rows = [_sized(row, found.get(row.digest), known.get(row.name)) for row in page.rows]
        return Listing(rows, format_number_place(end.value, end.name) if end and page.more else None)

    def history(
        self, repository: RepositoryName, tag: Tag, *, n: int = 100, after: str | None = None
    ) -> Listing[HistoryRow]:
        """List the moves and deletions of a tag, the newest first.

        Over HTTP, who made them is shown to accounts that may push.

        Args:
            n: The length of the page.
            after: The end of the page before.

        Raises:
            PageInvalid.
        """
        place = parse_place(after, parse_row_number)
        page = self.session.registry.history.page(
            repository, tag, limit=page_size(n), after=HistoryPlace(*place) if place else None
        )
        rows = page.rows
        if not self.session.allows(repository, Action.PUSH):
            rows = [row._replace(actor="") for row in rows]
        return Listing(rows, format_place(page.end.at, page.end.id) if page.more else None)

    def recent(self, *, n: int = 20) -> Sequence[HistoryRow]:
        """List the last moves and deletions of tags in all repositories, the newest first.

        They are of the last thousand moves. Over HTTP, who made them is shown to accounts that may push.

        Args:
            n: How many, at most.
        """
        rows = self.session.registry.history.recent(limit=page_size(n), reach=self.session.reach)
        return [
            row if self.session.allows(row.repository, Action.PUSH) else row._replace(actor="")
            for row in rows
        ]

    def restore(
        self,
        repository: RepositoryName,
        tag: Tag,
        *,
        to: Digest | None = None,
        at: datetime | None = None,
        dry_run: bool = False,
    ) -> Restoration:
        """Point a tag, or one that was deleted, at what it pointed at before.

        By default, that is the last manifest that it pointed at and does not now.

        Args:
            to: Point it at this manifest.
            at: Point it at what it pointed at then.
            dry_run: Only return what would be changed.

        Raises:
            ValueError: both *to* and *at* are given.
            NotRestorable, RepositoryOwned, TagImmutable, PreconditionFailed, ReadOnly.
        """
        if to and at:
            raise ValueError("give to or at, not both")
        planned = self.session.registry.history.restoration(
            repository, tag, to=to, at=at and at.astimezone(UTC)
        )
        return self._restored(planned, "tag restore", dry_run=dry_run)

    def set(self, repository: RepositoryName, tag: Tag, target: str, *, dry_run: bool = False) -> Restoration:
        """Point a tag at the image of another tag of the repository, or at a manifest that it has.

        Args:
            target: The other tag, or a digest.
            dry_run: Only return what would be changed.

        Raises:
            ValueError: there is no such target.
            NotRestorable, RepositoryOwned, TagImmutable, PreconditionFailed, ReadOnly, TagInvalid.
        """
        row = self.session.registry.manifests.peek(repository, parse_reference(target))
        if row is None:
            raise ValueError(f"there is no {target} in {repository}")
        planned = self.session.registry.history.restoration(repository, tag, to=row.digest)
        return self._restored(planned, "tag set", dry_run=dry_run)

    def delete(self, repository: RepositoryName, tag: Tag, *, dry_run: bool = False) -> DeletedTag:
        """Delete a tag; its manifest and other tags stay.

        Args:
            dry_run: Only return what would be deleted.

        Raises:
            ValueError: there is no such tag.
            TagImmutable, ReadOnly.
        """
        registry = self.session.registry
        self.session.require_deletable()
        row = registry.manifests.peek(repository, tag)
        if row is None:
            raise ValueError(f"there is no tag {tag} in {repository}")
        if not dry_run:
            self.session.require_changeable()
            registry.tags.delete(repository, tag)
            self.session.record("tag delete", repository=repository, tag=tag, digest=str(row.digest))
        return DeletedTag(repository, tag, row.digest)

    def delete_several(
        self, repository: RepositoryName, tags: tuple[Tag, ...], *, dry_run: bool = False
    ) -> DeletedTags:
        """Delete several tags of a repository at once; their manifests and other tags stay.

        Those that do not exist, or are immutable, are kept, and all others are deleted.

        Args:
            tags: Up to 200.
            dry_run: Only return what would be deleted.

        Raises:
            ValueError: there are none, or too many.
            RepositoryUnknown, ReadOnly.
        """
        registry = self.session.registry
        self.session.require_deletable()
        if not 0 < len(tags) <= TAGS_AT_ONCE:
            raise ValueError(f"{len(tags)} tags; give 1 to {TAGS_AT_ONCE}")
        found = registry.tags.plan_deletion(repository, tags)
        size = registry.usage.together(repository, found.going)
        if not dry_run:
            self.session.require_changeable()
            found = registry.tags.delete_several(repository, tags)
            self._record_several("tag delete", repository, found.going)
        return DeletedTags(
            repository,
            [DeletedTag(repository, tag, digest) for tag, digest in found.going.items()],
            _kept(found.kept),
            size and size.bytes,
            size and size.own,
        )

    def restore_several(self, repository: RepositoryName, targets: Mapping[str, Digest]) -> RestoredTags:
        """Restore several tags that were deleted: point them at manifests that they pointed at before.

        Those that exist again, or cannot be restored, are left as they are, and all others are restored.

        Args:
            targets: The manifests by tag, up to 200.

        Raises:
            ValueError: there are none, or too many.
            TagInvalid, RepositoryOwned, ReadOnly.
        """
        if not 0 < len(targets) <= TAGS_AT_ONCE:
            raise ValueError(f"{len(targets)} tags; give 1 to {TAGS_AT_ONCE}")
        wanted = {Tag.parse(tag): digest for tag, digest in targets.items()}
        self.session.require_changeable()
        self.session.registry.require_own(repository)
        restored = dict[Tag, Digest]()
        try:
            kept = self.session.registry.history.restore_several(repository, wanted, restored)
        finally:  # those before an error were restored
            self._record_several("tag restore", repository, restored)
        return RestoredTags(repository, [*restored], _kept(kept))

    def _record_several(self, command: str, repository: RepositoryName, moved: Mapping[Tag, Digest]) -> None:
        """Record a change of several tags, if there was one: the tags, and digests in the same order."""
        if moved:
            digests = [*map(str, moved.values())]
            self.session.record(command, repository=repository, tags=[*moved], digests=digests)

    def forget(
        self, repository: RepositoryName, tag: Tag | None = None, *, dry_run: bool = False
    ) -> Forgotten:
        """Forget what a tag, or all tags of a repository, pointed at, and who moved them.

        Tags that exist stay as they are. What was deleted cannot be restored any longer, unless another tag
        pointed at it.

        Args:
            tag: Only of this tag.
            dry_run: Only return what would be forgotten.

        Raises:
            ReadOnly.
        """
        registry = self.session.registry
        self.session.require_deletable()
        if dry_run:
            return registry.history.forgettable(repository, tag)
        self.session.require_changeable()
        gone = registry.history.forget(repository, tag)
        facts = {"repository": repository, **({"tag": tag} if tag else {})}
        self.session.record("tag forget", **facts, moves=gone.moves, manifests=gone.manifests)
        return gone

    def _restored(self, planned: Restoration, command: str, *, dry_run: bool) -> Restoration:
        """Restore a tag as planned, and record it, unless in a dry run."""
        if dry_run:
            return planned
        self.session.require_changeable()
        self.session.registry.require_own(planned.repository)
        self.session.registry.history.restore(planned)
        self.session.record(
            command,
            repository=planned.repository,
            tag=planned.tag,
            digest=str(planned.new),
            before=planned.old and str(planned.old),
        )
        return planned


def _sized(row: TagRow, size: TagSize | None, details: TagDetail | None) -> SizedTag:
    return SizedTag(
        row.name, row.digest, row.media_type, row.size, row.pushed_at, row.pulled_at, row.origin,
        size and size.bytes, size and size.own, details,
    )  # fmt: skip


def _kept(reasons: Mapping[Tag, RegistryError]) -> Sequence[KeptTag]:
    return [KeptTag(tag, str(error)) for tag, error in reasons.items()]
