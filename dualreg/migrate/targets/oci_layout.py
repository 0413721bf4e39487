"""An OCI image layout. Docker manifests are converted to OCI manifests with the same config and layers.

Readers of layouts ignore Docker's media types. OCI documents keep their digests.

Source: OCI image-spec v1.1, image-layout.md.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from dualreg.image import media_types
from dualreg.image.convert import docker_to_oci
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import FORMATS
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, check_folder
from dualreg.migrate.targets.files import write_blob, write_if_changed
from dualreg.migrate.targets.layout_index import LayoutIndex


class OciLayoutTarget:
    """A Target; existing images stay, except for tags that move: see ``LayoutIndex``."""

    takes_schema1 = False
    takes_v1 = False
    served = None
    renames = True
    one_by_one = False
    is_stream = False

    def __init__(self, path: Path, repositories: Iterable[str], *, deep: bool = False) -> None:
        """Write below *path*.

        Args:
            repositories: Those of all tags that will be exported.
            deep: Read existing blobs, instead of comparing sizes.

        Raises:
            TargetInvalid: it is not a folder, or its index is invalid.
        """
        check_folder(path)
        self._root, self._deep, self._index = path, deep, LayoutIndex(path, repositories)
        self._renamed: dict[RepositoryName, dict[str, Descriptor]] = {}

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        del repository
        return write_blob(self._path(digest), digest, source, deep=self._deep)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        renamed = self._renamed.setdefault(manifest.repository, {})
        media_type = media_types.DOCKER_TO_OCI.get(manifest.media_type, manifest.media_type)
        payload = (
            docker_to_oci(manifest.payload, renamed) if manifest.media_type in FORMATS else manifest.payload
        )
        described = Descriptor(media_type, Digest.of(payload, manifest.digest.algorithm), len(payload))
        if (described.digest, media_type) != (manifest.digest, manifest.media_type):
            renamed[str(manifest.digest)] = described
        sent = write_if_changed(self._path(described.digest), payload)
        return self._index.add(manifest, described, tags) or sent

    def finish(self) -> None:
        self._index.save()

    def close(self) -> None:
        pass

    def _path(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.hex
