"""S3Links: link files as objects of a bucket.

Their keys are the paths of the reference registry's tree, so that it can serve the bucket, and a lost catalog
can be made from it. An object keeps the time of its row in its metadata.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from dualreg.image.names import UploadId
from dualreg.storage.link_tree import FolderLinks, LinkFile, StagedLink
from dualreg.storage.s3 import Bucket, Found

#: Keys of what a store has: the reference registry's tree, what has no name yet, and what was set aside.
TREE = "docker/registry/v2/"
UPLOADS = "uploads/"
CORRUPT = "corrupt/"
_NAMES = f"{TREE}repositories/"
#: The metadata with the time of a row, in ISO 8601.
_AT = "at"


class S3Links:
    """A LinkTree in a bucket. Each object is written and deleted atomically, and durably."""

    def __init__(self, bucket: Bucket) -> None:
        """Use *bucket*, without a request."""
        self._bucket = bucket
        self._aside = dict[UploadId, Mapping[str, LinkFile]]()

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        found = None if at else self.read_link(path)
        if found is None or found.content != content:
            self._put(path, content, at)

    def _put(self, path: str, content: bytes, at: datetime | None, *, new: bool = False) -> bool:
        """Write a file; return False if it is to be *new*, and is not."""
        metadata = {_AT: (at or datetime.now(UTC)).isoformat()}
        return self._bucket.put(_NAMES + path, content, metadata, new=new)

    def read_link(self, path: str) -> LinkFile | None:
        fetched = self._bucket.fetch(_NAMES + path)
        if fetched is None:
            return None
        found, content = fetched
        return LinkFile(content, _time_of(found))

    def read_links(self, paths: Sequence[str]) -> Sequence[LinkFile | None]:
        return self._bucket.map(self.read_link, paths)

    def list_links(self, folder: str) -> Sequence[str]:
        prefix = f"{_NAMES}{folder}/" if folder else _NAMES
        return [each.key.removeprefix(prefix) for each in self._bucket.walk(prefix, deep=False)]

    def remove_link(self, *paths: str) -> None:
        if paths:
            self._bucket.delete(*(_NAMES + path for path in paths))

    def quarantine_link(self, path: str) -> None:
        if fetched := self._bucket.fetch(_NAMES + path):
            found, content = fetched
            self._bucket.put(f"{CORRUPT}repositories/{path}", content, found.metadata)
            self.remove_link(path)

    def stage_links(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> None:
        """Only wait: one request creates an object, with its content."""
        del links
        for wait in waits:
            wait()

    def place_links(self, links: Sequence[StagedLink]) -> None:
        self._bucket.map(self._place, links)

    def _place(self, link: StagedLink) -> None:
        if link.once:
            if self._put(link.path, link.content, link.at, new=True):
                return
            found = self.read_link(link.path)
            if found and found.content == link.content:
                return
        self._put(link.path, link.content, link.at)

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        """See ``LinkTree``; the files that are named are removed, and kept in memory: a list takes long.

        What else may be there, only another registry reads: the reference registry's history of a tag.
        """
        paths = [f"{folder.path}/{file}" for folder in folders for file in folder.files]
        files = zip(paths, self.read_links(paths), strict=True)
        self._aside[aside] = {path: file for path, file in files if file}
        self.remove_link(*self._aside[aside])

    def bring_back(self, aside: UploadId, *folders: FolderLinks) -> None:
        del folders
        self._bucket.map(lambda each: self._bring_back(*each), self._aside.pop(aside, {}).items())

    def _bring_back(self, path: str, file: LinkFile) -> None:
        if self.read_link(path) is None:
            self._put(path, file.content, file.at)

    def drop(self, aside: UploadId) -> None:
        self._aside.pop(aside, None)

    def link_paths(self) -> Iterator[str]:
        return self._paths("")

    def walk_links(self) -> Iterator[tuple[str, bytes]]:
        for path in self._paths(""):
            if found := self.read_link(path):
                yield path, found.content

    def _paths(self, prefix: str) -> Iterator[str]:
        return (each.key.removeprefix(_NAMES) for each in self._bucket.walk(_NAMES + prefix))


def _time_of(found: Found) -> datetime:
    """Return when a row says that the link was made; for one of another registry, when it was written."""
    try:
        return datetime.fromisoformat(found.metadata[_AT]).astimezone(UTC)
    except (KeyError, ValueError):
        return found.modified.astimezone(UTC)
