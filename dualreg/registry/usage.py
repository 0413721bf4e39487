"""Usage: how many bytes repositories and namespaces have, and how many of them would go with them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import TagRow, UsageRow
from dualreg.catalog.sizes import RepositoryTags, TagSize
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import EVERYWHERE, Reach
from dualreg.registry.pages import SCAN_LIMIT
from dualreg.registry.state import State

#: Blobs of repositories that a page of namespaces may look at; of one namespace, more.
LINKS_LIMIT = 100_000
#: The same where nobody is to wait; larger namespaces are listed without their bytes.
BRIEF_LIMIT = 4_000
#: Repositories whose tags are looked at by one statement.
_STEP = 500


class UsagePage(NamedTuple):
    """Usage by name, in byte order; *after* is where the next page begins, None if there is none."""

    rows: Sequence[UsageRow]
    after: str | None


class ListedNamespace(NamedTuple):
    """A namespace.

    Attributes:
        is_repository: Whether a repository has this name.
        usage: None: it has more than 5,000 blobs, or repositories, which were not added up.
    """

    name: str
    is_repository: bool
    usage: UsageRow | None


class ListedRepository(NamedTuple):
    """A repository with its usage and its tags.

    Attributes:
        tag: The first one that begins as was asked; None: that was not asked.
    """

    usage: UsageRow
    tags: RepositoryTags
    tag: str | None = None


class Total(NamedTuple):
    """What the store has: the *blobs* of repositories and their *bytes*, and bytes that are *garbage*.

    Attributes:
        deleted: Bytes that no repository has, and that are kept because they can be restored.
    """

    blobs: int
    bytes: int
    garbage: int
    deleted: int = 0


class NamespaceTooLarge(ValueError):
    """A namespace has more blobs than may be looked at for one account's question."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Measures what is stored, as the catalog has it; editions and all else that was made here count, too."""

    state: State

    def repositories(self, *, after: str = "", limit: int, reach: Reach = EVERYWHERE) -> UsagePage:
        """Return the usage of up to *limit* repositories of *reach*.

        Args:
            after: What the page before gave.
        """
        with self.state.catalog.read() as tx:
            names = tx.usage.names(after, reach, limit + 1)
            rows = tx.usage.repositories(names[:limit]) if limit else ()
        return UsagePage(rows, names[limit - 1] if limit and len(names) > limit else None)

    def listed(
        self, *, after: str = "", limit: int, reach: Reach = EVERYWHERE, tag: str | None = None
    ) -> tuple[Sequence[ListedRepository], str | None]:
        """Return up to *limit* repositories of *reach*, in byte order, and where the next page begins.

        A page that is not the last may have fewer, if many in a row lack such a tag.

        Args:
            after: What the page before gave.
            tag: Only those with a tag that begins with it.
        """
        with self.state.catalog.read() as tx:
            names, end = (
                _named(tx, after, limit, reach) if tag is None else _tagged(tx, after, limit, reach, tag)
            )
            rows, tags = tx.usage.repositories([*names]), tx.usage.tags([*names])
        # One may be deleted after its bytes were counted.
        found = (ListedRepository(row, tags[row.name], names[row.name]) for row in rows if row.name in tags)
        return [*found], end

    def level(
        self, under: str, *, after: str = "", limit: int, reach: Reach = EVERYWHERE
    ) -> tuple[Sequence[tuple[str, ListedRepository | None]], str | None]:
        """Return up to *limit* names under a namespace, in byte order, and where the next page begins.

        A name that ends with a slash is that of a namespace; all others are repositories.

        Args:
            under: The namespace with its slash; empty: the names that begin.
            after: What the page before gave.
        """
        with self.state.catalog.read() as tx:
            names = tx.usage.level(under, after, reach, limit + 1)
            shown = names[:limit]
            repositories = [name for name in shown if not name.endswith("/")]
            rows = {row.name: row for row in tx.usage.repositories(repositories)}
            tags = tx.usage.tags(repositories)
        found = [(name, ListedRepository(rows[name], tags[name]) if name in tags else None) for name in shown]
        return found, shown[-1] if len(names) > limit else None

    def sizes(self, repository: RepositoryName, tags: Sequence[TagRow]) -> dict[Digest, TagSize]:
        """Return how many bytes tags of a repository need, by the manifests that they point at.

        That is the manifest and all that it names in the repository. No other tag or manifest needs those
        that are their own, and no other repository has them. What was made of the manifest is no other.
        Manifests that need very much are left out; so are those that were deleted.
        """
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            return tx.usage.sizes(row.id, [tag.digest for tag in tags]) if row else {}

    def together(self, repository: RepositoryName, tags: Collection[Tag]) -> TagSize | None:
        """Return how many bytes tags of a repository need together, as ``sizes`` does of each.

        So what only these tags share is their own. None: they need too much to add it up, or were deleted.
        """
        if not tags:
            return TagSize(0, 0)
        with self.state.catalog.read() as tx:
            row = tx.repositories.find(repository)
            return tx.usage.together(row.id, tags) if row else None

    def namespaces(
        self,
        depth: int,
        *,
        after: str = "",
        limit: int,
        reach: Reach = EVERYWHERE,
        bounded: bool = False,
    ) -> UsagePage:
        """Return the usage of up to *limit* namespaces, each the first *depth* components of names.

        Blobs count once in each, and are shared if repositories outside, or outside *reach*, have them. A
        page that is not the last may have fewer, if these have many blobs.

        Args:
            after: What the page before gave.
            bounded: Refuse a namespace that alone has more than a page may look at.

        Raises:
            NamespaceTooLarge: there is one.
        """
        rows, left, end = list[UsageRow](), LINKS_LIMIT, after
        with self.state.catalog.read() as tx:
            for name, following in islice(tx.usage.namespaces(after, depth, reach), limit + 1):
                links = tx.usage.links(name, depth, reach, LINKS_LIMIT + 1)
                if len(rows) == limit or (rows and links > left):
                    return UsagePage(rows, end if rows else None)
                if bounded and links > LINKS_LIMIT:
                    raise NamespaceTooLarge(f"{name} has more than {LINKS_LIMIT} blobs in its repositories")
                rows.append(tx.usage.namespace(name, depth, reach))
                left, end = left - links, following
        return UsagePage(rows, None)

    def overview(
        self, depth: int, *, after: str = "", limit: int, reach: Reach = EVERYWHERE
    ) -> tuple[Sequence[ListedNamespace], str | None]:
        """Return up to *limit* namespaces, as ``namespaces``, and where the next page begins.

        The page looks at few blobs, however many namespaces have: large ones are not added up, and it has
        fewer if those on it have many.

        Args:
            after: What the page before gave.
        """
        rows, left, end = list[ListedNamespace](), BRIEF_LIMIT, after
        with self.state.catalog.read() as tx:
            for name, following in islice(tx.usage.namespaces(after, depth, reach), limit + 1):
                links = tx.usage.extent(name, depth, reach, BRIEF_LIMIT + 1) if len(rows) < limit else 0
                if len(rows) == limit or left < links <= BRIEF_LIMIT:
                    return rows, end
                row = tx.usage.namespace(name, depth, reach) if links <= left else None
                rows.append(ListedNamespace(name, following == name, row))
                left, end = left - (links if row else 0), following
        return rows, None

    def total(self) -> Total:
        """Return what all repositories have together; this counts all blobs."""
        with self.state.catalog.read() as tx:
            row, (deleted, garbage) = tx.usage.total(), tx.usage.unlinked()
            return Total(row.blobs, row.bytes, garbage, deleted)


def _named(tx: Transaction, after: str, limit: int, reach: Reach) -> tuple[dict[str, str | None], str | None]:
    """Return up to *limit* repositories of *reach*, and where the next page begins."""
    names = tx.usage.names(after, reach, limit + 1)
    return dict.fromkeys(names[:limit]), names[limit - 1] if len(names) > limit else None


def _tagged(
    tx: Transaction, after: str, limit: int, reach: Reach, prefix: str
) -> tuple[dict[str, str | None], str | None]:
    """Return the same of those with a tag that begins with *prefix*, each with its first one."""
    found, names = dict[str, str | None](), tx.usage.names(after, reach, SCAN_LIMIT + 1)
    for looked_at in batches(names[:SCAN_LIMIT], _STEP):
        for name, tag in tx.usage.first_tags(looked_at, prefix):
            if len(found) == limit:
                return found, [*found][-1]
            found[name] = tag
    return found, names[SCAN_LIMIT - 1] if len(names) > SCAN_LIMIT else None
