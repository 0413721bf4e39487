"""``/v1/repositories/<name>/tags``: the repository's tags as V1 images.

Source: docker-registry 0.9, ``tags.py``; the exchanges of Docker 0.6 to 1.9.
"""

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.errors import ImageIdInvalid, RequestInvalid
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.web.context import registry, require_deletes
from dualreg.web.guard import requires
from dualreg.web.responses import add_stale
from dualreg.web.v1.responses import read_json, uncached_json


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    tags = "/repositories/<path:repository>/tags/"
    tag = "/repositories/<path:repository>/tags/<tag>"
    blueprint.get(tags)(list_tags)
    blueprint.delete(tags)(delete_tags)
    blueprint.get(tag)(get_tag)
    blueprint.get("/repositories/<path:repository>/json/")(get_repository_json)
    blueprint.get(f"{tag}/json/")(get_tag_json)
    blueprint.put(tag)(put_tag)
    blueprint.delete(tag)(delete_tag)


@requires(Action.PULL)
def list_tags(repository: RepositoryName) -> Response:
    """Return the image ID of every tag."""
    tags = registry().bridge.tags(repository)
    response = uncached_json(tags)
    add_stale(response, registry().staleness(repository, tags=tags.keys()))
    return response


@requires(Action.DELETE)
def delete_tags(repository: RepositoryName) -> Response:
    """Delete all tags of the repository; its images stay."""
    require_deletes()
    registry().tags.clear(repository)
    return uncached_json()


@requires(Action.PULL)
def get_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Return the image ID of the tag."""
    response = uncached_json(registry().negotiation.resolve(repository, tag))
    freshness = registry().freshness(repository, tag)
    add_stale(response, freshness.stale if freshness else "")
    return response


@requires(Action.PUSH)
def put_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Point the tag at an image, and store the manifest through which V2 clients can pull it."""
    registry().bridge.tag(repository, tag, _read_image_id(), agent=request.user_agent.string)
    registry().tags.record_pushes(1)
    return uncached_json()


@requires(Action.DELETE)
def delete_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Delete the tag; its image and other tags stay."""
    require_deletes()
    registry().tags.delete(repository, tag)
    return uncached_json()


@requires(Action.PULL)
def get_tag_json(repository: RepositoryName, tag: Tag) -> Response:
    """Return which client pushed the tag, and when; all null or defaults if unknown."""
    agent, instant = registry().tags.pusher(repository, tag) or (None, None)
    products = dict(pair.split("/", 1) for pair in (agent or "").split() if "/" in pair)
    document = {
        "last_update": instant and int(instant.timestamp()),
        "docker_version": products.get("docker"),
        "docker_go_version": products.get("go"),
        "arch": products.get("arch", "amd64").lower(),
        "os": products.get("os", "linux").lower(),
        "kernel": products["kernel"].lower() if "kernel" in products else None,
    }
    return uncached_json(document)


@requires(Action.PULL)
def get_repository_json(repository: RepositoryName) -> Response:
    """Return the same of the tag ``latest``."""
    return get_tag_json(repository, Tag("latest"))


def _read_image_id() -> ImageId:
    """Return the image ID in the body, a JSON string.

    Raises:
        RequestInvalid: the body is something else.
    """
    text = read_json()
    if not isinstance(text, str):
        raise RequestInvalid(reason="Invalid data")
    try:
        return ImageId.parse(text)
    except ImageIdInvalid as error:
        raise RequestInvalid(reason="Invalid data") from error
