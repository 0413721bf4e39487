"""``/v1/repositories/<name>/tags``: what the repository's tags are seen as, and how a push ends.

Source: docker-registry 0.9, ``tags.py``; the exchanges of Docker 0.6 to 1.9.
"""

from flask import Blueprint, Response, request

from dualreg.auth.access import Action
from dualreg.errors import ImageIdInvalid, RequestInvalid
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.web.context import registry, require_deletes
from dualreg.web.guard import requires
from dualreg.web.v1.answers import answer, read_json

#: Letters of a client's name that are kept.
_AGENT_LIMIT = 255


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
    """Map every tag to the image it is seen as."""
    return answer(registry().bridge.tags(repository))


@requires(Action.DELETE)
def delete_tags(repository: RepositoryName) -> Response:
    """Forget every tag; the images stay."""
    require_deletes()
    registry().tags.clear(repository)
    return answer()


@requires(Action.PULL)
def get_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Return the image that the tag is seen as."""
    return answer(registry().bridge.resolve(repository, tag))


@requires(Action.PUSH)
def put_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Point the tag at an image: here a V1 push becomes a manifest that every client can pull."""
    registry().bridge.tag(repository, tag, _read_image_id())
    if agent := "".join(filter(str.isprintable, request.user_agent.string)):
        registry().tags.pushed_by(repository, tag, agent[:_AGENT_LIMIT])
    return answer()


@requires(Action.DELETE)
def delete_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Forget the tag; its image and other tags stay."""
    require_deletes()
    registry().tags.delete(repository, tag)
    return answer()


@requires(Action.PULL)
def get_tag_json(repository: RepositoryName, tag: Tag) -> Response:
    """Tell which client pushed the tag, and when; of a tag that is not there, that nothing is known."""
    agent, instant = registry().tags.pusher(repository, tag) or (None, None)
    told = dict(pair.split("/", 1) for pair in (agent or "").split() if "/" in pair)
    facts = {
        "last_update": instant and int(instant.timestamp()),
        "docker_version": told.get("docker"),
        "docker_go_version": told.get("go"),
        "arch": told.get("arch", "amd64").lower(),
        "os": told.get("os", "linux").lower(),
        "kernel": told["kernel"].lower() if "kernel" in told else None,
    }
    return answer(facts)


@requires(Action.PULL)
def get_repository_json(repository: RepositoryName) -> Response:
    """Tell the same of the tag ``latest``."""
    return get_tag_json(repository, Tag("latest"))


def _read_image_id() -> ImageId:
    """Return the image id that the body is, as a JSON string.

    Raises:
        RequestInvalid: it is something else.
    """
    text = read_json()
    if not isinstance(text, str):
        raise RequestInvalid(reason="Invalid data")
    try:
        return ImageId.parse(text)
    except ImageIdInvalid as error:
        raise RequestInvalid(reason="Invalid data") from error
