"""Repositories: what is under a namespace, what a search finds, and the tags of one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, request

from dualreg.errors import RepositoryUnknown
from dualreg.image.names import RepositoryName
from dualreg.operations.repositories import RepositoryFacts
from dualreg.operations.tags import SizedTag
from dualreg.web.administration import administration
from dualreg.web.ui.page import Crumb, deletable, page, pages, url

#: Rows of a page.
_ROWS = 50


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
    """A tag, and the others on the page that point at the same manifest."""

    tag: SizedTag
    href: str
    aliases: Sequence[str]


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/repositories")(get_repositories)
    blueprint.get("/repository")(get_repository)


def get_repositories() -> Response:
    """Return what is directly under a namespace, or the repositories whose names contain a text."""
    under, search = request.args.get("under", ""), request.args.get("search", "").strip().lower()
    after, own = request.args.get("after", ""), "own" in request.args
    rows, end = _found(search, after, own=own) if search or own else _under(under, after)
    crumbs = [] if search or own else _crumbs(under)
    title = under or ("My repositories" if own else "Repositories")
    caption = f"Names that contain {search}" if search else "Repositories and namespaces, by name"
    return page(
        "repositories",
        title,
        crumbs,
        rows=rows,
        search=search,
        caption=caption,
        pages=pages("get_repositories", after, end, under=under, search=search, own="1" if own else ""),
    )


def get_repository() -> Response:
    """Return the tags of a repository, with sizes and times."""
    name = RepositoryName.parse(request.args.get("repository", ""))
    operations, after = administration(), request.args.get("after")
    found = operations.tags.list(name, newest=True, n=_ROWS, after=after)
    facts = [row for row in operations.repositories.list(name, n=1).rows if row.name == name]
    if not facts:
        raise RepositoryUnknown(name=name)
    return page(
        "repository",
        name,
        [*_crumbs(name.rpartition("/")[0]), Crumb(name.rpartition("/")[2])],
        repository=name,
        facts=facts[0],
        tags=_lines(name, found.rows),
        ticks=bool(found.rows) and deletable(name),
        pages=pages("get_repository", after, found.next, repository=name),
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
    """Return repositories whose names contain a text, and where the next page begins."""
    pattern = f"*{search}*" if search else None
    found = administration().repositories.list(pattern, own=own, n=_ROWS, after=after)
    return [Row(each.name, _address(each.name), each) for each in found.rows], found.next


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


def _lines(repository: RepositoryName, rows: Sequence[SizedTag]) -> Sequence[TagLine]:
    by_digest = defaultdict[object, list[str]](list)
    for row in rows:
        by_digest[row.digest].append(row.name)
    return [
        TagLine(
            row,
            url("get_image", repository=repository, reference=row.name),
            [name for name in by_digest[row.digest] if name != row.name],
        )
        for row in rows
    ]
