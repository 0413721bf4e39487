"""Repositories: what is under a namespace, what a search finds, and the tags of one."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, request

from dualreg.catalog.orders import TagOrder
from dualreg.errors import RepositoryUnknown
from dualreg.image.names import RepositoryName
from dualreg.operations.repositories import RepositoryFacts, split_search
from dualreg.operations.tags import SizedTag
from dualreg.web.administration import administration
from dualreg.web.ui.arguments import choice
from dualreg.web.ui.page import Crumb, deletable, page, pages, url

#: Rows of a page.
_ROWS = 50
#: Titles of columns by which tags are ordered, and what tables in each order are called.
_TITLES = {"name": "Tag", "size": "Size", "pushed": "Pushed", "pulled": "Pulled"}
_CAPTIONS = {
    TagOrder.NAME: "Tags by name",
    TagOrder.LAST_NAME: "Tags by name, from the last",
    TagOrder.PUSHED: "Tags, the oldest push first",
    TagOrder.LAST_PUSHED: "Tags, the latest push first",
    TagOrder.PULLED: "Tags, the oldest pull first",
    TagOrder.LAST_PULLED: "Tags, the latest pull first",
    TagOrder.SIZE: "Tags, the smallest first",
    TagOrder.LARGEST: "Tags, the largest first",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the list.

    Attributes:
        title: What is shown of its name.
        href: Its page, or the list of what is under it.
        facts: None: it is a namespace.
    """

    title: str
    href: str
    facts: RepositoryFacts | None


@dataclass(frozen=True, slots=True)
class TagLine:
    """A tag, and its page."""

    tag: SizedTag
    href: str


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a column by which tags can be ordered.

    Attributes:
        href: The list in the order of this column; in the other direction, if it is in this order.
        sorted: How it is ordered, as ARIA says it; empty: by another column.
    """

    title: str
    href: str
    sorted: str


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/repositories")(get_repositories)
    blueprint.get("/repository")(get_repository)


def get_repositories() -> Response:
    """Return what is directly under a namespace, or the repositories whose names contain a text."""
    under, search = request.args.get("under", ""), request.args.get("search", "").strip()
    after, own = request.args.get("after", ""), "own" in request.args
    rows, end = _found(search, after, own=own) if search or own else _under(under, after)
    *way, last = _crumbs("" if search or own else under)
    crumbs = [*way, Crumb(last.title)] if way else []
    title = under or ("My repositories" if own else "Repositories")
    return page(
        "repositories",
        title,
        crumbs,
        rows=rows,
        search=search,
        caption=_caption(search),
        pages=pages("get_repositories", after, end, under=under, search=search, own="1" if own else ""),
    )


def get_repository() -> Response:
    """Return the tags of a repository, in an order of choice, with what they are and need."""
    name = RepositoryName.parse(request.args.get("repository", ""))
    order, prefix = choice("sort", TagOrder, TagOrder.LAST_PUSHED), request.args.get("prefix", "").strip()
    operations, after = administration(), request.args.get("after")
    found = operations.tags.list(name, sort=order, prefix=prefix, details=True, n=_ROWS, after=after)
    facts = [row for row in operations.repositories.list(name, n=1).rows if row.name == name]
    if not facts:
        raise RepositoryUnknown(name=name)
    return page(
        "repository",
        name,
        [*_crumbs(name.rpartition("/")[0]), Crumb(name.rpartition("/")[2])],
        repository=name,
        facts=facts[0],
        tags=[TagLine(row, url("get_image", repository=name, reference=row.name)) for row in found.rows],
        headings={each: _heading(name, each, order, prefix) for each in _TITLES},
        caption=_CAPTIONS[order],
        order=order,
        prefix=prefix,
        ticks=bool(found.rows) and deletable(name),
        pages=pages("get_repository", after, found.next, **_chosen(name, order, prefix)),
    )


def crumbs_of(repository: RepositoryName) -> Sequence[Crumb]:
    """Return the way to what is below the page of a repository, with that."""
    namespace, _, last = repository.rpartition("/")
    return [*_crumbs(namespace), Crumb(last, url("get_repository", repository=repository))]


def _under(under: str, after: str) -> tuple[Sequence[Row], str | None]:
    """Return what is directly under a namespace, and where the next page begins."""
    found = administration().repositories.tree(under, n=_ROWS, after=after)
    rows = [Row(each.name.removeprefix(under), _address(each.name), each.facts) for each in found.rows]
    return rows, found.next


def _found(search: str, after: str, *, own: bool) -> tuple[Sequence[Row], str | None]:
    """Return repositories whose names contain a text, or tags in them, and where the next page begins."""
    found = administration().repositories.list(search=search, own=own, n=_ROWS, after=after)
    return [_row(each) for each in found.rows], found.next


def _row(found: RepositoryFacts) -> Row:
    """Return the line of a repository, or of the tag that was searched for."""
    if found.tag is None:
        return Row(found.name, _address(found.name), found)
    return Row(
        f"{found.name}:{found.tag}", url("get_image", repository=found.name, reference=found.tag), found
    )


def _caption(search: str) -> str:
    """Return what a search, or none, shows."""
    name, tag = split_search(search)
    if tag is not None:
        tags = f"The first tag that begins with {tag}" if tag else "The first tag"
        return f"{tags}, of names that contain {name}" if name else f"{tags}, of each repository"
    return f"Names that contain {name}" if name else "Repositories and namespaces, by name"


def _address(name: str) -> str:
    """Return the page of a repository, or the list of a namespace, whose name ends with a slash."""
    if name.endswith("/"):
        return url("get_repositories", under=name)
    return url("get_repository", repository=name)


def _crumbs(namespace: str) -> list[Crumb]:
    """Return the way to a namespace, with that."""
    found, names = [Crumb("Repositories", url("get_repositories"))], namespace.strip("/").split("/")
    for end, name in enumerate(names, 1):
        if name:
            found.append(Crumb(name, url("get_repositories", under="/".join(names[:end]) + "/")))
    return found


def _heading(repository: RepositoryName, key: str, order: TagOrder, prefix: str) -> Heading:
    """Return the heading of a column; names begin with the first, all else with the greatest."""
    down = not order.is_descending if order.key == key else key != "name"
    chosen = TagOrder(f"-{key}" if down else key)
    direction = "descending" if order.is_descending else "ascending"
    href = url("get_repository", **_chosen(repository, chosen, prefix))
    return Heading(_TITLES[key], href, direction if order.key == key else "")


def _chosen(repository: RepositoryName, order: TagOrder, prefix: str) -> dict[str, str]:
    """Return the parameters of a list of tags, without those that are as usual."""
    sort = {} if order is TagOrder.LAST_PUSHED else {"sort": str(order)}
    return {"repository": repository, **sort, **({"prefix": prefix} if prefix else {})}
