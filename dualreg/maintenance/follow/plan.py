"""Plan: how the rows of a repository become what the tree says, once all that is complete is recorded.

A tag that the tree points at something incomplete stays where it was, with what it needs, as long as all of
that is there. What this registry derived itself stays with what it was derived from.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from dualreg.catalog.following import RecordedRepository
from dualreg.catalog.rebuilding import FoundTag
from dualreg.catalog.views import V1
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, Tag
from dualreg.maintenance.follow.contents import Contents
from dualreg.maintenance.follow.said import Said
from dualreg.maintenance.recording import tag_row


@dataclass(slots=True)
class Plan:
    """Changes of the rows of a repository, in the order in which they are made."""

    tags: list[FoundTag] = field(default_factory=list)
    removed_tags: set[Tag] = field(default_factory=set)
    views: list[tuple[Digest, str, str]] = field(default_factory=list)
    forgotten_views: list[tuple[Digest, str]] = field(default_factory=list)
    removed_manifests: set[Digest] = field(default_factory=set)
    removed_images: set[ImageId] = field(default_factory=set)
    removed_links: set[Digest] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        changes = (self.tags, self.removed_tags, self.views, self.forgotten_views)
        return not any((*changes, self.removed_manifests, self.removed_images, self.removed_links))


def plan(contents: Contents, recorded: RecordedRepository) -> Plan:
    """Return what has to change of what is *recorded*, which includes all that *contents* has found."""
    said, made = contents.said, Plan()
    kept = _plan_tags(made, contents, recorded)
    manifests = _reached(recorded, kept | contents.whole)
    images = _plan_views(made, contents, recorded, manifests)
    made.removed_manifests = recorded.manifests.keys() - manifests
    made.removed_images = recorded.images.keys() - images
    made.removed_links = {*recorded.links} - {*_needed(said, recorded, manifests, images)}
    return made


def _plan_tags(made: Plan, contents: Contents, recorded: RecordedRepository) -> set[Digest]:
    """Plan the changes of tags; return the manifests at which tags go on to point, against the tree."""
    kept = set[Digest]()
    for tag, name in contents.said.tags.items():
        old = recorded.tags.get(tag)
        if name.digest in contents.whole:
            if (row := tag_row(name)) != old:
                made.tags.append(row)
        elif old and old.manifest not in contents.lost:
            kept.add(old.manifest)
        elif old:
            made.removed_tags.add(tag)
    made.removed_tags |= recorded.tags.keys() - contents.said.tags.keys()
    return kept


def _reached(recorded: RecordedRepository, first: Iterable[Digest]) -> set[Digest]:
    """Return manifests with those in them, and those that they were converted to."""
    found, fresh = set[Digest](), {*first}
    while fresh:
        found |= fresh
        known = [recorded.manifests[each] for each in fresh if each in recorded.manifests]
        views = {Digest.parse(v) for own in known for kind, v in own.views.items() if v and kind != V1}
        fresh = {each for own in known for each in own.entries} | views
        fresh = (fresh & recorded.manifests.keys()) - found
    return found


def _plan_views(
    made: Plan, contents: Contents, recorded: RecordedRepository, manifests: Collection[Digest]
) -> set[ImageId]:
    """Plan the changes of views; return the V1 images that are to stay."""
    said, images = contents.said, {*contents.images}
    known = {str(digest) for digest in manifests}  # a damaged file may say anything
    for digest in manifests:
        seen = recorded.manifests[digest].views if digest in recorded.manifests else {}
        wanted = said.manifests[digest].views if digest in said.manifests else {}
        for kind, view in wanted.items():
            is_there = view in images if kind == V1 else view in known
            if is_there and seen.get(kind) != view:
                made.views.append((digest, kind, view))
        own = seen.get(V1)
        if own is None or wanted.get(V1) in images:
            continue
        chain = [*_chain(recorded, contents, ImageId(own))]
        if own in said.images or None in chain:
            made.forgotten_views.append((digest, V1))
        images.update(each for each in chain if each)
    return images


def _chain(recorded: RecordedRepository, contents: Contents, image: ImageId) -> Iterator[ImageId | None]:
    """Yield a derived V1 image and its ancestors up to those of the tree; None in place of what is lost."""
    above: ImageId | None = image
    while above and above not in contents.images:
        row = recorded.images.get(above)
        if (
            row is None
            or above in contents.said.images
            or not {row.json, row.layer}.isdisjoint(contents.lost)
        ):
            yield None
            return
        yield above
        above = row.parent


def _needed(
    said: Said, recorded: RecordedRepository, manifests: Iterable[Digest], images: Iterable[ImageId]
) -> Iterator[Digest]:
    """Yield the blobs that the repository must be able to read."""
    yield from said.blobs
    for digest in manifests:
        yield digest
        if own := recorded.manifests.get(digest):
            yield from own.blobs | own.entries
    for image in images:
        if row := recorded.images.get(image):
            yield from (each for each in (row.json, row.layer) if each)
