"""Retention: deletes the tags that no rule keeps, a few in each transaction, and says why others stay."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dualreg.catalog.retention import DatedTag, RetainedRepository, RetentionRule
from dualreg.errors import RepositoryUnknown
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import is_for_repositories, matches
from dualreg.registry.deletion import delete_unchanged
from dualreg.registry.state import State
from dualreg.registry.verdicts import Judge, Verdict

#: How many tags, and repositories, are read at a time.
_PAGE = 500
#: How many of the newest tags a rule can keep: deletions make sure that each of them is there.
NEWEST_LIMIT = 1000
_TAGS = re.compile(r"[A-Za-z0-9._*-]{1,128}", re.ASCII)


def parse_patterns(text: str) -> tuple[str, str]:
    """Return the patterns of repositories and tags that ``REPOSITORY[:TAG]`` means; without TAG, all tags.

    Raises:
        ValueError: it is malformed.
    """
    repositories, colon, tags = text.partition(":")
    if not is_for_repositories(repositories) or (colon and _TAGS.fullmatch(tags) is None):
        raise ValueError(f"invalid pattern {text!r}; expected REPOSITORY[:TAG], both of which may contain *")
    return repositories, tags or "*"


def check_rule(rule: RetentionRule) -> None:
    """Check the clauses of a rule whose patterns were parsed.

    Raises:
        ValueError: it has none, or an invalid one.
    """
    if rule.newest is not None and not 1 <= rule.newest <= NEWEST_LIMIT:
        raise ValueError(f"invalid number {rule.newest} of the newest tags; expected 1 to {NEWEST_LIMIT}")
    if wrong := [each for each in rule.matching if _TAGS.fullmatch(each) is None]:
        raise ValueError(f"invalid pattern {wrong[0]!r}; expected a tag, which may contain *")
    if not any((rule.newest, rule.younger_than, rule.pulled_within, rule.matching)):
        raise ValueError("a rule needs a clause that keeps tags, or it would delete all of them")


@dataclass(frozen=True, slots=True)
class JudgedTags:
    """The next tags of a repository, those pushed last first.

    Attributes:
        newest: Of these and of all before, those that the clause ``newest`` keeps.
        counts: How many of them each rule for the repository keeps, in the order of the rules.
    """

    verdicts: Sequence[Verdict]
    newest: Collection[Tag]
    counts: Sequence[int] = ()


class JudgedUntil(NamedTuple):
    """Where a part of a repository ends that was judged: its last tag, and ``JudgedTags.counts`` there."""

    pushed_at: datetime
    tag: Tag
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class TagRetention:
    """Manages retention rules, and applies them to repositories.

    What comes from upstream is not subject to them: the options of upstreams say how long it stays.
    """

    state: State

    def add(self, rule: RetentionRule) -> None:
        """Add a rule.

        Raises:
            ValueError: it is invalid, or there is one for the same patterns.
        """
        check_rule(rule)
        with self.state.catalog.begin() as tx:
            if not tx.retention.add(rule):
                raise ValueError(
                    f"there is already a rule for {rule.repositories}:{rule.tags}; remove it first"
                )

    def remove(self, repositories: str, tags: str) -> None:
        """Remove the rule for two patterns.

        Raises:
            ValueError: there is none.
        """
        with self.state.catalog.begin() as tx:
            if not tx.retention.remove(repositories, tags):
                raise ValueError(f"no rule for {repositories}:{tags}")

    def rules(self) -> Sequence[RetentionRule]:
        """Return all rules, by their patterns."""
        with self.state.catalog.read() as tx:
            return tx.retention.list()

    def count(self) -> int:
        """Return the number of repositories."""
        with self.state.catalog.read() as tx:
            return tx.repositories.count()

    def repositories(self) -> Iterator[Sequence[RetainedRepository]]:
        """Yield all repositories by name, a page at a time."""
        last = ""
        while page := self.page(last):
            yield page
            if len(page) < _PAGE:
                return
            last = page[-1].name

    def page(self, last: str = "") -> Sequence[RetainedRepository]:
        """Return the next repositories after *last*, by name; none if that is the last one."""
        with self.state.catalog.read() as tx:
            return tx.retention.repositories(last, _PAGE)

    def find(self, name: RepositoryName) -> RetainedRepository:
        """Return a repository.

        Raises:
            RepositoryUnknown.
        """
        with self.state.catalog.read() as tx:
            found = tx.retention.find(name)
        if found is None:
            raise RepositoryUnknown(name=name)
        return found

    def upstream(self, repository: RetainedRepository) -> str | None:
        """Return the URL of the registry that a repository's content comes from; None: rules are for it."""
        return repository.upstream or self.state.upstream.owner(repository.name)

    def applies(
        self, repository: RetainedRepository, rules: Sequence[RetentionRule], pattern: str = "*"
    ) -> bool:
        """Return whether the name of a repository matches *pattern*, and one of *rules* is for it."""
        return (
            matches(pattern, repository.name)
            and any(matches(rule.repositories, repository.name) for rule in rules)
            and self.upstream(repository) is None
        )

    def judge(
        self,
        repository: RetainedRepository,
        rules: Sequence[RetentionRule],
        *,
        after: JudgedUntil | None = None,
        size: int = _PAGE,
    ) -> Iterator[JudgedTags]:
        """Yield what becomes of the tags of a repository, a page at a time.

        Args:
            rules: All rules; those for other repositories are left out.
            after: Where an earlier look ended, which is continued with the same rules.
            size: How many tags are read at a time.
        """
        own = [rule for rule in rules if matches(rule.repositories, repository.name)]
        judge = Judge(own, self.state.catalog.now())
        judge.resume(after.counts if after else ())
        last = after and (after.pushed_at, after.tag)
        while True:
            with self.state.catalog.read() as tx:
                tags = tx.retention.tags(repository.id, last, size)
                names = [tag.name for tag in tags]
                about = tx.retention.about(repository.id, names)
                bound = {*self.state.policies.of(tx, None).bound(repository.name, names)}
            verdicts = [
                judge.judge(tag, has_subject=tag.name in about, is_immutable=tag.name in bound)
                for tag in tags
            ]
            if verdicts:
                yield JudgedTags(verdicts, judge.newest, judge.counts)
                last = (tags[-1].pushed_at, tags[-1].name)
            if len(tags) < size:
                return

    def delete(
        self, repository: RepositoryName, going: Sequence[DatedTag], newest: Collection[Tag]
    ) -> frozenset[Tag]:
        """Delete tags that go, but those that were pushed, pulled or deleted since; return which went.

        Manifests stay until garbage is collected.

        Args:
            newest: As of ``JudgedTags``; if one of them was deleted, what goes may be one of the newest by
                now, so nothing is.
        """
        return delete_unchanged(self.state, repository, going, newest)
