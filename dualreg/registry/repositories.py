"""Repositories: the names under which tags, manifests and blobs are kept."""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from dualreg.catalog.deletions import RepositoryDeletions
from dualreg.errors import RepositoryUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import LIBRARY, RepositoryName, in_library
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry.deletion import delete_repository
from dualreg.registry.pages import SCAN_LIMIT, Page
from dualreg.registry.state import State


@dataclass(frozen=True, slots=True)
class Repositories:
    """Creates, deletes, lists and searches repositories."""

    state: State

    def delete(self, name: RepositoryName, *, force: bool = False) -> None:
        """Delete the repository with its tags, manifests, images, links and uploads.

        Bytes of blobs go when no other repository has used them for a while. Meanwhile, clients may see a
        part of a large repository.

        Args:
            force: Also if it has immutable tags.

        Raises:
            RepositoryUnknown.
            TagImmutable: a tag may not be deleted. Nothing was, unless the tag was pushed meanwhile.
        """
        delete_repository(self.state, name, force=force)

    def count_tags(self, name: RepositoryName) -> int:
        """Return how many tags a repository has here, of both origins.

        Raises:
            RepositoryUnknown: it is neither here nor upstream.
        """
        with self.state.catalog.read() as tx:
            found = tx.usage.tags([name])
        if name not in found and not self.state.upstream.available_tags(name, limit=1):
            raise RepositoryUnknown(name=name)
        return found[name].tags if name in found else 0

    def delete_if_empty(self, name: RepositoryName) -> None:
        """Delete the repository if it has no content."""
        with self.state.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            if row and tx.repositories.is_empty(row.id):
                tx.repositories.remove(row.id)
                self.state.links.remove_repository(name)

    def deleted_at(self, name: RepositoryName, *references: str | Digest) -> datetime | None:
        """Return when any of *references* or the whole repository was last deleted; None: never.

        Args:
            references: Tags, digests of manifests and IDs of V1 images.
        """
        with self.state.catalog.read() as tx:
            return tx.deletions.last(name, *references)

    def used(self, names: Collection[RepositoryName]) -> frozenset[str]:
        """Return those of *names* that are repositories, or were, or in which something was deleted."""
        with self.state.catalog.read() as tx:
            return tx.repositories.used(names)

    def upstream(self, name: RepositoryName) -> str | None:
        """Return the URL of the registry that the content of a repository comes from; None: of none."""
        with self.state.catalog.read() as tx:
            return tx.repositories.upstream(name)

    def may_be_upstream(self, name: RepositoryName) -> bool:
        """Return whether the content of a repository comes from upstream, or may: clients pushed none."""
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(name)
            return row is None or bool(tx.repositories.upstream(name)) or tx.repositories.is_empty(row.id)

    def deletions(self, name: RepositoryName) -> RepositoryDeletions:
        """Return when everything that was deleted from the repository was deleted."""
        with self.state.catalog.read() as tx:
            return tx.deletions.of(name)

    def list(self, *, last: str, limit: int, reach: Reach = EVERYWHERE) -> Page[RepositoryName]:
        """Return up to *limit* repositories of *reach* after *last* that contain an image, in byte order.

        A page that is not the last may have fewer, if many repositories in a row are empty.
        """
        names: list[RepositoryName] = []
        if limit == 0:
            return Page(names, more=False)
        scanned_to: RepositoryName | None = None
        with (
            self.state.catalog.read() as tx,
            closing(
                tx.repositories.walk(last=last, limit=SCAN_LIMIT + 1, reach=reach, enough=limit + 1)
            ) as walk,
        ):
            for count, (name, holds_an_image) in enumerate(walk):
                if count == SCAN_LIMIT:
                    return Page(names, more=True, scanned_to=scanned_to)
                if holds_an_image and len(names) == limit:
                    return Page(names, more=True)
                if holds_an_image:
                    names.append(name)
                scanned_to = name
        return Page(names, more=False)

    def search(
        self, term: str, *, offset: int, limit: int, reach: Reach = EVERYWHERE
    ) -> tuple[int, tuple[RepositoryName, ...]]:
        """Return how many names of *reach* contain *term*, and up to *limit* of them from *offset* on."""
        with self.state.catalog.read() as tx:
            return tx.repositories.search(term, offset=offset, limit=limit, reach=reach)

    def resolve(self, name: RepositoryName, reach: Reach = EVERYWHERE) -> RepositoryName:
        """Return the repository of *reach* that a V1 client means by *name*.

        This is *name* if it exists, else its alias with or without ``library/``. If neither exists, it is
        the first of them that *reach* covers.

        Source: every Docker from 0.6 to 1.9 pushes to ``x`` and reads the tags of ``library/x``.
        """
        names = [each for each in (name, alias_of(name)) if reach.covers(each)]
        with self.state.catalog.read() as tx:
            found = tx.repositories.find(*names)
        if found:
            return found.name
        available = (each for each in names if self.state.upstream.available_tags(each, limit=1))
        return next(available, next(iter(names), name))


def alias_of(name: RepositoryName) -> RepositoryName:
    """Return the other name that V1 clients use for the repository; *name* itself if there is none."""
    if name.startswith(LIBRARY):
        return RepositoryName(name.removeprefix(LIBRARY))
    return RepositoryName(in_library(name))
