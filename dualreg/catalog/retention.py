"""SQL of retention: its rules, and the tags that they are for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, String, delete, func, or_, select, tuple_, type_coerce

from dualreg.catalog.dialects import batches, insert
from dualreg.catalog.tables import Manifests, Repositories, RetentionRules, Tags
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.tag_schema import subject_range

#: Ranges of digests in one statement: SQLite limits the depth of an expression.
_RANGES = 100


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """A retention rule: tags that it is for go, unless one of its clauses, or another rule's, keeps them.

    Attributes:
        repositories, tags: Patterns of the names of repositories, and of tags, that it is for.
        newest: Keeps so many of these tags in each repository, those pushed last; None: there is no such
            clause.
        younger_than: Keeps what was last pushed less long ago.
        pulled_within: Keeps what was last pulled, or pushed, less long ago.
        matching: Keeps tags that one of these patterns matches.
    """

    repositories: str
    tags: str = "*"
    newest: int | None = None
    younger_than: timedelta | None = None
    pulled_within: timedelta | None = None
    matching: tuple[str, ...] = ()


class DatedTag(NamedTuple):
    """A tag, with what decides whether it stays.

    Attributes:
        digest: Of the manifest that it points at.
        pushed_at, pulled_at: As of ``TagRow``.
    """

    name: Tag
    digest: Digest
    pushed_at: datetime
    pulled_at: datetime | None


class RetainedRepository(NamedTuple):
    """A repository.

    Attributes:
        upstream: The URL of the registry that its content comes from; None: of none.
    """

    id: int
    name: RepositoryName
    upstream: str | None


@dataclass(frozen=True, slots=True)
class RetentionQueries:
    """The retention rules, and tags in the order in which these look at them."""

    connection: Connection

    def add(self, rule: RetentionRule) -> bool:
        """Add a rule; return False if there is one for the same patterns."""
        row = insert(self.connection, RetentionRules).values(_columns(rule))
        added = row.on_conflict_do_nothing().returning(RetentionRules.tags)
        return self.connection.scalar(added) is not None

    def remove(self, repositories: str, tags: str) -> bool:
        """Delete the rule for two patterns; return whether there was one."""
        going = delete(RetentionRules).where(
            RetentionRules.repositories == repositories, RetentionRules.tags == tags
        )
        return self.connection.execute(going).rowcount > 0

    def list(self) -> Sequence[RetentionRule]:
        """Return all rules, ordered by their patterns."""
        query = select(RetentionRules.__table__).order_by(RetentionRules.repositories, RetentionRules.tags)
        return [_rule(row) for row in self.connection.execute(query)]

    def repositories(self, last: str, limit: int) -> Sequence[RetainedRepository]:
        """Return up to *limit* repositories after *last*, in byte order."""
        query = select(Repositories.id, Repositories.name, Repositories.upstream)
        query = query.where(Repositories.name > last).order_by(Repositories.name).limit(limit)
        rows = self.connection.execute(query)
        return [RetainedRepository(id_, RepositoryName(name), upstream) for id_, name, upstream in rows]

    def find(self, name: RepositoryName) -> RetainedRepository | None:
        """Return a repository; None if there is none."""
        query = select(Repositories.id, Repositories.upstream).where(Repositories.name == name)
        row = self.connection.execute(query).one_or_none()
        return None if row is None else RetainedRepository(row[0], name, row[1])

    def tags(self, repository_id: int, after: tuple[datetime, str] | None, limit: int) -> Sequence[DatedTag]:
        """Return up to *limit* tags of a repository, those pushed last first.

        Args:
            after: The time of the push and the name of the last tag seen.
        """
        query = _dated().where(Tags.repository_id == repository_id)
        query = query.order_by(Tags.updated_at.desc(), Tags.name.desc()).limit(limit)
        if after:
            types = [Tags.updated_at.type, Tags.name.type]
            query = query.where(tuple_(Tags.updated_at, Tags.name) < tuple_(*after, types=types))
        return [DatedTag(Tag(name), *rest) for name, *rest in self.connection.execute(query)]

    def lock(self, repository_id: int, tags: Collection[Tag]) -> Sequence[DatedTag]:
        """Return those of *tags* that exist, locked until the transaction ends."""
        query = _dated().where(Tags.repository_id == repository_id, Tags.name.in_(tags))
        rows = self.connection.execute(query.order_by(Tags.name).with_for_update())
        return [DatedTag(Tag(name), *rest) for name, *rest in rows]

    def has_all(self, repository_id: int, tags: Collection[Tag]) -> bool:
        """Return whether a repository has each of *tags*."""
        own = Tags.repository_id == repository_id
        counts = (
            self.connection.scalar(select(func.count()).where(own, Tags.name.in_(batch)))
            for batch in batches(tags)
        )
        return sum(count or 0 for count in counts) == len(tags)

    def about(self, repository_id: int, tags: Collection[Tag]) -> frozenset[Tag]:
        """Return those of *tags* that are named after the digest of a manifest that the repository has."""
        if not (ranges := {tag: found for tag in tags if (found := subject_range(tag))}):
            return frozenset()
        own = Manifests.repository_id == repository_id
        digest = type_coerce(Manifests.digest, String)
        present = list[str]()
        for batch in batches({*ranges.values()}, _RANGES):
            within: list[ColumnElement[bool]] = [(digest >= low) & (digest < high) for low, high in batch]
            present += self.connection.scalars(select(digest).where(own, or_(*within)))
        starts = {digest[: len(low)] for digest in present for low, _ in ranges.values()}
        return frozenset(tag for tag, (low, _) in ranges.items() if low in starts)


def _dated() -> Any:  # noqa: ANN401 -- of four columns
    return select(Tags.name, Tags.manifest, Tags.updated_at, Tags.pulled_at)


def _columns(rule: RetentionRule) -> dict[str, Any]:
    return {
        "repositories": rule.repositories,
        "tags": rule.tags,
        "newest": rule.newest,
        "younger_than": _seconds(rule.younger_than),
        "pulled_within": _seconds(rule.pulled_within),
        "matching": ",".join(rule.matching),
    }


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _duration(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _rule(row: Any) -> RetentionRule:  # noqa: ANN401 -- of the table
    return RetentionRule(
        row.repositories,
        row.tags,
        row.newest,
        _duration(row.younger_than),
        _duration(row.pulled_within),
        tuple(row.matching.split(",")) if row.matching else (),
    )
