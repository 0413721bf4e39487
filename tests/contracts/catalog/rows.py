"""Rows that the contracts of the catalog are about."""

from datetime import timedelta

from sqlalchemy import func, select

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import V1ImageRow
from dualreg.catalog.tables import Table
from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest, parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from tests.builders import image, layer

NAME, OTHER = RepositoryName("library/x"), RepositoryName("library/y")
#: Names whose order differs between bytes and every natural language.
ODD_ORDER = ["A", "B", "Z", "_", "__", "_a", "a", "a-b", "a.b", "a0", "a_b", "ab", "b", "z"]
IMAGE = image(layer({"a": b"1"}), layer({"b": b"2"}))
MANIFEST = parse(IMAGE.media_type, IMAGE.manifest)
CONFIG, LOWER, UPPER = (child.descriptor.digest for child in MANIFEST.children)
MISSING = Digest.of(b"missing")
LEASE = timedelta(seconds=30)


def image_id(number: int) -> ImageId:
    """Return a V1 id."""
    return ImageId(f"{number:064x}")


def link(tx: Transaction, repository_id: int, *blobs: bytes) -> None:
    """Record blobs, and give them to a repository."""
    for blob in blobs:
        tx.blobs.record(Digest.of(blob), len(blob))
        tx.blobs.link(repository_id, Digest.of(blob))


def record(tx: Transaction, repository_id: int, manifest: Manifest, *blobs: bytes) -> None:
    """Record a manifest with its blobs."""
    link(tx, repository_id, manifest.payload, *blobs)
    tx.manifests.record(repository_id, manifest)
    tx.manifests.record_children(repository_id, manifest, manifest.children)


def push(tx: Transaction, name: RepositoryName = NAME, *tags: str) -> int:
    """Record IMAGE with its blobs and *tags*, and return the repository's id."""
    repository_id = tx.repositories.ensure(name).id
    record(tx, repository_id, MANIFEST, *IMAGE.blobs.values())
    tx.tags.point(repository_id, [Tag(tag) for tag in tags], MANIFEST.digest)
    return repository_id


def artifact(number: int) -> Manifest:
    """Return a manifest that names nothing."""
    return parse("application/x", b'{"number": %d}' % number)


def v1_row(repository_id: int, number: int, parent: int | None = None) -> V1ImageRow:
    """Return a complete V1 image over blobs that ``_push`` links."""
    size = len(IMAGE.layers[0])
    above = None if parent is None else image_id(parent)
    return V1ImageRow(
        repository_id,
        image_id(number),
        above,
        CONFIG,
        LOWER,
        size,
        MISSING,
        Digest.of(b"checksum"),
        complete=True,
    )


def found_image(tx: Transaction, number: int) -> V1ImageRow:
    """Return a V1 image of NAME, which is there."""
    row = tx.v1_images.find(NAME, image_id(number))
    assert row
    return row


def count(tx: Transaction, table: type[Table]) -> int:
    """Return how many rows a table has."""
    return tx.repositories.connection.scalar(select(func.count()).select_from(table)) or 0
