"""Kept: images of upstreams that are here, and which of them go again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

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

    def expired(self, upstream: str, keeping: Mapping[str, Keeping]) -> Sequence[KeptImage]:
        """Return the images of an upstream that are too old, or too much, the last used one first.

        Args:
            keeping: By prefixes of repositories, of which the longest one counts.
        """
        return [image for prefix in keeping for image in self._expired(upstream, keeping, prefix)]

    def _expired(self, upstream: str, all_keeping: Mapping[str, Keeping], prefix: str) -> Sequence[KeptImage]:
        keeping = all_keeping[prefix]
        if keeping.age is None and keeping.size is None:
            return ()
        with self.state.catalog.read() as tx:
            kept = tx.upstreams.kept(upstream)
            images = [each for each in kept if _longest(all_keeping, each.repository) == prefix]
            children = tx.upstreams.children(upstream) if keeping.size is not None else {}
            sizes = tx.upstreams.sizes(upstream) if keeping.size is not None else {}
            since = tx.now - keeping.age if keeping.age is not None else None
            policies = self.state.policies.of(tx, None)
            bound = {image for image in images if _is_bound(tx, policies, image)}
        found, counted, total, is_full = list[KeptImage](), set[Digest](), 0, False
        for image in images:
            new = {*_graph(image, children)} - counted
            size = sum(sizes.get(digest, 0) for digest in new)
            is_full = is_full or (keeping.size is not None and total + size > keeping.size)
            is_old = since is not None and image.used_at < since
            if image not in bound and (is_full or is_old):
                found.append(image)
            else:
                counted |= new
                total += size
        return found

    def expire(self, image: KeptImage) -> bool:
        """Delete an image with its tags, unless it is gone, in use or immutable by now; say whether it went.

        Its blobs become garbage.
        """
        try:
            self.manifests.delete(image.repository, image.digest)
        except (ManifestUnknown, ManifestInUse, RepositoryUnknown, TagImmutable):
            return False
        return True


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
