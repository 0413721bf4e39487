"""``/v1/repositories/<name>/tags``: what the repository's tags are seen as, and how a push ends.

Source: docker-registry 0.9, ``tags.py``; the exchanges of Docker 0.6 to 1.9.
"""

from flask import Blueprint, Response

from dualreg.errors import ImageIdInvalid, RequestInvalid
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry.repositories import alias_of
from dualreg.web.context import registry, require_deletes
from dualreg.web.v1.answers import answer, read_json
from dualreg.web.v1.session import session_repository


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    tags = "/repositories/<path:repository>/tags/"
    tag = "/repositories/<path:repository>/tags/<tag>"
    blueprint.get(tags)(list_tags)
    blueprint.delete(tags)(delete_tags)
    blueprint.get(tag)(get_tag)
    blueprint.put(tag)(put_tag)
    blueprint.delete(tag)(delete_tag)


def list_tags(repository: RepositoryName) -> Response:
    """Map every tag to the image it is seen as."""
    return answer(registry().bridge.tags(_named(repository)))


def delete_tags(repository: RepositoryName) -> Response:
    """Forget every tag; the images stay."""
    require_deletes()
    registry().tags.clear(_named(repository))
    return answer()


def get_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Return the image that the tag is seen as."""
    return answer(registry().bridge.resolve(_named(repository), tag))


def put_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Point the tag at an image: here a V1 push becomes a manifest that every client can pull."""
    registry().bridge.tag(repository, tag, _read_image_id())
    return answer()


def delete_tag(repository: RepositoryName, tag: Tag) -> Response:
    """Forget the tag; its image and other tags stay."""
    require_deletes()
    registry().tags.delete(_named(repository), tag)
    return answer()


def _named(repository: RepositoryName) -> RepositoryName:
    """Return the repository that a client means.

    It reads the tags of ``library/x`` in a session on ``x``; then the session is right, whatever else exists.
    """
    session = session_repository()
    if session is not None and session in (repository, alias_of(repository)):
        return session
    return registry().repositories.named(repository)


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
