"""Faces: a tag as V1 clients and as others see it, with each V1 image opposite its layer."""

from flask import Blueprint, Response, request

from dualreg.image.names import RepositoryName, Tag
from dualreg.web.administration import administration
from dualreg.web.ui.page import Crumb, page, url
from dualreg.web.ui.repositories import crumbs_of


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/faces")(get_faces)


def get_faces() -> Response:
    """Return both faces of a tag."""
    name = RepositoryName.parse(request.args.get("repository", ""))
    tag = Tag.parse(request.args.get("tag", "latest"))
    image = Crumb(tag, url("get_image", repository=name, reference=tag))
    return page(
        "faces",
        f"Two faces of {name}:{tag}",
        [*crumbs_of(name), image, Crumb("Two faces")],
        found=administration().images.faces(name, tag),
    )
