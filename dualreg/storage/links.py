"""Links: the catalog's names as small files beside the bytes, in the reference registry's own tree.

    <name>/_manifests/revisions/<alg>/<hex>/link    this repository holds this manifest
           _manifests/revisions/<alg>/<hex>/signed  … and this is it with its signatures (schema 1)
           _manifests/tags/<tag>/current/link       this tag points here
           _layers/<alg>/<hex>/link                 this repository may read this blob
           _v1/<image id>                           a V1 image: parent, json, layer, diff_id, checksum; JSON

A link's content is a digest in wire form. Requests never read them: they are there so that the folder alone
is a complete backup, can be served by the reference registry, and can rebuild a lost catalog. Services write
them in the transaction that records the relation, last before the commit, so files and rows agree on who won.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag


class LinkTree(Protocol):
    """The part of a driver that keeps link files, by path below the repositories' folder."""

    def write_link(self, path: str, content: bytes) -> None:
        """Write or replace one file, atomically and durably."""

    def remove_link(self, path: str) -> None:
        """Remove one file. An absent one is fine."""

    def remove_links(self, folder: str) -> None:
        """Remove every file below *folder*. An absent one is fine."""

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        """Yield every file's path and content, in the order of paths."""


@dataclass(frozen=True, slots=True)
class Links:
    """Writes and removes the link files of names; each method mirrors one change of the catalog."""

    tree: LinkTree

    def add_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """The repository may read the blob."""
        self._link(blob_link(repository, digest), digest)

    def remove_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """The repository may no longer read the blob."""
        self.tree.remove_link(blob_link(repository, digest))

    def add_manifest(self, repository: RepositoryName, digest: Digest) -> None:
        """The repository holds the manifest."""
        self._link(manifest_link(repository, digest), digest)

    def add_signed(self, repository: RepositoryName, digest: Digest, signed: Digest) -> None:
        """The blob *signed* is the manifest with its signatures."""
        self._link(signed_link(repository, digest), signed)

    def remove_manifest(self, repository: RepositoryName, digest: Digest) -> None:
        """The repository no longer holds the manifest."""
        self.tree.remove_links(f"{repository}/_manifests/revisions/{_folder(digest)}")

    def point_tag(self, repository: RepositoryName, tag: Tag, digest: Digest) -> None:
        """The tag points at the manifest."""
        self._link(tag_link(repository, tag), digest)

    def remove_tag(self, repository: RepositoryName, tag: Tag) -> None:
        """The tag is gone."""
        self.tree.remove_link(tag_link(repository, tag))

    def add_v1_image(
        self, repository: RepositoryName, image: ImageId, facts: Mapping[str, str | None]
    ) -> None:
        """The repository holds the V1 image; *facts* are its row, as text."""
        self.tree.write_link(f"{repository}/_v1/{image}", json.dumps(facts, sort_keys=True).encode())

    def remove_v1_image(self, repository: RepositoryName, image: ImageId) -> None:
        """The repository no longer holds the V1 image."""
        self.tree.remove_link(f"{repository}/_v1/{image}")

    def remove_repository(self, repository: RepositoryName) -> None:
        """The repository is gone; others whose names begin with its name and a slash are not."""
        for folder in ("_manifests", "_layers", "_v1"):
            self.tree.remove_links(f"{repository}/{folder}")

    def _link(self, path: str, digest: Digest) -> None:
        self.tree.write_link(path, str(digest).encode())


def blob_link(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of the file by which a repository may read a blob."""
    return f"{repository}/_layers/{_folder(digest)}/link"


def manifest_link(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of the file by which a repository holds a manifest."""
    return f"{repository}/_manifests/revisions/{_folder(digest)}/link"


def signed_link(repository: RepositoryName, digest: Digest) -> str:
    """Return the path of the file that says which blob is a manifest with its signatures."""
    return f"{repository}/_manifests/revisions/{_folder(digest)}/signed"


def tag_link(repository: RepositoryName, tag: Tag) -> str:
    """Return the path of the file that says what a tag points at."""
    return f"{repository}/_manifests/tags/{tag}/current/link"


def _folder(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex}"
