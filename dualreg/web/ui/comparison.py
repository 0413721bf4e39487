"""Comparison: how two images of a repository differ."""

from flask import Blueprint, Response, request

from dualreg.image.names import RepositoryName
from dualreg.registry.differences import Side
from dualreg.web.administration import administration
from dualreg.web.ui.forms import refused_on
from dualreg.web.ui.images import get_image
from dualreg.web.ui.page import Crumb, page, url
from dualreg.web.ui.repositories import crumbs_of


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/comparison")(get_comparison)


@refused_on(get_image)
def get_comparison() -> Response:
    """Return how an image differs from another one, whose layers lead to what they change."""
    name = RepositoryName.parse(request.args.get("repository", ""))
    references = [request.args.get(each, "").strip() or "latest" for each in ("reference", "other")]
    chosen = {"platform": request.args["platform"]} if "platform" in request.args else {}
    found = administration().images.compare(name, *references, **chosen)
    own = {Side.BOTH: references[0], Side.FIRST: references[0], Side.SECOND: references[1]}
    images = [url("get_image", repository=name, reference=each, **chosen) for each in references]
    lines = [
        (
            each,
            url(
                "get_layer",
                repository=name,
                reference=own[each.side],
                **chosen,
                layer=str(each.layer),
                changes="1",
            ),
        )
        for each in found.layers
    ]
    return page(
        "comparison",
        f"{references[0]} and {references[1]} of {name}",
        [*crumbs_of(name), Crumb(references[0], images[0]), Crumb("Comparison")],
        found=found,
        sides=[*zip(references, images, (found.first, found.second), strict=True)],
        lines=lines,
    )
