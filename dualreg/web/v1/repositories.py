"""``/v1/repositories/<name>``: the index part of V1, which starts and ends every push and starts every pull.

Source: docker-registry 0.9, ``index.py``; the exchanges of Docker 0.6 to 1.9.
"""

from contextlib import suppress

from flask import Blueprint, Response

from dualreg.auth.access import Action
from dualreg.errors import (
    ImageIdInvalid,
    RequestInvalid,
    TagInvalid,
)
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.web.context import authority, registry, require_deletes
from dualreg.web.guard import requires
from dualreg.web.responses import add_stale
from dualreg.web.v1.responses import read_json, uncached_json
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
    properties = "/repositories/<path:repository>/properties/"
    blueprint.get(properties)(get_properties)
    blueprint.put(properties)(put_properties)


@requires(Action.PUSH)
def put_repository(repository: RepositoryName) -> Response:
    """Start a push: return the host to send images to, and the token for it."""
    _read_list()
    registry().bridge.prepare(repository)
    return uncached_json("", headers=session_headers(repository))


@requires(Action.DELETE)
def delete_repository(repository: RepositoryName) -> Response:
    """Delete all tags of the repository; its images stay."""
    require_deletes()
    registry().tags.clear(repository)
    return uncached_json()


@requires(Action.PULL)
def get_images(repository: RepositoryName) -> Response:
    """Start a pull: list every image of the repository."""
    images = registry().bridge.images(repository)
    if not images:  # the only answer to a pull whose error Docker shows
        registry().negotiation.explain(repository)
    response = uncached_json([{"id": image} for image in images], headers=session_headers(repository))
    add_stale(response, registry().staleness(repository, tags=None))
    return response


@requires(Action.PUSH)
def put_images(repository: RepositoryName) -> Response:
    """End a push; clients require exactly 204.

    Only the list of Docker 0.6.0 has something new: the tags of images that it did not have to push.
    """
    registry().bridge.tag_all(repository, dict(filter(None, map(_parse_tag, _read_list()))))
    return uncached_json("", status=204, headers=session_headers(repository))


@requires(Action.DELETE)
def delete_images(repository: RepositoryName) -> Response:  # noqa: ARG001 -- part of the route
    """Accept and ignore, as docker-registry does."""
    return uncached_json("", status=204)


@requires(Action.PUSH)
def put_auth(repository: RepositoryName) -> Response:  # noqa: ARG001 -- part of the route
    """Accept the check that the Docker Hub's index made."""
    return uncached_json("OK")


@requires(Action.PULL)
def get_properties(repository: RepositoryName) -> Response:
    """Return whether the repository is public."""
    return uncached_json({"access": _access(repository)})


@requires(Action.PUSH)
def put_properties(repository: RepositoryName) -> Response:
    """Accept the current visibility; refuse to change it, which takes permission rules."""
    properties = read_json()
    access = properties.get("access") if isinstance(properties, dict) else None
    if access not in ("public", "private"):
        raise RequestInvalid(reason="Invalid data")
    if access != _access(repository):
        raise RequestInvalid(reason="visibility can only be changed by the registry's operator")
    return uncached_json()


def _access(repository: RepositoryName) -> str:
    return "public" if authority().anonymous().allows(repository, Action.PULL) else "private"


def _read_list() -> list[object]:
    """Return the body, a JSON list of images. The images themselves arrive in requests of their own."""
    listed = read_json()
    if not isinstance(listed, list):
        raise RequestInvalid(reason="Invalid data")
    return listed


def _parse_tag(entry: object) -> tuple[Tag, ImageId] | None:
    """Return the tag and image of a list entry; None if it has no valid tag or image ID."""
    if isinstance(entry, dict) and "Tag" in entry:
        with suppress(TagInvalid, ImageIdInvalid):
            return Tag.parse(str(entry["Tag"])), ImageId.parse(str(entry.get("id")))
    return None
