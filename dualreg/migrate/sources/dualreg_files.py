"""What dualreg keeps beside the links in the reference registry's tree: V1 images, views, and who pushed.

``storage.links`` describes these files. Trees of the reference registry have none of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualreg.catalog.rows import ORIGINS, Origin
from dualreg.catalog.views import V1
from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.image.v1_image import CHAIN_LIMIT, V1Image
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes, SourceImage
from dualreg.migrate.sources.files import entries, is_folder, read_file, was_deleted
from dualreg.storage.durable import instant
from dualreg.storage.link_tree import LinkFile
from dualreg.storage.names import ManifestName, Names, TagName, V1Name

#: More bytes than any link file has.
_LINK_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class ContainedLinks:
    """A LinkReader of a tree that may be hostile: no symbolic link leads out of *root*."""

    root: Path

    def read_link(self, path: str) -> LinkFile | None:
        file = self.root / "repositories" / path
        try:
            content, found = read_file(file, self.root, _LINK_LIMIT)
        except OSError as error:
            if was_deleted(file, error) or isinstance(error, NotADirectoryError):
                return None
            raise
        return LinkFile(content, instant(found.st_mtime_ns))

    def list_links(self, folder: str) -> Sequence[str]:
        path = self.root / "repositories" / folder
        try:
            return [f"{each.name}/" if is_folder(each) else each.name for each in entries(path, self.root)]
        except OSError as error:
            if was_deleted(path, error) or isinstance(error, NotADirectoryError):
                return ()
            raise


@dataclass(frozen=True, slots=True)
class DualregFiles:
    """Reads these files; a file that is damaged says nothing.

    Attributes:
        root: The folder with ``blobs`` and ``repositories``.
        document: Returns a small blob, whose digest was verified; raises Broken.
        blob: Returns a blob, not read yet; raises Broken.
    """

    root: Path
    document: Callable[[Digest], bytes]
    blob: Callable[[Digest], SourceBytes]

    @property
    def names(self) -> Names:
        """The names in the tree."""
        return Names(ContainedLinks(self.root))

    def manifest(self, repository: str, digest: Digest) -> ManifestName:
        """Return what is known of a manifest, whether or not there is one."""
        found = self.names.manifest(RepositoryName(repository), digest, instant(0))
        return next(each for each in found if isinstance(each, ManifestName))

    def pusher(self, repository: str, tag: str) -> tuple[Origin, str]:
        """Return the generation of the client that pushed a tag, and its User-Agent if that is known."""
        for each in self.names.tag(RepositoryName(repository), tag):
            if isinstance(each, TagName) and each.origin in ORIGINS:
                return Origin(each.origin), each.agent or ""
        return Origin.V2, ""

    def v1_chain(self, repository: str, digest: Digest) -> tuple[SourceImage, ...]:
        """Return the chain that V1 clients pushed and see the manifest as, base first; none if it is unknown.

        A chain without any image that a client pushed is left out: it is derived again, under the same IDs.

        Raises:
            Broken: a part of it is missing or damaged.
        """
        top = self.manifest(repository, digest).views.get(V1, "")
        chain = [*self._ancestry(repository, top)] if top else []
        is_pushed = any(image.recorded and image.recorded.checksum for image in chain)
        return tuple(reversed(chain)) if is_pushed else ()

    def _ancestry(self, repository: str, top: str) -> Iterator[SourceImage]:
        seen, wanted = set[str](), top
        while wanted:
            where = f"{repository} image {wanted}"
            found = self.names.v1_image(RepositoryName(repository), wanted)
            if not isinstance(found, V1Name):
                raise Broken(FindingKind.LOST_V1, where, found.reason if found else "no such image")
            if wanted in seen or len(seen) >= CHAIN_LIMIT:
                raise Broken(FindingKind.LOST_V1, where, "it is its own ancestor, or has too many")
            seen.add(wanted)
            yield self._image(where, found)
            wanted = found.parent or ""

    def _image(self, where: str, found: V1Name) -> SourceImage:
        try:
            json, layer = self.document(found.json), self.blob(found.layer)
            document = V1Image.parse(json)
        except Broken as error:
            raise Broken(FindingKind.LOST_V1, where, error.finding.text) from error
        except ImageInvalid as error:
            raise Broken(FindingKind.LOST_V1, where, error.reason) from error
        if (document.id, document.parent) != (found.id, found.parent):
            raise Broken(FindingKind.LOST_V1, where, "its JSON is that of another image")
        stated = tuple(map(str, filter(None, (found.checksum, found.tarsum))))
        return SourceImage(found.id, found.parent, lambda: json, layer, checksums=stated, recorded=found)
