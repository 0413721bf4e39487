"""Rules of tags that can be neither moved nor deleted."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualreg.catalog.rows import ImmutableRow
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.session import Group


@dataclass(frozen=True, slots=True)
class AddedRule:
    """A rule of immutable tags.

    Attributes:
        is_new: Whether there was no such rule before.
    """

    pattern: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Immutable:
    """Whether a tag is immutable, or will be when it is pushed.

    Attributes:
        rule: The rule that makes it so; null: no rule does.
    """

    immutable: bool
    rule: str | None


@dataclass(frozen=True)
class ImmutableRules(Group):
    """Rules of immutable tags."""

    def add(self, pattern: str) -> AddedRule:
        """Make tags immutable that match a pattern, those that exist and those that are pushed later.

        Args:
            pattern: Of REPOSITORY:TAG, such as team/*:v*, in which * matches anything.

        Raises:
            ValueError: the pattern is invalid.
        """
        is_new = self.session.registry.immutability.add(pattern)
        if is_new:
            self.session.record("immutable add", pattern=pattern)
        return AddedRule(pattern, is_new)

    def remove(self, pattern: str) -> None:
        """Remove a rule of immutable tags.

        Args:
            pattern: That of the rule.

        Raises:
            ValueError: there is none.
        """
        self.session.registry.immutability.remove(pattern)
        self.session.record("immutable remove", pattern=pattern)

    def list(self) -> Sequence[ImmutableRow]:
        """List the rules of immutable tags, by pattern."""
        return self.session.registry.immutability.rules()

    def explain(self, repository: RepositoryName, tag: Tag) -> Immutable:
        """Explain whether a tag is immutable, or will be when it is pushed, and by which rule."""
        rule = self.session.registry.immutability.rule_of(repository, tag)
        return Immutable(rule is not None, rule)
