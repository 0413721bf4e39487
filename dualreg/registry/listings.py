"""Listings: the files in the layers of V1 images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dualreg.catalog.rows import V1ImageRow
from dualreg.image.listing import File, changes, files
from dualreg.registry.state import State
from dualreg.storage.base import read_chunks


@dataclass(frozen=True, slots=True)
class Listings:
    """Lists the files in the layers of V1 images."""

    state: State

    def files(self, row: V1ImageRow) -> Iterator[File]:
        """Yield the files of the image's own layer.

        Raises:
            ImageInvalid: the layer is not a tar, or has too many files.
        """
        if row.layer is not None:
            with self.state.store.open(row.layer) as layer:
                yield from files(read_chunks(layer))

    def changes(self, rows: Sequence[V1ImageRow]) -> dict[str, dict[str, list[object]]]:
        """Return what the first image of an ancestry changes in the others, as ``listing.changes``.

        Raises:
            ImageInvalid: as ``files``.
        """
        return changes(self.files(rows[0]), map(self.files, rows[1:]))
