"""Same: whether the images of the source are those that are here under their ids, told by small files."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from dualreg.catalog.rows import V1ImageRow
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.migrate.findings import Broken, Kind
from dualreg.migrate.once import Once
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.v1.layers import examine
from dualreg.registry import Registry


def another(repository: RepositoryName, id_: str) -> Broken:
    """Return what is said of an image whose id stands for something else here."""
    return Broken(Kind.COLLISION, id_, f"{repository} has another image of this id")


@dataclass
class Same:
    """Compares by content, each image once: ids are random, and copies of registries go their own ways."""

    registry: Registry
    _looked: Once[tuple[RepositoryName, str], Broken | bool] = field(default_factory=Once)

    def are_here(self, repository: RepositoryName, images: Iterable[SourceImage]) -> bool:
        """Tell whether all of *images* are here.

        Raises:
            Broken: something else has the id of one of them, or one that looks different cannot be read.
        """
        for image in images:
            found = self._looked.of((repository, image.id), partial(self._look, repository, image))
            if isinstance(found, Broken):
                raise found
            if not found:
                return False
        return True

    def _look(self, repository: RepositoryName, image: SourceImage) -> Broken | bool:
        with self.registry.state.catalog.read() as tx:
            row = tx.v1_images.find(repository, image.id)
        if row is None or not row.complete:
            return False
        try:
            if row.json != Digest.of(image.json()):
                return another(repository, image.id)
            if _looks_the_same(row, image):
                return True
            inside = examine(image).diff_id
        except Broken as error:
            return error
        return inside == str(row.diff_id) or another(repository, image.id)


def _looks_the_same(row: V1ImageRow, image: SourceImage) -> bool:
    """Tell whether nothing says that the layer is another one; only then it needs to be read."""
    payloads = [stated.lower() for stated in image.checksums if stated.lower().startswith("sha256:")]
    agrees = not payloads or row.checksum is None or str(row.checksum) in payloads
    return agrees and image.size in (0, row.layer_size)
