"""Images: what a tag or digest names, how it was built, what is attached to it, and how it is pulled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, request

from dualreg.image.description import Step
from dualreg.image.names import RepositoryName
from dualreg.registry.inspection import Inspected, LayerSharing
from dualreg.web.administration import administration
from dualreg.web.ui.commands import pulls
from dualreg.web.ui.page import Crumb, deletable, page, url, v1_mode
from dualreg.web.ui.repositories import crumbs_of
from dualreg.web.ui.tags import sized_tag

_DEFAULT_PLATFORM = "linux/amd64"


@dataclass(frozen=True, slots=True)
class PlatformLine:
    """A platform of an index.

    Attributes:
        size: None: the image is not in the repository.
        attestations: How many the index has of it.
        current: Whether it is the one that the page shows.
    """

    platform: str
    href: str
    digest: str
    size: int | None
    attestations: int
    current: bool


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step of the build.

    Attributes:
        use: How many images have its layer; None: it has none, or that is not here.
        href: The page of its layer; empty: it has none.
    """

    step: Step
    use: LayerSharing | None
    href: str


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/image")(get_image)


def get_image() -> Response:
    """Return what a tag or digest names."""
    name = RepositoryName.parse(request.args.get("repository", ""))
    reference = request.args.get("reference", "latest")
    platform = request.args.get("platform", _DEFAULT_PLATFORM)
    found = administration().images.show(name, reference, platform=platform)
    asked = {"reference": reference, "platform": request.args.get("platform")}
    tag = sized_tag(name, reference) if reference in found.tags else None
    return page(
        "image",
        f"{name}{'@' if ':' in reference else ':'}{reference}",
        [*crumbs_of(name), Crumb(reference)],
        repository=name,
        reference=reference,
        found=found,
        tag=tag,
        platforms=_platforms(found, reference),
        lines=_steps(found, asked),
        asked={"repository": name, **{each: value for each, value in asked.items() if value}},
        commands=pulls(name, reference, found.digest, v1_mode()),
        labels=_labels(found),
        faces=url("get_faces", repository=name, tag=reference),
        history=url("get_history", repository=name, tag=tag.name) if tag else "",
        delete=url("get_delete", repository=name, tag=tag.name) if tag and deletable(name) else "",
        tags=[(each, url("get_image", repository=name, reference=each)) for each in found.tags],
    )


def _labels(found: Inspected) -> Sequence[tuple[str, str]]:
    """Return annotations of the manifest, and labels of the image, by name."""
    about = found.image.description if found.image else None
    return sorted({**(about.labels if about else {}), **found.annotations}.items())


def _steps(found: Inspected, asked: Mapping[str, str | None]) -> Sequence[StepLine]:
    """Return the steps of the build of the image; *asked* is what the page shows, for their links."""
    if not found.image:
        return ()
    uses = {each.layer: each for each in found.image.sharing}
    return [
        StepLine(
            step,
            uses.get(step.layer),
            url("get_layer", repository=found.repository, **asked, layer=str(step.layer)),
        )
        if step.layer
        else StepLine(step, None, "")
        for step in found.image.steps
    ]


def _platforms(found: Inspected, reference: str) -> Sequence[PlatformLine]:
    """Return the platforms of an index, each with the number of its attestations."""
    attested = Counter(each.about for each in found.entries if each.about)
    return [
        PlatformLine(
            each.platform or "unknown",
            url("get_image", repository=found.repository, reference=reference, platform=each.platform),
            str(each.digest),
            each.size,
            attested[each.digest],
            found.image is not None and each.digest == found.image.digest,
        )
        for each in found.entries
        if not each.about
    ]
