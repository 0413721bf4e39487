"""Immutability: rules of tags that stay as they are, once they exist.

The service changes the rules; the functions say what they forbid when tags go. ``Pointing`` asks them before
it moves tags.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import ImmutableRow, RepositoryRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import check_pattern, has_wildcard
from dualreg.registry.state import State

#: Any part of ``REPOSITORY:TAG``, with wildcards.
_PATTERN = re.compile(r"[a-z0-9._/*-]+(?::[A-Za-z0-9._*-]+)?", re.ASCII)
_LIMIT = 400


@dataclass(frozen=True, slots=True)
class Immutability:
    """Manages the rules of immutable tags. They hold for every request that begins after their change."""

    state: State

    def rules(self) -> Sequence[ImmutableRow]:
        """Return the rules, by pattern."""
        with self.state.catalog.read() as tx:
            return tx.policies.immutable()

    def add(self, pattern: str) -> bool:
        """Make the tags immutable that match *pattern*, also those that are pushed later.

        Return False if there is such a rule.

        Raises:
            ValueError: the pattern is invalid, or can match no tag.
        """
        _check(pattern)
        with self.state.catalog.begin() as tx:
            tx.policies.change()
            return tx.policies.add_immutable(pattern)

    def remove(self, pattern: str) -> None:
        """Remove a rule.

        Raises:
            ValueError: there is none.
        """
        with self.state.catalog.begin() as tx:
            tx.policies.change()
            if not tx.policies.remove_immutable(pattern):
                raise ValueError(f"no rule {pattern}; `dualreg immutable list` lists them")

    def rule_of(self, repository: RepositoryName, tag: Tag) -> str | None:
        """Return the first rule that makes a tag immutable, or will when it is pushed; None: no rule does."""
        with self.state.catalog.read() as tx:
            return self.state.policies.of(tx, None).rule_of(repository, tag)

    def require_deletable(self, repository: RepositoryName) -> None:
        """Check that a repository may be deleted with its tags.

        Raises:
            TagImmutable.
        """
        require_all_movable(self.state, repository)


def _check(pattern: str) -> None:
    check_pattern(pattern)
    valid = _PATTERN.fullmatch(pattern) and len(pattern) <= _LIMIT
    if not valid or not (":" in pattern or has_wildcard(pattern)):
        raise ValueError(
            f"invalid pattern {pattern!r}; expected REPOSITORY:TAG, with * for anything: team/*:v*"
        )


def require_pointable(
    state: State, tx: Transaction, repository: RepositoryRow, tags: Sequence[Tag], manifest: Digest
) -> None:
    """Check that *tags*, some of which point elsewhere, may be moved to a manifest.

    Raises:
        TagImmutable.
    """
    policies = state.policies.of(tx, repository)
    bound = policies.bound(repository.name, tags)
    if bound and len(tags) > 1:
        bound = sorted(tx.tags.elsewhere(repository.id, [*map(Tag, bound)], manifest))
    policies.require_movable(repository.name, bound)


def require_untied(state: State, tx: Transaction, repository: RepositoryRow, manifest: Digest) -> None:
    """Check that a manifest may be deleted with all its tags.

    Raises:
        TagImmutable: one of them may not.
    """
    policies = state.policies.of(tx, repository)
    if policies.may_bind(repository.name):
        policies.require_movable(repository.name, sorted(tx.tags.pointing_at(repository.id, manifest)))


def require_all_movable(state: State, name: RepositoryName) -> None:
    """Check that all tags of a repository may be deleted, also those that only upstream has.

    Raises:
        TagImmutable.
    """
    with state.catalog.read() as tx:
        policies = state.policies.of(tx, None)
        tags = (tx.tags.list(name, last="", limit=None) or ()) if policies.may_bind(name) else ()
    policies.require_movable(name, tags)
    if policies.may_bind(name):
        there = state.upstream.available_tags(name)
        policies.require_movable(name, (tag for tag in there if state.upstream.has(name, tag)))
