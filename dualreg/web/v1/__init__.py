"""The V1 dialect, under ``/v1``: the API that Docker 0.6 to 17.05 uses, as docker-registry 0.9 implements it.

URL values are parsed here: handlers receive ``RepositoryName``, ``Tag`` and ``ImageId``.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from flask import Blueprint, Response

from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.web.guard import enforce
from dualreg.web.v1 import account, images, repositories, search, tags
from dualreg.web.v1.account import API_HEADERS
from dualreg.web.v1.clients import record_client
from dualreg.web.v1.errors import render, render_status
from dualreg.web.v1.mode import enforce_mode
from dualreg.web.v1.session import locate

__all__ = [
    "API_HEADERS",
    "ROOT_VIEWS",
    "create_blueprint",
    "enforce_mode",
    "record_client",
    "render",
    "render_status",
]

#: Views that old clients and load balancers also request outside ``/v1``.
ROOT_VIEWS: Mapping[str, Callable[[], Response]] = MappingProxyType(
    {"/_ping": account.ping, "/_status": account.status}
)


def create_blueprint() -> Blueprint:
    """Return the blueprint of ``/v1``."""
    blueprint = Blueprint("v1", __name__, url_prefix="/v1")
    for module in (account, images, repositories, tags, search):
        module.register(blueprint)
    blueprint.url_value_preprocessor(_parse_values)
    blueprint.before_request(_guard)
    return blueprint


def _guard() -> None:
    enforce(locate)


def _parse_values(_: str | None, values: dict[str, Any] | None) -> None:
    """Parse the values of the URL. Old clients end repository URLs with a slash."""
    if not values:
        return
    if "repository" in values:
        values["repository"] = RepositoryName.parse(values["repository"].rstrip("/"))
    if "image" in values:
        values["image"] = ImageId.parse(values["image"])
    if "tag" in values:
        values["tag"] = Tag.parse(values["tag"])
