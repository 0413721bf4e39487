"""Twins: V1 images of a repository that differ in nothing but their ids, as tools of old could make them.

A manifest says nothing of ids, so all of them would become the same one, which is seen as one V1 image only:
the tags of the others would change their ids. To give each a manifest of its own, something would have to be
written into it that no client asked for, and that depends on what else there is; so all but the first are
refused, by a rule that looks at nothing but the source.
"""

import filecmp
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceImage, SourceTag

#: Bytes of a layer that tell most apart.
_HEAD = 4096
_Chain = Callable[[str], list[SourceImage]]


def duplicate_image(id_: str, first: str) -> Broken:
    """Return what is said of an image that is like another one, which came first."""
    return Broken(
        FindingKind.COLLISION, id_, f"it is {first} in all but the id, and a manifest can be but one of them"
    )


def find_duplicates(tags: Iterable[SourceTag], chain: _Chain) -> Mapping[tuple[str, str], str]:
    """Return, by repository and id, the image that another one is like; the one that was tagged first counts.

    Only those whose layers are files are compared, and those that look alike are read.

    Args:
        chain: Returns an image and its ancestors; raises Broken.
    """
    alike = defaultdict[tuple[str, int], dict[str, datetime]](dict)
    signatures = dict[str, int]()
    for tag in tags:
        if tag.updated is None:
            continue  # which those have that are no files
        try:
            signature = _signature(tag.image, chain, signatures)
        except Broken:
            continue
        dates = alike[tag.repository, signature]
        dates[tag.image] = min(dates.get(tag.image, tag.updated), tag.updated)
    found = dict[tuple[str, str], str]()
    for (repository, _), dates in alike.items():
        if len(dates) > 1:
            ids = [id_ for _, id_ in sorted((date, id_) for id_, date in dates.items())]
            found |= {(repository, id_): first for id_, first in _like_others(ids, chain)}
    return found


def _like_others(ids: Iterable[str], chain: _Chain) -> Iterator[tuple[str, str]]:
    """Yield those of *ids* that are twins of one before them, with that."""
    firsts = defaultdict[bytes, list[str]](list)
    for id_ in ids:
        image = chain(id_)
        among = firsts[_head(image[-1])]
        first = next((each for each in among if _are_twins(chain(each), image)), None)
        if first:
            yield id_, first
        else:
            among.append(id_)


def _signature(id_: str, chain: _Chain, known: dict[str, int]) -> int:
    """Return a number that twins have in common; others hardly ever."""
    if id_ not in known:
        below = 0
        for image in chain(id_):
            if image.id not in known:
                known[image.id] = hash((image.likeness, image.size, below))
            below = known[image.id]
    return known[id_]


def _head(image: SourceImage) -> bytes:
    """Return how a layer begins that is a file, so that few need to be compared whole."""
    if not image.layer.path:
        return b""
    try:
        with image.layer.open() as layer:
            return layer.read(_HEAD)
    except OSError:
        return b""


def _are_twins(one: Iterable[SourceImage], other: Iterable[SourceImage]) -> bool:
    for image, like in zip(one, other, strict=True):
        if image.id == like.id:
            continue
        path, other_path = image.layer.path, like.layer.path
        try:
            if not (path and other_path and filecmp.cmp(path, other_path, shallow=False)):
                return False
        except OSError:
            return False
    return True
