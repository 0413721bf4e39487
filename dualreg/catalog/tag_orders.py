"""SQL of the tags of a repository in an order of choice.

By name and by push, an index has them in order, and a page costs what is on it. By pull and by size, none
has, since each pull or push would write to it: all tags of the repository are looked at, and those of the
page are kept. The caller says of how many tags that may be.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select, tuple_

from dualreg.catalog.columns import UtcDateTime
from dualreg.catalog.orders import TagOrder, TagPlace
from dualreg.catalog.sizes import bytes_of
from dualreg.catalog.tables import Tags

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def places(
    connection: Connection,
    repository_id: int,
    order: TagOrder,
    *,
    prefix: str = "",
    after: TagPlace | None = None,
    limit: int,
) -> list[TagPlace]:
    """Return up to *limit* tags of a repository, in order.

    Args:
        prefix: Only tags that begin with it.
        after: The place of the last tag of the page before.
    """
    if not prefix.isascii():
        return []  # no tag is like that
    if order.key == "name":
        names = connection.scalars(_by_name(repository_id, order, prefix, after).limit(limit))
        return [TagPlace(0, name) for name in names]
    query, value = _valued(order, repository_id, _beginning(repository_id, prefix))
    if after:
        place, types = tuple_(value, Tags.name), [value.type, Tags.name.type]
        end = tuple_(_value(order, after.value), after.name, types=types)
        query = query.where(place < end if order.is_descending else place > end)
    columns = [each.desc() if order.is_descending else each for each in (value, Tags.name)]
    rows = connection.execute(query.order_by(*columns).limit(limit))
    return [TagPlace(_number(found), name) for name, found in rows]


def count_upto(connection: Connection, repository_id: int, prefix: str, limit: int) -> int:
    """Return how many tags of a repository begin with *prefix*, but no more than *limit*."""
    if not prefix.isascii():
        return 0
    found = select(Tags.name).where(_beginning(repository_id, prefix)).limit(limit)
    return connection.scalar(select(func.count()).select_from(found.subquery())) or 0


def _by_name(repository_id: int, order: TagOrder, prefix: str, after: TagPlace | None) -> Select[str]:
    """Return the query of tags by name, between two bounds: of three, SQLite searches by two."""
    query, end = select(Tags.name).where(Tags.repository_id == repository_id), _end(prefix)
    lower: ColumnElement[bool] | None = Tags.name >= prefix if prefix else None
    upper: ColumnElement[bool] | None = Tags.name < end if end else None
    if after and order.is_descending and (not end or after.name < end):
        upper = Tags.name < after.name
    if after and not order.is_descending and after.name >= prefix:
        lower = Tags.name > after.name
    for bound in (lower, upper):
        query = query if bound is None else query.where(bound)
    return query.order_by(Tags.name.desc() if order.is_descending else Tags.name)


def _beginning(repository_id: int, prefix: str) -> ColumnElement[bool]:
    """Return the condition that a tag is in a repository, and begins with *prefix*."""
    own = Tags.repository_id == repository_id
    return own & (Tags.name >= prefix) & (Tags.name < _end(prefix)) if prefix else own


def _end(prefix: str) -> str:
    """Return what comes after all tags that begin with *prefix*; empty: nothing does."""
    # Tags are ASCII, so the successor of the last character ends the range.
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""


def _valued(
    order: TagOrder, repository_id: int, chosen: ColumnElement[bool]
) -> tuple[Select[str, Any], ColumnElement[Any]]:
    """Return the query of names and what they are ordered by, and that."""
    if order.key == "size":
        sizes = bytes_of(repository_id, select(Tags.manifest).where(chosen).distinct()).subquery()
        query = select(Tags.name, sizes.c.bytes).join(sizes, sizes.c.root == Tags.manifest).where(chosen)
        return query, sizes.c.bytes
    pulled = func.coalesce(Tags.pulled_at, literal(_EPOCH, UtcDateTime()))
    value: ColumnElement[Any] = pulled if order.key == "pulled" else Tags.__table__.c.updated_at
    return select(Tags.name, value).where(chosen), value


def _value(order: TagOrder, number: int) -> object:
    """Return what a number stands for."""
    return number if order.key == "size" else _EPOCH + number * _MICROSECOND


def _number(value: Any) -> int:  # noqa: ANN401 -- of the database
    return (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else int(value)
