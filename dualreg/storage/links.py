"""Links: the names in the catalog as small files beside the bytes, in the layout of the reference registry.

    <name>/_layers/<alg>/<hex>/link                      the blob may be read from the repository
           _manifests/revisions/<alg>/<hex>/link         the manifest is in the repository
           _manifests/revisions/<alg>/<hex>/signed       the same manifest with its signatures (schema 1)
           _manifests/revisions/<alg>/<hex>/type         its media type, if that is not what the document says
           _manifests/revisions/<alg>/<hex>/views/<kind> what clients of another generation see it as
           _manifests/tags/<tag>/current/link            the manifest that the tag points at
           _manifests/tags/<tag>/origin                  who pushed the tag, if not a V2 client; JSON
           _v1/<image id>                                a V1 image: the columns of its row; JSON
           _upstream                                     URL of the registry that all content comes from

A file named link contains a digest in wire form, and its modification time is that of the row: when the blob
was linked, the manifest first pushed, the tag last pushed. The reference registry reads files of this name
only. Requests never read any of them. They make the folder a complete backup, from which
``maintenance.rebuild`` makes a lost catalog. Services write them in the transaction that records the
relation, last before the commit, so that of concurrent requests the same one wins in files and rows.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId
from dualreg.storage import undo
from dualreg.storage.link_tree import FolderLinks, LinkTree, StagedLink

#: The file in the folder of a blob, or of a manifest, that names it.
_LINK = "link"
#: The file in the folder of a tag that names its manifest, and the one that says who pushed it.
_CURRENT, _ORIGIN = "current/link", "origin"
#: The files beside the link of a manifest: that of its signed form, and its media type.
_SIGNED, _TYPE = "signed", "type"
#: What is in the folders of manifests, besides their views, and of tags.
_OF_MANIFESTS, _OF_TAGS = (_LINK, _SIGNED, _TYPE), (_CURRENT, _ORIGIN)
#: What a V1 image is recorded by: columns of its row, with digests in wire form.
Facts = Mapping[str, str | bool | None]


@dataclass(frozen=True, slots=True)
class Links:
    """Writes and removes link files; each method mirrors one change of the catalog.

    Times are those of the rows; None: now.
    """

    tree: LinkTree

    def noted(self) -> AbstractContextManager[Callable[[], None]]:
        """Note the changes that the block makes; yield what undoes them, as ``undo.noted``."""
        return undo.noted(self.tree)

    def add_blob(self, repository: RepositoryName, digest: Digest, at: datetime | None = None) -> None:
        """Record that the blob may be read from the repository; a link that exists keeps its time."""
        self._link_once(blob_link(repository, digest), digest, at)

    def remove_blobs(self, repository: RepositoryName, *digests: Digest) -> None:
        """Record that the blobs may no longer be read from the repository."""
        undo.remove_folders(
            self.tree, *(FolderLinks(_layer(repository, digest), (_LINK,)) for digest in digests)
        )

    def add_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        at: datetime | None = None,
        *,
        anew: bool = False,
    ) -> None:
        """Record that the manifest is in the repository; a link that exists keeps its time unless *anew*."""
        add = self._link if anew else self._link_once
        add(manifest_link(repository, digest), digest, at)

    def describe_manifest(self, repository: RepositoryName, digest: Digest, media_type: str | None) -> None:
        """Record the media type of the manifest; None: it is what the document itself says."""
        self._record(type_file(repository, digest), media_type)

    def add_signed(self, repository: RepositoryName, digest: Digest, signed: Digest) -> None:
        """Record that the blob *signed* is the manifest with its signatures."""
        self._link(signed_link(repository, digest), signed, None)

    def record_view(self, repository: RepositoryName, digest: Digest, kind: str, view: str | None) -> None:
        """Record what clients see the manifest as; None: nothing that is known."""
        self._record(view_file(repository, digest, kind), view)

    def remove_manifests(
        self, repository: RepositoryName, manifests: Mapping[Digest, Collection[str]]
    ) -> None:
        """Record that the manifests are no longer in the repository; they had views of some kinds."""
        undo.remove_folders(
            self.tree,
            *(
                FolderLinks(revision(repository, digest), (*_OF_MANIFESTS, *map(_view, kinds)))
                for digest, kinds in manifests.items()
            ),
        )

    @contextmanager
    def staged(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> Iterator[None]:
        """Stage for the block what ``place`` places, and call *waits* as ``stage_links`` does."""
        try:
            self.tree.stage_links(links, waits)
            yield
        finally:
            for link in links:
                self.tree.drop(link.upload)

    def place(self, staged: Sequence[StagedLink]) -> None:
        """Record what link files say that were staged: with one wait for the disk, however many they are."""
        undo.place(self.tree, staged)

    def point_tag(
        self, repository: RepositoryName, tag: Tag, digest: Digest, at: datetime | None = None
    ) -> None:
        """Record that the tag points at the manifest."""
        self._link(tag_link(repository, tag), digest, at)

    def describe_tag(
        self,
        repository: RepositoryName,
        tag: Tag,
        digest: Digest,
        origin: str | None,
        agent: str | None = None,
    ) -> None:
        """Record who pushed the tag to the manifest: the generation and the User-Agent.

        None and None: nothing but what is assumed of every tag. What is recorded counts while the tag points
        at *digest*.
        """
        self._record(origin_file(repository, tag), pusher_text(digest, origin, agent))

    def remove_tags(self, repository: RepositoryName, *tags: Tag) -> None:
        """Record that the tags were deleted."""
        undo.remove_folders(self.tree, *(FolderLinks(_tag(repository, tag), _OF_TAGS) for tag in tags))

    def add_v1_image(self, repository: RepositoryName, image: ImageId, facts: Facts) -> None:
        """Record that the V1 image is in the repository."""
        self._record(v1_file(repository, image), _json(facts))

    def remove_v1_images(self, repository: RepositoryName, *images: ImageId) -> None:
        """Record that the V1 images are no longer in the repository."""
        undo.remove(self.tree, *(v1_file(repository, image) for image in images))

    def remove_repository(self, repository: RepositoryName) -> None:
        """Record that the repository was deleted; repositories below its name (``NAME/…``) stay.

        What it contained has been removed.
        """
        folders = (f"{repository}/{each}" for each in ("_manifests", "_layers", "_v1"))
        undo.remove_folders(self.tree, *map(FolderLinks, folders))
        undo.remove(self.tree, upstream_file(repository))

    def record_upstream(self, repository: RepositoryName, url: str) -> None:
        """Record the registry that all content of the repository comes from."""
        self._record(upstream_file(repository), url)

    def _link(self, path: str, digest: Digest, at: datetime | None) -> None:
        undo.write(self.tree, path, str(digest).encode(), at)

    def _link_once(self, path: str, digest: Digest, at: datetime | None) -> None:
        found = self.tree.read_link(path)
        known = found is not None and found.content == str(digest).encode()
        self._link(path, digest, None if known else at)

    def _record(self, path: str, text: str | None) -> None:
        """Write a file that says more than a link does; None: remove it, since nothing more is known."""
        if text is None:
            undo.remove(self.tree, path)
        else:
            undo.write(self.tree, path, text.encode(), None)


def staged_blob(repository: RepositoryName, digest: Digest, at: datetime) -> StagedLink:
    """Return the link file of a blob, to be staged; one that exists keeps its time."""
    return _staged(_layer(repository, digest), _LINK, digest, at, once=True)


def staged_manifest(repository: RepositoryName, digest: Digest, at: datetime) -> StagedLink:
    """Return the link file of a manifest, to be staged; one that exists keeps its time."""
    return _staged(revision(repository, digest), _LINK, digest, at, once=True)


def staged_tag(repository: RepositoryName, tag: Tag, digest: Digest, at: datetime) -> StagedLink:
    """Return the link file of a tag, to be staged.

    Args:
        at: When the tag was pushed.
    """
    return _staged(_tag(repository, tag), _CURRENT, digest, at)


def staged_v1_image(repository: RepositoryName, image: ImageId, facts: Facts, at: datetime) -> StagedLink:
    """Return the link file of a V1 image, to be staged; one that says the same keeps its time."""
    folder, _, name = v1_file(repository, image).rpartition("/")
    return StagedLink(UploadId.new(), folder, name, _json(facts).encode(), at, once=True)


def _staged(folder: str, name: str, digest: Digest, at: datetime, *, once: bool = False) -> StagedLink:
    return StagedLink(UploadId.new(), folder, name, str(digest).encode(), at, once)


def blob_link(repository: str, digest: Digest) -> str:
    """Return the path of the link file of a blob."""
    return f"{_layer(repository, digest)}/{_LINK}"


def revision(repository: str, digest: Digest) -> str:
    """Return the path of the folder of a manifest."""
    return f"{repository}/_manifests/revisions/{_folder(digest)}"


def manifest_link(repository: str, digest: Digest) -> str:
    """Return the path of the link file of a manifest."""
    return f"{revision(repository, digest)}/{_LINK}"


def signed_link(repository: str, digest: Digest) -> str:
    """Return the path of the link file of a manifest with its signatures."""
    return f"{revision(repository, digest)}/{_SIGNED}"


def type_file(repository: str, digest: Digest) -> str:
    """Return the path of the file that says the media type of a manifest."""
    return f"{revision(repository, digest)}/{_TYPE}"


def view_file(repository: str, digest: Digest, kind: str) -> str:
    """Return the path of the file that says what clients see a manifest as."""
    return f"{revision(repository, digest)}/{_view(kind)}"


def upstream_file(repository: str) -> str:
    """Return the path of the file that says where the content of a repository comes from."""
    return f"{repository}/_upstream"


def tag_link(repository: str, tag: str) -> str:
    """Return the path of the link file of a tag."""
    return f"{_tag(repository, tag)}/{_CURRENT}"


def origin_file(repository: str, tag: str) -> str:
    """Return the path of the file that says who pushed a tag."""
    return f"{_tag(repository, tag)}/{_ORIGIN}"


def pusher_text(digest: Digest, origin: str | None, agent: str | None) -> str | None:
    """Return what that file contains while the tag points at *digest*; None if it is not needed."""
    facts = {"manifest": str(digest), "origin": origin, "agent": agent}
    return _json(facts) if origin or agent else None


def v1_file(repository: str, image: str) -> str:
    """Return the path of the file of a V1 image."""
    return f"{repository}/_v1/{image}"


def _view(kind: str) -> str:
    return f"views/{kind}"


def _layer(repository: str, digest: Digest) -> str:
    return f"{repository}/_layers/{_folder(digest)}"


def _tag(repository: str, tag: str) -> str:
    return f"{repository}/_manifests/tags/{tag}"


def _folder(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex}"


def _json(facts: Mapping[str, object]) -> str:
    return json.dumps(facts, sort_keys=True)
