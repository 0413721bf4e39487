"""Bytes of repositories and namespaces."""

from dataclasses import dataclass

from dualreg.catalog.rows import UsageRow
from dualreg.operations.session import Group, Listing, Session, page_size
from dualreg.patterns import Reach, check_pattern
from dualreg.registry.usage import ListedNamespace, NamespaceTooLarge, Total, UsagePage

#: Components of the longest names.
_DEEPEST = 20


@dataclass(frozen=True)
class Usages(Group):
    """How many bytes repositories have."""

    def repositories(self, pattern: str | None = None, *, n: int = 100, after: str = "") -> Listing[UsageRow]:
        """Show how many bytes repositories have, by name.

        Args:
            pattern: Only of repositories that it matches; * matches anything.
            n: The length of the page.
            after: Only what comes after this name.

        Raises:
            ValueError: the pattern is invalid.
        """
        reach = reach_of(self.session, pattern)
        return _listing(
            self.session.registry.usage.repositories(after=after, limit=page_size(n), reach=reach)
        )

    def namespaces(
        self, depth: int, pattern: str | None = None, *, n: int = 100, after: str = ""
    ) -> Listing[UsageRow]:
        """Show how many bytes namespaces have, by name. What several repositories have counts once in each.

        Only repositories that the account may pull count. A page that is not the last may have fewer
        namespaces than wanted, if they are large; one with more than 100,000 blobs is for administrators.

        Args:
            depth: How many components of the names of repositories make a namespace, 1 to 20.
            pattern: Only of repositories that it matches; * matches anything.
            n: The length of the page.
            after: Where the page before ended.

        Raises:
            ValueError: the depth or the pattern is invalid, or a namespace is too large for the account.
        """
        _check_depth(depth)
        reach, usage = reach_of(self.session, pattern), self.session.registry.usage
        bounded = not self.session.administers()
        try:
            page = usage.namespaces(depth, after=after, limit=page_size(n), reach=reach, bounded=bounded)
        except NamespaceTooLarge as error:
            hint = "give a pattern, or a greater depth, or ask an administrator"
            raise ValueError(f"{error}: {hint}") from error
        return _listing(page)

    def overview(
        self, depth: int, pattern: str | None = None, *, n: int = 100, after: str = ""
    ) -> Listing[ListedNamespace]:
        """Show namespaces, by name, and how many bytes those have that are not large.

        As the usage of namespaces, but a page looks at no more than 5,000 blobs.

        Args:
            depth: How many components of the names of repositories make a namespace, 1 to 20.
            pattern: Only of repositories that it matches; * matches anything.
            n: The length of the page.
            after: Where the page before ended.

        Raises:
            ValueError: the depth or the pattern is invalid.
        """
        _check_depth(depth)
        reach, usage = reach_of(self.session, pattern), self.session.registry.usage
        return Listing(*usage.overview(depth, after=after, limit=page_size(n), reach=reach))

    def total(self) -> Total:
        """Show what all repositories have together; this counts all blobs."""
        return self.session.registry.usage.total()


def reach_of(session: Session, pattern: str | None) -> Reach:
    """Return the repositories that match a pattern, of those that are shown.

    Raises:
        ValueError: the pattern is invalid.
    """
    own = session.reach
    return Reach((*own.groups, (check_pattern(pattern),))) if pattern else own


def _check_depth(depth: int) -> None:
    if not 1 <= depth <= _DEEPEST:
        raise ValueError(f"invalid depth {depth}; expected 1 to {_DEEPEST}")


def _listing(page: UsagePage) -> Listing[UsageRow]:
    return Listing(page.rows, page.after)
