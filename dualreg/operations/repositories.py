"""Whole repositories."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dualreg.catalog.rows import Origin
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.session import Group, Listing, page_size
from dualreg.operations.usage import reach_of
from dualreg.patterns import Reach, is_for_repositories
from dualreg.registry.history import RestoredRepository
from dualreg.registry.usage import ListedRepository


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """A repository.

    Attributes:
        tags: How many it has.
        bytes: Of all its blobs.
        own: Of those that no other repository has.
        pushed_at: When a tag was last pushed; null: never.
        pulled_at: When a tag was last pulled; null: never.
        origins: Over which APIs the tags were pushed, or the upstream that the content comes from.
        tag: The first tag that begins as the search says; null: it says nothing of tags.
    """

    name: str
    tags: int
    blobs: int
    bytes: int
    own: int
    created_at: datetime
    pushed_at: datetime | None
    pulled_at: datetime | None
    origins: tuple[str, ...]
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """What is directly under a namespace.

    Attributes:
        name: Of a repository; with a slash at the end, of a namespace.
        facts: Those of the repository; null: it is a namespace.
    """

    name: str
    facts: RepositoryFacts | None


@dataclass(frozen=True, slots=True)
class DeletedRepository:
    """A repository that was deleted, and how many tags it had."""

    repository: RepositoryName
    tags: int


@dataclass(frozen=True)
class RepositoryChanges(Group):
    """Repositories."""

    def list(
        self,
        pattern: str | None = None,
        *,
        search: str | None = None,
        own: bool = False,
        n: int = 100,
        after: str = "",
    ) -> Listing[RepositoryFacts]:
        """List the repositories with tags, sizes, times, and origin, by name.

        A page that is not the last may have fewer, if the search is for a tag that many repositories lack.

        Args:
            pattern: Only those that it matches; * matches anything.
            search: Only those whose names contain it, in which * matches anything; after a colon, how a tag
                of theirs begins.
            own: Only those that the account may push to.
            n: The length of the page.
            after: Only what comes after this name.

        Raises:
            ValueError: the pattern is invalid.
        """
        name, tag = split_search(search or "")
        reach = reach_of(self.session, pattern)
        if name:
            if not is_for_repositories(name):
                return Listing([], None)
            reach = Reach((*reach.groups, (f"*{name}*",)))
        if own:
            reach = Reach((*reach.groups, *self.session.pushable.groups))
        usage = self.session.registry.usage
        rows, end = usage.listed(after=after, limit=page_size(n), reach=reach, tag=tag)
        return Listing([*map(_facts, rows)], end)

    def tree(self, under: str = "", *, n: int = 100, after: str = "") -> Listing[TreeEntry]:
        """List what is directly under a namespace: its repositories, and further namespaces, by name.

        Args:
            under: The namespace, such as team/; empty: what names begin with.
            n: The length of the page.
            after: The end of the page before.

        Raises:
            ValueError: the namespace does not end with a slash.
        """
        if under and not under.endswith("/"):
            raise ValueError(f"invalid namespace {under!r}; write it with a slash at the end, such as team/")
        usage, reach = self.session.registry.usage, self.session.reach
        found, end = usage.level(under, after=after, limit=page_size(n), reach=reach)
        return Listing([TreeEntry(name, _facts(row) if row else None) for name, row in found], end)

    def unseen(self, repository: RepositoryName) -> Sequence[Tag]:
        """List the tags of a repository that V1 clients do not see as an image."""
        return self.session.registry.bridge.unseen(repository)

    def delete(
        self, repository: RepositoryName, *, force: bool = False, dry_run: bool = False
    ) -> DeletedRepository:
        """Delete a repository with its tags, manifests, and V1 images.

        Args:
            force: Delete immutable tags, too.
            dry_run: Only return what would be deleted.

        Raises:
            RepositoryUnknown, TagImmutable, ReadOnly.
        """
        registry = self.session.registry
        self.session.require_deletable()
        tags = registry.repositories.count_tags(repository)
        if dry_run and not force:
            registry.immutability.require_deletable(repository)
        if not dry_run:
            self.session.require_changeable()
            registry.repositories.delete(repository, force=force)
            self.session.record("repository delete", repository=repository, tags=tags)
        return DeletedRepository(repository, tags)

    def restore(self, repository: RepositoryName, *, dry_run: bool = False) -> RestoredRepository:
        """Restore what was in a repository when it was last deleted: manifests, tags, and V1 images.

        Tags that exist again stay as they are. If one is refused, what came before it stays, and the same
        request does the rest.

        Args:
            dry_run: Only return what would be restored.

        Raises:
            RepositoryUnknown, RepositoryOwned, QuotaExceeded, TagImmutable, Unsigned, ReadOnly.
        """
        registry = self.session.registry
        if dry_run:
            return registry.history.restorable(repository)
        self.session.require_changeable()
        registry.require_own(repository)
        found = registry.history.restore_repository(repository)
        self.session.record(
            "repository restore", repository=repository, tags=found.tags, manifests=found.manifests
        )
        return found


def split_search(search: str) -> tuple[str, str | None]:
    """Return the part of a name that is searched for, in lower case, and how a tag begins; None: any.

    No name contains a colon: what follows the last one is of a tag, as in references of images.
    """
    name, colon, tag = search.strip().rpartition(":")
    return (name.lower(), tag) if colon else (tag.lower(), None)


def _facts(row: ListedRepository) -> RepositoryFacts:
    usage, tags, tag = row
    pushed = {Origin.V1: tags.v1, Origin.V2: tags.tags - tags.v1}
    origins = [tags.upstream] if tags.upstream else [str(origin) for origin in pushed if pushed[origin]]
    return RepositoryFacts(
        usage.name, tags.tags, usage.blobs, usage.bytes, usage.own,
        tags.created_at, tags.pushed_at, tags.pulled_at, tuple(origins), tag,
    )  # fmt: skip
