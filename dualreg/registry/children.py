"""Children: what a manifest names, looked up in its repository while the manifest is stored."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.errors import ReferencesMissing, SizeMismatch
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import Child, Role
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.manifest import Manifest
from dualreg.patterns import matches


@dataclass(frozen=True, slots=True)
class ManifestRules:
    """What an operator chooses of the manifests that are taken.

    Attributes:
        sparse_indexes: Whether an index may name manifests that the repository does not hold.
        strict: Whether every size that a manifest states must be right.
        sparse: Whether any manifest may name what the repository does not hold: it is upstream.
        platforms: Which manifests of an index are copied, as patterns of ``OS/ARCH`` or ``OS/ARCH/VARIANT``;
            none: all.
    """

    sparse_indexes: bool = False
    strict: bool = False
    sparse: bool = False
    platforms: tuple[str, ...] = ()

    def chosen(self, children: Iterable[Child]) -> tuple[Child, ...]:
        """Return *children* without the manifests of other platforms.

        Those that are for no platform stay: attestations, for instance.
        """
        return tuple(child for child in children if not self.platforms or self._is_chosen(child))

    def lacks_platform(self, manifest: Manifest) -> bool:
        """Return whether an index has images of other platforms only."""
        chosen = {child.key for child in self.chosen(manifest.entries)}
        images = [child.key for child in manifest.entries if platform_names(child.descriptor)]
        return bool(images) and chosen.isdisjoint(images)

    def _is_chosen(self, child: Child) -> bool:
        names = platform_names(child.descriptor)
        return not names or any(matches(pattern, name) for pattern in self.platforms for name in names)


#: Those of manifests that are loaded from upstream, without what they name.
UPSTREAM_RULES = ManifestRules(sparse_indexes=True, sparse=True)


def platform_names(descriptor: Descriptor) -> tuple[str, ...]:
    """Return how the platform of an entry of an index is written, short and long; none: it is for none.

    Source: OCI image-spec v1.1, image-index.md, ``platform``; attestations of BuildKit state ``unknown``.
    """
    system, machine = (descriptor.platform.get(key) for key in ("os", "architecture"))
    if not (isinstance(system, str) and isinstance(machine, str)) or "unknown" in (system, machine):
        return ()
    short, variant = f"{system}/{machine}", descriptor.platform.get("variant")
    return (short, f"{short}/{variant}") if variant else (short,)


class Children(NamedTuple):
    """The children of a manifest, as its repository has them.

    Attributes:
        missing: What a sparse index, or a manifest from upstream, names and the repository does not hold.
        mismatches: Sizes that the manifest states wrongly, or not at all.
    """

    held: tuple[Child, ...]
    missing: tuple[Child, ...]
    mismatches: tuple[SizeMismatch, ...]


def resolve_children(
    tx: Transaction,
    repository_id: int,
    manifest: Manifest,
    rules: ManifestRules,
    present: Callable[[Transaction, Mapping[Digest, int]], Mapping[Digest, int]],
) -> Children:
    """Return which children the repository holds, and which it does not; none of them can be deleted now.

    An entry of an index may be a blob: build caches are indexes of layers.

    Args:
        present: Returns those of the blobs, given with their sizes, whose bytes the store has.

    Raises:
        ReferencesMissing: a required child is neither a blob nor a manifest of the repository, or is lost.
        SizeMismatch: a descriptor gives another size than the blob has, or none, and the rules are strict.
    """
    named = {child.descriptor.digest for child in manifest.children}
    sizes = tx.blobs.linked(repository_id, named) if named else {}
    sizes |= {digest: len(EMPTY_LAYER) for digest in named & {empty_layer().digest}}
    entries = {child.digest for child in manifest.described(Role.MANIFEST)}
    if entries:
        tx.manifests.lock_existing(repository_id, entries)  # all of them are among the linked blobs
    held = sizes.keys()
    required = (child.descriptor.digest for child in manifest.required)
    whole = present(tx, sizes).keys()
    allowed = whole | entries if rules.sparse_indexes else whole
    missing = [str(digest) for digest in dict.fromkeys(required) if digest not in allowed]
    if missing and not rules.sparse:
        raise ReferencesMissing(digests=missing)
    mismatches = tuple(size_mismatches(manifest, sizes))
    if rules.strict and mismatches:
        raise mismatches[0]
    absent = named - held if rules.sparse else entries - held
    return Children(
        tuple(child for child in manifest.children if child.descriptor.digest in held),
        tuple(child for child in manifest.children if child.descriptor.digest in absent),
        mismatches,
    )


def size_mismatches(manifest: Manifest, sizes: Mapping[Digest, int]) -> Iterator[SizeMismatch]:
    """Yield where the manifest states another size than *sizes*, or none although its format has them.

    Content that is not among *sizes* is not here, so nothing is known of it.
    """
    unsized = frozenset(manifest.unsized)
    for child in manifest.children:
        digest, stated = child.descriptor.digest, child.descriptor.size
        stored = sizes.get(digest)
        if digest in unsized or (None not in (stated, stored) and stated != stored):
            yield SizeMismatch(digest=str(digest), stored=stored, stated=stated)
