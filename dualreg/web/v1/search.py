"""``/v1/search``: still what ``docker search HOST/TERM`` asks today, since V2 has no search.

Source: the Docker Hub's answer and docker-registry 0.9's, whose members this is the union of.
"""

from flask import Blueprint, Response, request

from dualreg.image.names import RepositoryName
from dualreg.web.context import registry
from dualreg.web.credentials import listed
from dualreg.web.guard import Need, requires
from dualreg.web.paging import page_size, positive
from dualreg.web.v1.answers import answer

_DEFAULT_SIZE = 25
_LARGEST_SIZE = 100


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/search")(search)


@requires(Need.NOTHING)
def search() -> Response:
    """List the repositories that may be pulled and contain the term, a page at a time, counted from 1."""
    term = request.args.get("q", "")
    size = min(max(page_size(_DEFAULT_SIZE) or 1, 1), _LARGEST_SIZE)
    page = positive("page")
    total, names = registry().repositories.search(term, offset=(page - 1) * size, limit=size, reach=listed())
    return answer(
        {
            "query": term,
            "num_results": total,
            "num_pages": -(-total // size),
            "page": page,
            "page_size": size,
            "results": [_result(name) for name in names],
        }
    )


def _result(name: RepositoryName) -> dict[str, object]:
    return {
        "name": name,
        "description": "",
        "star_count": 0,
        "is_official": False,
        "is_trusted": False,
        "is_automated": False,
    }
