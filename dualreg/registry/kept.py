"""Kept: images of upstreams that are here, and which of them go again."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import KeptImage
from dualreg.errors import ManifestInUse, ManifestUnknown, RepositoryUnknown, TagImmutable
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.manifests import Manifests
from dualreg.registry.policies import PolicySet
from dualreg.registry.state import State


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long images of an upstream stay.

    Attributes:
        age: After the last pull by tag; None: any time.
        size: Bytes of all of them; None: any number.
    """

    age: timedelta | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """Deletes images of upstreams that have not been pulled for long; never what clients have pushed."""

    state: State
    manifests: Manifests

    def is_large(self, upstream: str, keeping: Mapping[str, Keeping], limit: int) -> bool:
        """Return whether ``expired`` has to look at more than *limit* manifests of an upstream."""
        if all(each == Keeping() for each in keeping.values()):
            return False
        with self.state.catalog.read() as tx:
            return tx.upstreams.has_more(upstream, limit)

    def expired(self, upstream: str, keeping: Mapping[str, Keeping]) -> Sequence[KeptImage]:
        """Return the images of an upstream that are too old, or too much, the last used one first.

        Args:
            keeping: By prefixes of repositories, of which the longest one counts.
        """
        limited = [prefix for prefix, each in keeping.items() if each != Keeping()]
        if not limited:
            return ()
        by_size = any(keeping[prefix].size is not None for prefix in limited)
        images = defaultdict[str, list[KeptImage]](list)
        with self.state.catalog.read() as tx:
            for image in tx.upstreams.kept(upstream):
                images[_longest(keeping, image.repository)].append(image)
            children = tx.upstreams.children(upstream) if by_size else {}
            contents = _Contents(children, tx.upstreams.sizes(upstream) if by_size else {})
            is_bound = partial(_is_bound, tx, self.state.policies.of(tx, None))
            due = (_due(images[prefix], keeping[prefix], contents, tx.now, is_bound) for prefix in limited)
            return [*chain.from_iterable(due)]

    def expire(self, image: KeptImage) -> bool:
        """Delete an image with its tags, unless it is gone, in use or immutable by now; say whether it went.

        Its blobs become garbage.
        """
        try:
            self.manifests.delete(image.repository, image.digest)
        except (ManifestUnknown, ManifestInUse, RepositoryUnknown, TagImmutable):
            return False
        return True


class _Contents(NamedTuple):
    """What each manifest of an upstream names, and the sizes of blobs; empty if no size is limited."""

    children: Mapping[tuple[RepositoryName, Digest], Sequence[Digest]]
    sizes: Mapping[Digest, int]


def _due(
    images: Iterable[KeptImage],
    keeping: Keeping,
    contents: _Contents,
    now: datetime,
    is_bound: Callable[[KeptImage], bool],
) -> Iterator[KeptImage]:
    """Yield those of some images that are too old, or too much beside those that stay."""
    counted, total, is_full = set[Digest](), 0, False
    for image in images:
        new = {*_graph(image, contents.children)} - counted
        size = sum(contents.sizes.get(digest, 0) for digest in new)
        is_full = is_full or (keeping.size is not None and total + size > keeping.size)
        is_old = keeping.age is not None and image.used_at < now - keeping.age
        if (is_full or is_old) and not is_bound(image):
            yield image
        else:
            counted |= new
            total += size


def _is_bound(tx: Transaction, policies: PolicySet, image: KeptImage) -> bool:
    """Return whether an image has an immutable tag."""
    if not policies.may_bind(image.repository) or not (row := tx.repositories.find(image.repository)):
        return False
    return bool(policies.bound(image.repository, tx.tags.pointing_at(row.id, image.digest)))


def _longest(prefixes: Iterable[str], repository: RepositoryName) -> str:
    """Return the longest of the prefixes of a repository; the first of all if it has another one by now."""
    return max(prefixes, key=lambda prefix: len(prefix) if repository.startswith(prefix) else -1)


def _graph(
    image: KeptImage, children: Mapping[tuple[RepositoryName, Digest], Sequence[Digest]]
) -> Iterator[Digest]:
    """Yield the digests of an image and of all that it names."""
    seen, waiting = {image.digest}, [image.digest]
    while waiting:
        digest = waiting.pop()
        yield digest
        new = {*children.get((image.repository, digest), ())} - seen
        seen |= new
        waiting += new
