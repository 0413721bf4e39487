"""``/v1/repositories/<name>``: the index half of V1, which begins and ends every push and begins every pull.

Source: docker-registry 0.9, ``index.py``; the exchanges of Docker 0.6 to 1.9.
"""

from collections.abc import Mapping
from contextlib import suppress

from flask import Blueprint, Response

from dualreg.auth.access import Action
from dualreg.errors import (
    ImageIdInvalid,
    ImageIncomplete,
    ImageUnknown,
    RepositoryUnknown,
    RequestInvalid,
    TagInvalid,
)
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.web.context import authority, registry, require_deletes
from dualreg.web.guard import requires
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
    properties = "/repositories/<path:repository>/properties/"
    blueprint.get(properties)(get_properties)
    blueprint.put(properties)(put_properties)


@requires(Action.PUSH)
def put_repository(repository: RepositoryName) -> Response:
    """Begin a push: the client learns where to send images, and with which token."""
    _read_list()
    registry().repositories.ensure(repository)
    registry().bridge.refresh(repository)
    return answer("", headers=session_headers(repository))


@requires(Action.DELETE)
def delete_repository(repository: RepositoryName) -> Response:
    """Forget the repository's tags; its images stay."""
    require_deletes()
    registry().tags.clear(repository)
    return answer()


@requires(Action.PULL)
def get_images(repository: RepositoryName) -> Response:
    """Begin a pull: list every image of the repository."""
    images = registry().bridge.images(repository)
    return answer([{"id": image} for image in images], headers=session_headers(repository))


@requires(Action.PUSH)
def put_images(repository: RepositoryName) -> Response:
    """End a push. Everything was recorded when it came; exactly 204 tells the client that all is well.

    But for one thing: Docker 0.6.0, which finds that the image of a tag is here, says the tag only now.
    """
    wanted = dict(filter(None, map(_tagged, _read_list())))
    if wanted:
        _point(repository, wanted)
    return answer("", status=204, headers=session_headers(repository))


@requires(Action.DELETE)
def delete_images(repository: RepositoryName) -> Response:  # noqa: ARG001 -- the route's value
    """Accept, and do nothing, as docker-registry did."""
    return answer("", status=204)


@requires(Action.PUSH)
def put_auth(repository: RepositoryName) -> Response:  # noqa: ARG001 -- the route's value
    """Accept what the Hub's index once asked registries to confirm."""
    return answer("OK")


@requires(Action.PULL)
def get_properties(repository: RepositoryName) -> Response:
    """Tell whether everybody may read the repository."""
    return answer({"access": _access(repository)})


@requires(Action.PUSH)
def put_properties(repository: RepositoryName) -> Response:
    """Accept what is so, and refuse to promise what only permission lines can keep."""
    properties = read_json()
    access = properties.get("access") if isinstance(properties, dict) else None
    if access not in ("public", "private"):
        raise RequestInvalid(reason="Invalid data")
    if access != _access(repository):
        raise RequestInvalid(reason="Who may read it is for the registry's operator to say")
    return answer()


def _access(repository: RepositoryName) -> str:
    return "public" if authority().anonymous().allows(repository, Action.PULL) else "private"


def _read_list() -> list[object]:
    """Return the body, a JSON list; which images there are is learnt from the images themselves."""
    listed = read_json()
    if not isinstance(listed, list):
        raise RequestInvalid(reason="Invalid data")
    return listed


def _tagged(entry: object) -> tuple[Tag, ImageId] | None:
    """Return the tag that an entry of the list gives an image, if it gives one that can be."""
    if isinstance(entry, dict) and "Tag" in entry:
        with suppress(TagInvalid, ImageIdInvalid):
            return Tag.parse(str(entry["Tag"])), ImageId.parse(str(entry.get("id")))
    return None


def _point(repository: RepositoryName, wanted: Mapping[Tag, ImageId]) -> None:
    """Point tags at images that are here, unless they are there already."""
    seen: Mapping[Tag, ImageId] = {}
    with suppress(RepositoryUnknown):
        seen = registry().bridge.tags(repository)
    for tag, image in wanted.items():
        if seen.get(tag) != image:
            with suppress(ImageUnknown, ImageIncomplete):
                registry().bridge.tag(repository, tag, image)
