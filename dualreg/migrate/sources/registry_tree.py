"""The storage of the reference registry (distribution 2.0 to 3.x), which is dualreg's own as well.

    <root>/docker/registry/v2/blobs/<alg>/<ab>/<hex>/data
    <root>/docker/registry/v2/repositories/<name>/_layers/<alg>/<hex>/link
                                                 /_manifests/revisions/<alg>/<hex>/link
                                                 /_manifests/tags/<tag>/current/link

It is read liberally: release 2.1.0 lost or misplaced links, and 2.0 to 2.4 stored signatures separately.
``dualreg_files`` reads what dualreg keeps besides.

Source: distribution 2.0 to 3.0, ``registry/storage/paths.go``.
"""

import errno
import json
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from dualreg.catalog.rows import Origin
from dualreg.errors import DigestInvalid, ManifestUnverified
from dualreg.image.digest import Digest
from dualreg.image.jws import add_signatures, verified_payload
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.sources.base import (
    SourceBytes,
    SourceImage,
    SourceInvalid,
    SourceManifest,
    SourceTag,
    lost_tag,
)
from dualreg.migrate.sources.dualreg_files import DualregFiles
from dualreg.migrate.sources.files import (
    blob_file,
    entries,
    may_be_folder,
    read_document,
    read_file,
    was_deleted,
)
from dualreg.storage.base import Keeps
from dualreg.storage.durable import instant
from dualreg.storage.link_folder import REGISTRY
from dualreg.storage.links import blob_link, revision

_LINK_LIMIT = 1 << 10
#: A repository has one of these.
_REPOSITORY_FOLDERS = ("_manifests", "_layers")
#: More components than a name of 255 characters can have.
_DEPTH_LIMIT = 128


@dataclass(frozen=True, slots=True)
class RegistryTree:
    """A ManifestSource.

    Attributes:
        root: The folder with ``blobs`` and ``repositories``.
    """

    root: Path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the tree at *path*: the registry's root directory, or a folder of the tree below it.

        Raises:
            SourceInvalid: it is neither.
        """
        for root in (path / REGISTRY, path, path / "registry" / "v2", path / "v2"):
            if (root / "repositories").is_dir() and (root / "blobs").is_dir():
                return cls(root.resolve())  # what is opened is compared with it
        if not path.is_dir():
            raise SourceInvalid(f"{path}: no such directory")
        old = (path / "images").is_dir()
        hint = "; it looks like v1-tree:" if old else ""
        raise SourceInvalid(f"{path}: no {REGISTRY} with blobs and repositories{hint}")

    def is_store(self, keeps: Keeps) -> bool:
        digest = Digest.of(b"")
        return keeps(Path(self._data(digest)), digest)

    def tags(self) -> Iterator[SourceTag | Finding]:
        for name, folder in _repositories(self.root, self.root / "repositories", ""):
            if isinstance(folder, SourceTag):
                yield folder
                continue
            tags = [*self._repository(name, f"{folder}/_manifests")]
            yield from tags
            if not tags:
                yield Finding(FindingKind.EMPTY, name, "no manifests")

    def tag(self, repository: str, tag: str) -> SourceTag | None:
        return _tag(self.root, repository, tag, f"{self._manifests(repository)}/tags/{tag}")

    def names_of(self, repository: str) -> Iterator[str]:
        for folder in self.folders_of(repository):
            yield from (each.name for each in folder.iterdir())

    def folders_of(self, repository: str) -> Sequence[Path]:
        folder = Path(self._manifests(repository), "tags")
        return [folder] if folder.is_dir() else []

    def revision(self, repository: str, digest: Digest) -> SourceTag | None:
        """Return a manifest that is linked in the repository, as an untagged image; None if it is not."""
        link = f"{self._revision(repository, digest)}/link"
        is_file = os.path.isfile(link)  # noqa: PTH113 -- text
        return SourceTag(repository, "", str(digest), _time(link)) if is_file else None

    def revisions_of(self, repository: str) -> Iterator[Digest]:
        """Yield the manifests of a repository; of deleted ones, the folder may be left."""
        for folder in self.revision_folders_of(repository):
            for each in folder.iterdir():
                with suppress(DigestInvalid):
                    yield Digest.parse(f"{folder.name}:{each.name}")

    def revision_folders_of(self, repository: str) -> Sequence[Path]:
        """Return the folders whose modification time changes when ``revisions_of`` does."""
        return [Path(each) for each in _folders(self.root, f"{self._manifests(repository)}/revisions")]

    def has_blob(self, digest: Digest) -> bool:
        """Return whether the tree has a blob or manifest, in any repository."""
        return os.path.isfile(self._data(digest))  # noqa: PTH113 -- text

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        """Return a manifest; signatures that were stored separately are put back, if they are whole.

        The garbage collection of releases from 2.5 on deletes them.
        """
        where = f"{repository}@{digest}"
        folder = self._revision(repository, digest)
        if _names(folder) == ["link"]:  # as in most trees: nothing else is known of it
            return SourceManifest("", read_document(self._data(digest), self.root, where))
        if _was_unlinked(folder) and not self._layer_link(repository, digest):
            raise Broken(FindingKind.MISSING_MANIFEST, where, "deleted manifest")
        kept = self._own.manifest(repository, digest)
        body = self._signed_body(kept.signed, digest) or read_document(self._data(digest), self.root, where)
        try:
            apart = _links(self.root, f"{folder}/signatures")
        except OSError as error:
            raise Broken(FindingKind.UNREADABLE, where, f"its signatures cannot be read: {error}") from error
        signatures = [*self._whole(apart)]
        return SourceManifest(kept.media_type, _signed(body, signatures) if signatures else body)

    def pushed_at(self, repository: str, digest: Digest) -> datetime | None:
        found = self.revision(repository, digest)
        return found.updated if found else None

    def pusher(self, repository: str, tag: str) -> tuple[Origin, str]:
        return self._own.pusher(repository, tag)

    def v1_chain(self, repository: str, digest: Digest) -> tuple[SourceImage, ...]:
        has_views = os.path.isdir(f"{self._revision(repository, digest)}/views")  # noqa: PTH112 -- text
        return self._own.v1_chain(repository, digest) if has_views else ()

    @property
    def _own(self) -> DualregFiles:
        return DualregFiles(self.root, self._document, self._blob)

    def _document(self, digest: Digest) -> bytes:
        return _verified(self._data(digest), self.root, digest)

    def _blob(self, digest: Digest) -> SourceBytes:
        return blob_file(self._data(digest), self.root, str(digest))

    def _whole(self, digests: Iterable[Digest]) -> Iterator[bytes]:
        """Yield those documents that are whole."""
        for digest in digests:
            with suppress(Broken):
                yield self._document(digest)

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        found = self._layer_link(repository, digest) or digest
        return blob_file(self._data(found), self.root, f"{repository}@{digest}")

    def _repository(self, name: str, manifests: str) -> Iterator[SourceTag]:
        """Yield the tags, and then the untagged manifests, of a repository."""
        images = set[str]()
        try:
            for folder in _folders(self.root, f"{manifests}/tags"):
                if tag := _tag(self.root, name, folder.name, folder.path):
                    yield tag
                    images.add(tag.image)
            for digest, link in _revisions(self.root, f"{manifests}/revisions", images):
                yield SourceTag(name, "", digest, _time(link))
        except OSError as error:
            yield lost_tag(FindingKind.UNREADABLE, name, "", f"cannot be read: {error}")

    def _signed_body(self, signed: Digest | None, digest: Digest) -> bytes | None:
        """Return schema 1 with the signatures that dualreg keeps; None if they are lost or damaged."""
        try:
            body = read_document(self._data(signed), self.root, "") if signed else None
            return body if body and Digest.of(verified_payload(body), digest.algorithm) == digest else None
        except (Broken, ManifestUnverified, ValueError):
            return None

    def _revision(self, repository: str, digest: Digest) -> str:
        return f"{self.root}/repositories/{revision(repository, digest)}"

    def _manifests(self, repository: str) -> str:
        return f"{self.root}/repositories/{repository}/_manifests"

    def _layer_link(self, repository: str, digest: Digest) -> Digest | None:
        """Return the digest in the link of a blob; release 2.1.0 linked manifests there as well."""
        return _read_link(self.root, f"{self.root}/repositories/{blob_link(repository, digest)}")

    def _data(self, digest: Digest) -> str:
        return f"{self.root}/blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def _tag(root: Path, repository: str, tag: str, folder: str) -> SourceTag | None:
    """Return the *tag* of a folder; None if it was deleted and only its history is left."""
    link = f"{folder}/current/link"
    try:
        content, found = read_file(link, root, _LINK_LIMIT)
        digest = _parse_link(content)
    except OSError as error:
        if was_deleted(link, error):
            return None
        return lost_tag(FindingKind.UNREADABLE, repository, tag, f"cannot be read: {error}")
    except DigestInvalid:
        return lost_tag(FindingKind.CORRUPT, repository, tag, "its link contains no digest")
    return SourceTag(repository, tag, str(digest), instant(found.st_mtime_ns))


def _verified(path: str, root: Path, digest: Digest) -> bytes:
    """Return a document with its digest.

    Raises:
        Broken: it is missing or damaged.
    """
    content = read_document(path, root, str(digest))
    if Digest.of(content, digest.algorithm) != digest:
        raise Broken(FindingKind.CORRUPT, str(digest), "its content has another digest")
    return content


def _signed(payload: bytes, signatures: list[bytes]) -> bytes:
    """Return schema 1 with its signatures, or without them if they are not valid."""
    try:
        body = add_signatures(payload, [json.loads(signature) for signature in signatures])
        return body if verified_payload(body) == payload else payload
    except (ValueError, ManifestUnverified):
        return payload


def _repositories(
    root: Path, folder: Path, name: str, depth: int = 0
) -> Iterator[tuple[str, Path | SourceTag]]:
    """Yield the name and folder of each repository below the folder *name*; repositories may be nested.

    What is lost is yielded instead of a folder that cannot be read.
    """
    try:
        below = entries(folder, root)
    except OSError as error:
        if not was_deleted(folder, error):
            yield name, lost_tag(FindingKind.UNREADABLE, name, "", f"cannot be read: {error}")
        return
    if any(each.name in _REPOSITORY_FOLDERS for each in below):
        yield name, folder
    for each in below:
        if each.name.startswith("_") or not may_be_folder(each):
            continue
        inner = f"{name}/{each.name}" if name else each.name
        if depth == _DEPTH_LIMIT:
            yield inner, lost_tag(FindingKind.UNREADABLE, inner, "", "nested too deeply")
        else:
            yield from _repositories(root, Path(each), inner, depth + 1)


def _revisions(root: Path, folder: str, tagged: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield the digest and the link of each manifest that is neither *tagged* nor deleted.

    Its folder says the digest.

    Raises:
        OSError: a folder of them cannot be read.
    """
    for algorithm in _folders(root, folder):
        for each in _folders(root, algorithm.path):
            digest = f"{algorithm.name}:{each.name}"
            if digest not in tagged and _is_digest(digest) and not _was_unlinked(each.path):
                yield digest, f"{each.path}/link"


def _is_digest(text: str) -> bool:
    with suppress(DigestInvalid):
        return bool(Digest.parse(text))
    return False


def _names(folder: str) -> list[str] | None:
    """Return the names of what is in a folder; None if it cannot be read."""
    try:
        return os.listdir(folder)  # noqa: PTH208 -- several for each manifest
    except OSError:
        return None


def _was_unlinked(folder: str) -> bool:
    """Return whether only the folder of a manifest is left; not if a link is there, readable or not."""
    return os.path.isdir(folder) and not os.path.lexists(f"{folder}/link")  # noqa: PTH112 -- if unreadable


def _links(root: Path, folder: str) -> list[Digest]:
    """Return the digests in the links below a folder.

    Raises:
        OSError: the folder cannot be read.
    """
    found = (
        _read_link(root, f"{each.path}/link")
        for algorithm in _folders(root, folder)
        for each in _folders(root, algorithm.path)
    )
    return [digest for digest in found if digest]


def _read_link(root: Path, path: str) -> Digest | None:
    """Return the digest in a link file; None if there is none.

    Raises:
        Broken: it is outside of the tree.
    """
    try:
        return _parse_link(read_file(path, root, _LINK_LIMIT)[0])
    except OSError as error:
        if error.errno != errno.EXDEV:
            return None
        where = path.removeprefix(f"{root}/repositories/")
        raise Broken(FindingKind.UNREADABLE, where, f"cannot be read: {error}") from error
    except DigestInvalid:
        return None


def _parse_link(content: bytes) -> Digest:
    return Digest.parse(content.decode("ascii", "replace").strip())


def _folders(root: Path, folder: str) -> list[os.DirEntry[str]]:
    """Return the folders in *folder*, and dead links, which were folders; none if it does not exist.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return [each for each in entries(folder, root) if may_be_folder(each)]
    except OSError as error:
        if was_deleted(folder, error):
            return []
        raise


def _time(path: str) -> datetime:
    """Return when a link was written; the current time if it was removed meanwhile."""
    with suppress(FileNotFoundError):
        return instant(os.stat(path).st_mtime_ns)  # noqa: PTH116 -- text
    return datetime.now(UTC)
