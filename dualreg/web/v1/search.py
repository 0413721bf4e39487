"""``/v1/search``: ``docker search HOST/TERM`` still uses it, since V2 has no search.

Source: the responses of the Docker Hub and of docker-registry 0.9, whose members are combined.
"""

from flask import Blueprint, Response, request

from dualreg.image.names import RepositoryName
from dualreg.web.context import registry
from dualreg.web.credentials import searchable
from dualreg.web.guard import Need, requires
from dualreg.web.paging import page_number, page_size
from dualreg.web.v1.responses import uncached_json

_DEFAULT_SIZE = 25
_SIZE_LIMIT = 100


def register(blueprint: Blueprint) -> None:
    """Add the route."""
    blueprint.get("/search")(search)


@requires(Need.NOTHING)
def search() -> Response:
    """List the repositories whose name contains the term and that the client may pull, by pages."""
    term = request.args.get("q", "")
    size = min(max(page_size(_DEFAULT_SIZE) or 1, 1), _SIZE_LIMIT)
    page = page_number()
    total, names = registry().repositories.search(
        term, offset=(page - 1) * size, limit=size, reach=searchable()
    )
    return uncached_json(
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
