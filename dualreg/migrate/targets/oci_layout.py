"""An OCI image layout. Docker manifests are converted to OCI manifests with the same config and layers.

Readers of layouts ignore Docker's media types. OCI documents keep their digests.

Source: OCI image-spec v1.1, image-layout.md.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from dualreg.image import media_types
from dualreg.image.convert import docker_to_oci
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.formats import FORMATS
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, check_folder
from dualreg.migrate.targets.files import has_blob, verified, write_blob
from dualreg.migrate.targets.layout_index import LayoutIndex
from dualreg.migrate.targets.new_files import NewFiles, Rank, StagingFolder, new_step
from dualreg.migrate.transfer import LARGE


class OciLayoutTarget:
    """A Target; existing images stay, except for tags that move: see ``LayoutIndex``."""

    takes_schema1 = False
    takes_v1 = False
    shows_v1 = False
    served = None
    renames = True
    one_by_one = False
    is_quick = True
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
        self.root, self.deep, self.index = path, deep, LayoutIndex(path, repositories)
        self.renamed: dict[RepositoryName, dict[str, Descriptor]] = {}
        self._staging = StagingFolder(path)

    def step(self) -> AbstractContextManager["_Step"]:
        return new_step(self._staging, partial(_Step, self))

    def forget(self, repository: RepositoryName) -> None:
        self.renamed.pop(repository, None)

    def finish(self) -> None:
        self.index.save()

    def close(self) -> None:
        self._staging.close()


class _Step:
    """Images that are written together, and listed after that."""

    def __init__(self, target: OciLayoutTarget, files: NewFiles) -> None:
        self._target, self._files = target, files
        self._listed = list[tuple[Outgoing, Descriptor, Sequence[Tag]]]()

    @property
    def is_full(self) -> bool:
        """Whether no further tag should be begun."""
        return self._files.is_full

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        del repository
        path, deep = self._path(digest), self._target.deep
        if source.size > LARGE:  # other threads need not write it again meanwhile
            return write_blob(path, digest, source, deep=deep)
        if self._files.staged(path) or has_blob(path, digest, source.size, deep=deep):
            return 0
        self._files.write(path, verified(source, digest), Rank.BLOB)
        return source.size

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        renamed = self._target.renamed.setdefault(manifest.repository, {})
        media_type = media_types.DOCKER_TO_OCI.get(manifest.media_type, manifest.media_type)
        payload = (
            docker_to_oci(manifest.payload, renamed) if manifest.media_type in FORMATS else manifest.payload
        )
        described = Descriptor(media_type, Digest.of(payload, manifest.digest.algorithm), len(payload))
        if (described.digest, media_type) != (manifest.digest, manifest.media_type):
            renamed[str(manifest.digest)] = described
        sent = self._files.write_if_changed(self._path(described.digest), payload, Rank.MANIFEST)
        self._listed.append((replace(manifest, payload=b""), described, tags))  # there may be many
        return self._target.index.lacks(manifest, described, tags) or sent

    def end(self) -> None:
        """Give all of it names, and list it."""
        self._files.name()
        for manifest, described, tags in self._listed:
            self._target.index.add(manifest, described, tags)

    def _path(self, digest: Digest) -> Path:
        return self._target.root / "blobs" / digest.algorithm / digest.hex
