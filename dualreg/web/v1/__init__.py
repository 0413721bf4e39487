"""The V1 dialect: the API of Docker 0.6 to 17.05, under ``/v1``, as docker-registry 0.9 spoke it.

URL values are parsed here, once: handlers receive ``RepositoryName``, ``Tag`` and ``ImageId``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from flask import Blueprint, Response

from dualreg.errors import RegistryError
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.web.guard import enforce
from dualreg.web.v1 import account, errors, images, repositories, search, tags
from dualreg.web.v1.errors import render_status
from dualreg.web.v1.modes import refuse_closed
from dualreg.web.v1.session import locate
from dualreg.web.v1.visits import note_visit

__all__ = ["ROOT_VIEWS", "create_blueprint", "note_visit", "refuse_closed", "render_status"]

#: What old clients and load balancers also ask above ``/v1``.
ROOT_VIEWS: Mapping[str, Callable[[], Response]] = MappingProxyType(
    {"/_ping": account.ping, "/_status": account.status}
)


def create_blueprint() -> Blueprint:
    """Return everything under ``/v1``."""
    blueprint = Blueprint("v1", __name__, url_prefix="/v1")
    for module in (account, images, repositories, tags, search):
        module.register(blueprint)
    blueprint.register_error_handler(RegistryError, errors.render)
    blueprint.url_value_preprocessor(_parse_values)
    blueprint.before_request(_guard)
    return blueprint


def _guard() -> None:
    enforce(locate)


def _parse_values(_: str | None, values: dict[str, Any] | None) -> None:
    """Turn the URL's texts into values. Old clients end repository URLs with a slash."""
    if not values:
        return
    if "repository" in values:
        values["repository"] = RepositoryName.parse(values["repository"].rstrip("/"))
    if "image" in values:
        values["image"] = ImageId.parse(values["image"])
    if "tag" in values:
        values["tag"] = Tag.parse(values["tag"])
