"""Children: what a manifest names, and which of it a repository holds."""

from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.errors import ReferencesMissing, SizeMismatch
from dualreg.image.digest import Digest
from dualreg.image.formats import Child, Role
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.manifest import Manifest


class Children(NamedTuple):
    """The children of a manifest.

    Attributes:
        missing: Manifests that an index may name before they are here.
    """

    held: tuple[Child, ...]
    missing: tuple[Child, ...]


def documents(manifest: Manifest) -> dict[Digest, bytes]:
    """Return the manifest and what comes in with it.

    That is its signed form, and the empty layer, which every repository has without anybody pushing it.
    """
    documents = {manifest.digest: manifest.payload}
    if manifest.signed:
        documents[Digest.of(manifest.signed)] = manifest.signed
    empty = empty_layer().digest
    if any(child.descriptor.digest == empty for child in manifest.children):
        documents[empty] = EMPTY_LAYER
    return documents


def sort_children(tx: Transaction, repository_id: int, manifest: Manifest, *, sparse: bool) -> Children:
    """Return which children the repository holds; all that it must hold are among them.

    With *sparse*, an index need not have all its manifests here.

    Raises:
        ReferencesMissing: a blob is not linked here, or the child of an index is not a manifest here.
        SizeMismatch: a descriptor promises another size than the blob has.
    """
    named = {child.descriptor.digest for child in manifest.children}
    sizes = tx.blobs.linked(repository_id, named) if named else {}
    sizes |= {digest: len(EMPTY_LAYER) for digest in named & {empty_layer().digest}}
    entries = {child.digest for child in manifest.described(Role.MANIFEST)}
    held = (sizes.keys() - entries) | (tx.manifests.held(repository_id, entries) if entries else frozenset())
    required = (child.descriptor.digest for child in manifest.required)
    excused = held | entries if sparse else held
    missing = [str(digest) for digest in dict.fromkeys(required) if digest not in excused]
    if missing:
        raise ReferencesMissing(digests=missing)
    for child in manifest.children:
        stated, stored = child.descriptor.size, sizes.get(child.descriptor.digest)
        if None not in (stated, stored) and stated != stored:
            raise SizeMismatch(digest=str(child.descriptor.digest), stored=stored, stated=stated)
    here = tuple(child for child in manifest.children if child.descriptor.digest in held)
    absent = entries - held
    return Children(here, tuple(child for child in manifest.children if child.descriptor.digest in absent))
