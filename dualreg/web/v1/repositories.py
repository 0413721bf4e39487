"""``/v1/repositories/<name>``: the index half of V1, which begins and ends every push and begins every pull.

Source: docker-registry 0.9, ``index.py``; the exchanges of Docker 0.6 to 1.9.
"""

from flask import Blueprint, Response

from dualreg.errors import RequestInvalid
from dualreg.image.names import RepositoryName
from dualreg.web.context import registry, require_deletes
from dualreg.web.v1.answers import answer, read_json
from dualreg.web.v1.session import session_headers


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.put("/repositories/<path:repository>")(put_repository)
    blueprint.delete("/repositories/<path:repository>")(delete_repository)
    images = "/repositories/<path:repository>/images/"
    blueprint.get(images)(get_images)
    blueprint.put(images)(put_images)
    blueprint.delete(images)(delete_images)
    blueprint.put("/repositories/<path:repository>/auth/")(put_auth)


def put_repository(repository: RepositoryName) -> Response:
    """Begin a push: the client learns where to send images, and with which token."""
    _read_list()
    registry().repositories.ensure(repository)
    registry().bridge.refresh(repository)
    return answer("", headers=session_headers(repository))


def delete_repository(repository: RepositoryName) -> Response:
    """Forget the repository's tags; its images stay."""
    require_deletes()
    registry().tags.clear(registry().repositories.named(repository))
    return answer()


def get_images(repository: RepositoryName) -> Response:
    """Begin a pull: list every image of the repository."""
    named = registry().repositories.named(repository)
    images = registry().bridge.images(named)
    return answer([{"id": image} for image in images], headers=session_headers(named))


def put_images(repository: RepositoryName) -> Response:
    """End a push. Everything was recorded when it came; exactly 204 tells the client that all is well."""
    _read_list()
    return answer("", status=204, headers=session_headers(repository))


def delete_images(repository: RepositoryName) -> Response:  # noqa: ARG001 -- the route's value
    """Accept, and do nothing, as docker-registry did."""
    return answer("", status=204)


def put_auth(repository: RepositoryName) -> Response:  # noqa: ARG001 -- the route's value
    """Accept what the Hub's index once asked registries to confirm."""
    return answer("OK")


def _read_list() -> None:
    """Refuse a body that is no JSON list; what it lists is learnt from the images themselves."""
    if not isinstance(read_json(), list):
        raise RequestInvalid(reason="Invalid data")
