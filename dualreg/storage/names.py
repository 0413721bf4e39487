"""Names: what the link files of a store say, read back in the order in which a catalog can record it.

``links`` describes the files. Trees of former versions, and those of the reference registry, have fewer;
what they cannot say is absent from what is yielded. A file or folder that is not understood is yielded as an
OddEntry in place of what it should be, and never ends the reading.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from dualreg.errors import DigestInvalid, ImageIdInvalid, NameInvalid, TagInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.link_tree import LinkFile, LinkReader
from dualreg.storage.links import (
    blob_link,
    manifest_link,
    origin_file,
    revision,
    tag_link,
    upstream_file,
    v1_file,
)

Found = TypeVar("Found")

#: Folders and files of a repository, beside other repositories; ``_uploads`` is the reference registry's.
_OWN = frozenset({"_layers/", "_manifests/", "_v1/", "_uploads/", "_upstream"})
#: Folders that contain names; a repository has one of them at least.
_NAMING = frozenset({"_layers/", "_manifests/", "_v1/"})


@dataclass(frozen=True, slots=True)
class OddEntry:
    """A file or folder that is not understood: its path below the folder of repositories, and why.

    Attributes:
        unread: Whether it could not be read: what it says, or has in it, may be sound.
    """

    path: str
    reason: str
    unread: bool = False


@dataclass(frozen=True, slots=True)
class BlobName:
    """A blob that may be read from a repository, and since when."""

    digest: Digest
    at: datetime


@dataclass(frozen=True, slots=True)
class ManifestName:
    """A manifest of a repository.

    Attributes:
        at: When it was first pushed.
        media_type: Empty: what the document says.
        signed: The blob that is the manifest with its signatures, if there is one.
        views: What clients of another generation see it as, by kind.
    """

    digest: Digest
    at: datetime
    media_type: str = ""
    signed: Digest | None = None
    views: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TagName:
    """A tag of a repository.

    Attributes:
        at: When it was last pushed.
        origin: The generation of the client that pushed it; empty if the tree does not say.
        agent: The User-Agent of that client, if the tree says.
    """

    tag: Tag
    digest: Digest
    at: datetime
    origin: str = ""
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class V1Name:
    """A V1 image of a repository; what is None is not known, or there is none."""

    id: ImageId
    json: Digest
    layer: Digest
    parent: ImageId | None = None
    diff_id: Digest | None = None
    checksum: Digest | None = None
    tarsum: str | None = None
    tarsum_verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """Reads the names in a tree of link files."""

    tree: LinkReader

    def is_empty(self) -> bool:
        """Return whether there is no repository."""
        return not any(isinstance(each, str) for each in self.repositories())

    def has_images(self) -> bool:
        """Return whether there is a manifest, a tag or a V1 image in any repository."""
        names = (each for each in self.repositories() if isinstance(each, str))
        parts = (self.manifests, self.tags, self.v1_images)
        return any(True for name in names for part in parts for _ in part(name))

    def repositories(self) -> Iterator[RepositoryName | OddEntry]:
        """Yield the repositories, in a fixed order."""
        yield from self._repositories("")

    def upstream(self, name: RepositoryName) -> str | None:
        """Return the registry that the content of a repository comes from; None if the tree does not say."""
        found = self._read(upstream_file(name), lambda file: file.content.decode("ascii").strip())
        return found if isinstance(found, str) else None

    def blobs(self, name: RepositoryName) -> Iterator[BlobName | OddEntry]:
        """Yield the blobs of a repository, ordered by digest."""
        return self._linked(f"{name}/_layers", partial(blob_link, name))

    def manifest_blobs(self, name: RepositoryName) -> Iterator[BlobName | OddEntry]:
        """Yield the manifests of a repository, without reading what lies beside their links."""
        return self._linked(f"{name}/_manifests/revisions", partial(manifest_link, name))

    def manifests(self, name: RepositoryName) -> Iterator[ManifestName | OddEntry]:
        """Yield the manifests of a repository, ordered by digest. Of deleted ones, folders may be left."""
        for blob in self.manifest_blobs(name):
            yield from [blob] if isinstance(blob, OddEntry) else self.manifest(name, blob.digest, blob.at)

    def manifest(
        self, name: RepositoryName, digest: Digest, at: datetime
    ) -> Iterator[ManifestName | OddEntry]:
        """Yield a manifest, linked *at*, after the files beside its link that are not understood."""
        folder = revision(name, digest)
        entries = [*self._entries(folder)]
        kinds = [*self._entries(f"{folder}/views")] if "views/" in entries else []
        known: dict[str, str] = {}
        for entry in (*entries, *(kind if isinstance(kind, OddEntry) else f"views/{kind}" for kind in kinds)):
            text = entry if isinstance(entry, OddEntry) else self._text(folder, entry)
            if isinstance(text, OddEntry):
                yield text
            elif text:
                known[str(entry)] = text
        views = {key.removeprefix("views/"): text for key, text in known.items() if key.startswith("views/")}
        signed = Digest.parse(known["signed"]) if "signed" in known else None
        yield ManifestName(digest, at, known.get("type", ""), signed, views)

    def tags(self, name: RepositoryName) -> Iterator[TagName | OddEntry]:
        """Yield the tags of a repository, by name. Of deleted ones, folders may be left."""
        folder = f"{name}/_manifests/tags"
        for entry in self._entries(folder):
            if isinstance(entry, OddEntry):
                yield entry
                continue
            yield from self.tag(name, entry.removesuffix("/"))

    def tag(self, name: RepositoryName, tag: str) -> Iterator[TagName | OddEntry]:
        """Yield a tag, after the file beside its link if that is not understood; none if it was deleted."""
        found = self._read(tag_link(name, tag), partial(_tag, tag))
        if isinstance(found, TagName):
            yield from self._with_origin(name, found)
        elif found:
            yield found

    def v1_images(self, name: RepositoryName) -> Iterator[V1Name | OddEntry]:
        """Yield the V1 images of a repository, by ID."""
        for entry in self._entries(f"{name}/_v1"):
            if isinstance(entry, OddEntry):
                yield entry
            elif found := self.v1_image(name, entry):
                yield found

    def v1_image(self, name: RepositoryName, image: str) -> V1Name | OddEntry | None:
        """Return a V1 image of a repository; None if there is none."""
        return self._read(v1_file(name, image), partial(_v1_image, image))

    def _repositories(self, above: str) -> Iterator[RepositoryName | OddEntry]:
        below = [*self._entries(above)]
        if above and not _NAMING.isdisjoint(below):
            yield RepositoryName(above)
        for entry in below:
            if isinstance(entry, OddEntry):
                yield entry
            elif above and entry in _OWN:
                continue
            else:
                yield from self._descend(f"{above}/{entry}".removeprefix("/"))

    def _descend(self, entry: str) -> Iterator[RepositoryName | OddEntry]:
        name = entry.removesuffix("/")
        try:
            if name == entry:
                yield OddEntry(entry, "not a folder")
            else:
                yield from self._repositories(RepositoryName.parse(name))
        except NameInvalid:
            yield OddEntry(entry, "not a name of a repository")

    def _text(self, folder: str, entry: str) -> str | OddEntry | None:
        """Return the text in a file beside the link of a manifest; None if it says nothing."""
        is_known = entry in ("signed", "type") or entry.startswith("views/")
        if not is_known or entry.endswith("/"):
            return None

        def text(file: LinkFile) -> str:
            found = file.content.decode("ascii").strip()
            return str(Digest.parse(found)) if entry == "signed" else found

        return self._read(f"{folder}/{entry}", text)

    def _with_origin(self, name: RepositoryName, tag: TagName) -> Iterator[TagName | OddEntry]:
        """Yield the tag with what is recorded of the push that pointed it at its manifest."""

        def described(file: LinkFile) -> TagName:
            facts = _object(file)
            if facts.get("manifest") != str(tag.digest):
                return tag
            origin, agent = facts.get("origin") or "", facts.get("agent")
            if not isinstance(origin, str) or not isinstance(agent, str | None):
                raise TypeError("origin and agent are not texts")
            return TagName(tag.tag, tag.digest, tag.at, origin, agent)

        found = self._read(origin_file(name, tag.tag), described)
        if isinstance(found, OddEntry):
            yield found
        yield found if isinstance(found, TagName) else tag

    def _linked(self, folder: str, path: Callable[[Digest], str]) -> Iterator[BlobName | OddEntry]:
        """Yield the digests in a folder whose link file, at *path*, exists."""
        for digest in self._digests(folder):
            if isinstance(digest, OddEntry):
                yield digest
            elif link := self._link(path(digest), digest):
                yield link if isinstance(link, OddEntry) else BlobName(digest, link.at)

    def _digests(self, folder: str) -> Iterator[Digest | OddEntry]:
        for algorithm in self._entries(folder):
            if isinstance(algorithm, OddEntry):
                yield algorithm
                continue
            for entry in self._entries(f"{folder}/{algorithm}".removesuffix("/")):
                yield entry if isinstance(entry, OddEntry) else _digest(folder, algorithm, entry)

    def _entries(self, folder: str) -> Iterator[str | OddEntry]:
        """Yield what is in a folder, but for names with a dot, which file systems and programs use."""
        try:
            yield from (each for each in self.tree.list_links(folder) if not each.startswith("."))
        except StoreUnavailable:
            raise
        except OSError as error:
            yield _unread(folder, error)

    def _link(self, path: str, digest: Digest) -> LinkFile | OddEntry | None:
        """Return a link file, which must contain *digest*; None if there is none."""

        def checked(file: LinkFile) -> LinkFile:
            if _target(file) != digest:
                raise DigestInvalid(digest=str(_target(file)))
            return file

        return self._read(path, checked)

    def _read(self, path: str, understand: Callable[[LinkFile], Found]) -> Found | OddEntry | None:
        """Return what a file means; None if there is none."""
        try:
            file = self.tree.read_link(path)
            return None if file is None else understand(file)
        except StoreUnavailable:
            raise
        except OSError as error:
            return _unread(path, error)
        except (ValueError, KeyError, TypeError, DigestInvalid, ImageIdInvalid, TagInvalid) as error:
            return OddEntry(path, f"damaged: {_reason(error)}")


def _digest(folder: str, algorithm: str, entry: str) -> Digest | OddEntry:
    try:
        return Digest.parse(f"{algorithm.removesuffix('/')}:{entry.removesuffix('/')}")
    except DigestInvalid:
        return OddEntry(f"{folder}/{algorithm}{entry}", "not a digest")


def _tag(name: str, file: LinkFile) -> TagName:
    return TagName(Tag.parse(name), _target(file), file.at)


def _v1_image(name: str, file: LinkFile) -> V1Name:
    facts = _object(file)
    parent, diff_id, checksum = (facts.get(key) for key in ("parent", "diff_id", "checksum"))
    return V1Name(
        ImageId.parse(name),
        Digest.parse(facts["json"]),
        Digest.parse(facts["layer"]),
        ImageId.parse(parent) if parent else None,
        Digest.parse(diff_id) if diff_id else None,
        Digest.parse(checksum) if checksum else None,
        facts.get("tarsum"),
        facts.get("tarsum_verified"),
    )


def _target(file: LinkFile) -> Digest:
    return Digest.parse(file.content.decode("ascii").strip())


def _object(file: LinkFile) -> dict[str, Any]:
    found = json.loads(file.content)
    if not isinstance(found, dict):
        raise TypeError("not a JSON object")
    return found


def _unread(path: str, error: OSError) -> OddEntry:
    return OddEntry(path, f"cannot be read: {_reason(error)}", unread=True)


def _reason(error: Exception) -> str:
    """Return why a file is not understood, in a few words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)[:100] or type(error).__name__
