"""Links: the names in the catalog as small files beside the bytes, in the layout of the reference registry.

    <name>/_manifests/revisions/<alg>/<hex>/link    the manifest is in the repository
           _manifests/revisions/<alg>/<hex>/signed  the same manifest with its signatures (schema 1)
           _manifests/tags/<tag>/current/link       the manifest that the tag points at
           _layers/<alg>/<hex>/link                 the blob may be read from the repository
           _v1/<image id>                           a V1 image: parent, json, layer, diff_id, checksum; JSON

A link file contains a digest in wire form. Requests never read link files. They make the folder a complete
backup, which the reference registry can serve and from which a lost catalog can be rebuilt. Services write
them in the transaction that records the relation, last before the commit, so that of concurrent requests the
same one wins in files and rows.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag

#: The end of the path of a tag's link file.
_TAG_LINK = "/current/link"


class LinkTree(Protocol):
    """The part of a driver that keeps link files; paths are relative to the folder of repositories.

    All methods may be called by several threads and processes at once.
    """

    def write_link(self, path: str, content: bytes) -> None:
        """Create or replace a file, atomically and durably; one with the same content is left as it is."""

    def remove_link(self, path: str) -> None:
        """Remove a file, durably, and folders that become empty. It is not an error if there is none."""

    def remove_links(self, folder: str) -> None:
        """Remove *folder* with all files in it, durably. It is not an error if there is none."""

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path and content of every file, ordered by path."""


@dataclass(frozen=True, slots=True)
class Links:
    """Writes and removes link files; each method mirrors one change of the catalog."""

    tree: LinkTree

    def has_tags(self) -> bool:
        """Return whether there is a tag in any repository."""
        return any(path.endswith(_TAG_LINK) for path, _ in self.tree.walk_links())

    def add_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Record that the blob may be read from the repository."""
        self._link(blob_link(repository, digest), digest)

    def remove_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Record that the blob may no longer be read from the repository."""
        self.tree.remove_link(blob_link(repository, digest))

    def add_manifest(self, repository: RepositoryName, digest: Digest) -> None:
        """Record that the manifest is in the repository."""
        self._link(manifest_link(repository, digest), digest)

    def add_signed(self, repository: RepositoryName, digest: Digest, signed: Digest) -> None:
        """Record that the blob *signed* is the manifest with its signatures."""
        self._link(signed_link(repository, digest), signed)

    def remove_manifest(self, repository: RepositoryName, digest: Digest) -> None:
        """Record that the manifest is no longer in the repository."""
        self.tree.remove_links(f"{repository}/_manifests/revisions/{_folder(digest)}")

    def point_tag(self, repository: RepositoryName, tag: Tag, digest: Digest) -> None:
        """Record that the tag points at the manifest."""
        self._link(tag_link(repository, tag), digest)

    def remove_tag(self, repository: RepositoryName, tag: Tag) -> None:
        """Record that the tag was deleted."""
        self.tree.remove_link(tag_link(repository, tag))

    def add_v1_image(
        self, repository: RepositoryName, image: ImageId, facts: Mapping[str, str | None]
    ) -> None:
        """Record that the V1 image is in the repository; *facts* are the columns of its row."""
        self.tree.write_link(f"{repository}/_v1/{image}", json.dumps(facts, sort_keys=True).encode())

    def remove_v1_image(self, repository: RepositoryName, image: ImageId) -> None:
        """Record that the V1 image is no longer in the repository."""
        self.tree.remove_link(f"{repository}/_v1/{image}")

    def remove_repository(self, repository: RepositoryName) -> None:
        """Record that the repository was deleted; repositories below its name (``NAME/…``) stay."""
        for folder in ("_manifests", "_layers", "_v1"):
            self.tree.remove_links(f"{repository}/{folder}")

    def _link(self, path: str, digest: Digest) -> None:
        self.tree.write_link(path, str(digest).encode())


def blob_link(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of the link file of a blob."""
    return f"{repository}/_layers/{_folder(digest)}/link"


def manifest_link(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of the link file of a manifest."""
    return f"{repository}/_manifests/revisions/{_folder(digest)}/link"


def signed_link(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of the link file of a manifest with its signatures."""
    return f"{repository}/_manifests/revisions/{_folder(digest)}/signed"


def tag_link(repository: RepositoryName, tag: Tag) -> str:
    """Return the path of the link file of a tag."""
    return f"{repository}/_manifests/tags/{tag}{_TAG_LINK}"


def _folder(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex}"
