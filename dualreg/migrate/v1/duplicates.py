"""Duplicate V1 images of a repository: equal in everything but their ids, as old tools could create them.

A manifest does not contain V1 ids, so all duplicates would become the same manifest, which is seen as one V1
image only: the tags of the others would change their ids. A manifest for each would need content that no
client asked for. So all but the first are refused, by a rule that depends on nothing but the source.
"""

import filecmp
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceImage, SourceTag

#: How many bytes of a layer are compared first.
_HEAD_BYTES = 4096
_Chain = Callable[[str], list[SourceImage]]


def duplicate_image(id_: str, first: str) -> Broken:
    """Return the error for an image that is a duplicate of *first*."""
    return Broken(
        FindingKind.COLLISION, id_, f"duplicate of {first}: one manifest cannot stand for two V1 images"
    )


def find_duplicates(tags: Iterable[SourceTag], chain: _Chain) -> Mapping[tuple[str, str], str]:
    """Return the first of its duplicates, by date of the tag, for each image by repository and id.

    Only images whose layers are files are compared; layers are read if everything else is equal.

    Args:
        chain: Returns an image and its ancestors, base first; raises Broken.
    """
    similar = defaultdict[tuple[str, int], dict[str, datetime]](dict)
    signatures = dict[str, int]()
    for tag in tags:
        if tag.updated is None:
            continue  # only tags in files are sure to have a date
        try:
            signature = _signature(tag.image, chain, signatures)
        except Broken:
            continue
        dates = similar[tag.repository, signature]
        dates[tag.image] = min(dates.get(tag.image, tag.updated), tag.updated)
    duplicates = dict[tuple[str, str], str]()
    for (repository, _), dates in similar.items():
        if len(dates) > 1:
            ids = [id_ for _, id_ in sorted((date, id_) for id_, date in dates.items())]
            duplicates |= {(repository, id_): first for id_, first in _duplicates(ids, chain)}
    return duplicates


def _duplicates(ids: Iterable[str], chain: _Chain) -> Iterator[tuple[str, str]]:
    """Yield each of *ids* that is a duplicate of an earlier one, and that one."""
    firsts = defaultdict[bytes, list[str]](list)
    for id_ in ids:
        image = chain(id_)
        candidates = firsts[_head(image[-1])]
        first = next((each for each in candidates if _are_duplicates(chain(each), image)), None)
        if first:
            yield id_, first
        else:
            candidates.append(id_)


def _signature(id_: str, chain: _Chain, known: dict[str, int]) -> int:
    """Return a number that is equal for duplicates, and hardly ever for other images."""
    if id_ not in known:
        parent = 0
        for image in chain(id_):
            if image.id not in known:
                known[image.id] = hash((image.likeness, image.size, parent))
            parent = known[image.id]
    return known[id_]


def _head(image: SourceImage) -> bytes:
    """Return the first bytes of a layer, so that few layers have to be compared; none if it is not a file."""
    if not image.layer.path:
        return b""
    try:
        with image.layer.open() as layer:
            return layer.read(_HEAD_BYTES)
    except OSError:
        return b""


def _are_duplicates(one: Iterable[SourceImage], other: Iterable[SourceImage]) -> bool:
    for image, counterpart in zip(one, other, strict=True):
        if image.id == counterpart.id:
            continue
        path, other_path = image.layer.path, counterpart.layer.path
        try:
            if not (path and other_path and filecmp.cmp(path, other_path, shallow=False)):
                return False
        except OSError:
            return False
    return True
