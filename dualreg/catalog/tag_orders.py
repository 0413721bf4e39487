"""SQL of the tags of a repository in an order of choice.

By name and by push, an index has them in order, and a page costs what is on it. By pull and by size, none
has, since each pull or push would write to it: all tags of the repository are looked at, and those of the
page are kept. The caller says of how many tags that may be. By push, none has those of a prefix: either all
of these are looked at, or the tags of the repository in order, up to a place.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select, tuple_

from dualreg.catalog.clock import EPOCH, as_microseconds, from_microseconds
from dualreg.catalog.columns import UtcDateTime
from dualreg.catalog.orders import TagOrder, TagPlace, TooManyToOrder
from dualreg.catalog.sizes import bytes_of
from dualreg.catalog.tables import Tags

#: How many children of manifests are looked at to order tags by size, which takes a second or two.
_STEPS = 100_000
_COLUMNS = {"pushed": "updated_at", "pulled": "pulled_at"}


def places(
    connection: Connection,
    repository_id: int,
    order: TagOrder,
    *,
    prefix: str = "",
    after: TagPlace | None = None,
    scan: int | None = None,
    limit: int,
) -> tuple[list[TagPlace], TagPlace | None]:
    """Return up to *limit* tags of a repository, in order, and up to where was looked; None: to the end.

    Args:
        prefix: Only tags that begin with it.
        after: The place of the last tag of the page before.
        scan: By push: look at so many tags of the repository in order, instead of at all of *prefix*.
    """
    if not prefix.isascii():
        return [], None  # no tag is like that
    if order.key == "name":
        names = connection.scalars(_by_name(repository_id, order, prefix, after).limit(limit))
        return [TagPlace(0, name) for name in names], None
    chosen = _beginning(repository_id, prefix)
    if order.key == "size":
        return _by_size(connection, repository_id, order, chosen, after)[:limit], None
    until = _scanned_to(connection, repository_id, order, after, scan) if scan else None
    query, value = _valued(order, chosen, by_index=bool(scan) or not prefix)
    rows = connection.execute(_between(query, value, order, after, until).limit(limit))
    return [TagPlace(as_microseconds(found), name) for name, found in rows], until


def count_upto(connection: Connection, repository_id: int, prefix: str, limit: int) -> int:
    """Return how many tags of a repository begin with *prefix*, but no more than *limit*."""
    if not prefix.isascii():
        return 0
    found = select(Tags.name).where(_beginning(repository_id, prefix)).limit(limit)
    return connection.scalar(select(func.count()).select_from(found.subquery())) or 0


def end_of(prefix: str) -> str:
    """Return what comes after all tags that begin with *prefix*; empty: nothing does."""
    # Tags are ASCII, so the successor of the last character ends the range.
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""


def _by_name(repository_id: int, order: TagOrder, prefix: str, after: TagPlace | None) -> Select[str]:
    """Return the query of tags by name, between two bounds: of three, SQLite searches by two."""
    query, end = select(Tags.name).where(Tags.repository_id == repository_id), end_of(prefix)
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
    return own & (Tags.name >= prefix) & (Tags.name < end_of(prefix)) if prefix else own


def _by_size(
    connection: Connection,
    repository_id: int,
    order: TagOrder,
    chosen: ColumnElement[bool],
    after: TagPlace | None,
) -> list[TagPlace]:
    """Return the tags after a place, by size.

    Raises:
        TooManyToOrder: they need too much.
    """
    tags = connection.execute(select(Tags.name, Tags.manifest).where(chosen)).all()
    sizes = bytes_of(connection, repository_id, {manifest for _, manifest in tags}, _STEPS)
    if sizes is None:
        raise TooManyToOrder(
            "these tags need too much to order them by size: order them by name, or give a longer prefix"
        )
    found = sorted((TagPlace(sizes[each], name) for name, each in tags), reverse=order.is_descending)
    return [each for each in found if not after or (each < after if order.is_descending else each > after)]


def _scanned_to(
    connection: Connection, repository_id: int, order: TagOrder, after: TagPlace | None, count: int
) -> TagPlace | None:
    """Return where the tag is that is *count* after a place, by push; None: there are not so many."""
    query, value = _valued(order, _beginning(repository_id, ""), by_index=True)
    query = _between(query, value, order, after, None).offset(count - 1).limit(1)
    row = connection.execute(query).one_or_none()
    return TagPlace(as_microseconds(row[1]), row[0]) if row else None


def _between(
    query: Select[str, Any],
    value: ColumnElement[Any],
    order: TagOrder,
    after: TagPlace | None,
    until: TagPlace | None,
) -> Select[str, Any]:
    """Return the query of what comes after a place, and no later than another one, in order."""
    place, types = tuple_(value, Tags.name), [value.type, Tags.name.type]
    if after:
        end = tuple_(from_microseconds(after.value), after.name, types=types)
        query = query.where(place < end if order.is_descending else place > end)
    if until:
        end = tuple_(from_microseconds(until.value), until.name, types=types)
        query = query.where(place >= end if order.is_descending else place <= end)
    return query.order_by(*(each.desc() if order.is_descending else each for each in (value, Tags.name)))


def _valued(
    order: TagOrder, chosen: ColumnElement[bool], *, by_index: bool
) -> tuple[Select[str, Any], ColumnElement[Any]]:
    """Return the query of names and what they are ordered by, and that.

    Args:
        by_index: By push: read tags in the order of the index of pushes.
    """
    value: ColumnElement[Any] = Tags.__table__.c[_COLUMNS[order.key]]
    if order.key == "pulled" or not by_index:  # databases see no index of a calculated value
        value = func.coalesce(value, literal(EPOCH, UtcDateTime()))
    return select(Tags.name, value).where(chosen), value
