"""A store and a catalog that fail where they are told to, and a check that the rest is sound."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from sqlalchemy import select

from dualreg.catalog.database import Catalog, Transaction, Undo
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    Repositories,
    RepositoryBlobs,
    Tags,
    Uploads,
    V1Images,
)
from dualreg.errors import BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, UploadId
from dualreg.registry import Registry
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.link_tree import FolderLinks, StagedLink
from dualreg.storage.s3_store import S3Store

Result = TypeVar("Result")
_Base = FilesystemStore if TYPE_CHECKING else object


class Fault(OSError):
    """What a full or broken disk, or a lost database, looks like."""


@dataclass
class Plan:
    """Counts calls, and makes one of them fail.

    Attributes:
        fail_at: The number of that call, counted from 0; None: never.
        after: Fail when the call has had its effect, instead of before.
        calls: Calls so far.
    """

    fail_at: int | None = None
    after: bool = False
    calls: int = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Do one thing that may fail."""
        mine, self.calls = self.calls, self.calls + 1
        if mine == self.fail_at and not self.after:
            raise Fault(mine)
        yield
        if mine == self.fail_at:
            raise Fault(mine)

    def run(self, effect: Callable[[], Result]) -> Result:
        """Call *effect* as one step."""
        with self.step():
            return effect()


class _Faulty(_Base):
    """A store that fails."""

    plan = Plan()

    def open(self, digest: Digest, *, start: int = 0, length: int | None = None) -> BinaryIO:
        with self.plan.step():
            reader = super().open(digest, start=start, length=length)
            if self.plan.after and self.plan.calls - 1 == self.plan.fail_at:
                reader.close()
        return reader

    def append(self, upload: UploadId, chunks: Iterable[bytes], *, offset: int) -> int:
        with self.plan.step():
            return super().append(upload, chunks, offset=offset)

    def stage(self, upload: UploadId, content: bytes) -> None:
        with self.plan.step():
            super().stage(upload, content)

    def prepare(self, upload: UploadId, digest: Digest) -> Callable[[], None]:
        with self.plan.step():
            wait = super().prepare(upload, digest)
        return lambda: self.plan.run(wait)

    def publish(self, upload: UploadId, digest: Digest) -> None:
        with self.plan.step():
            super().publish(upload, digest)

    def discard(self, upload: UploadId) -> None:
        with self.plan.step():
            super().discard(upload)

    def write_link(self, path: str, content: bytes, at: datetime | None = None) -> None:
        with self.plan.step():
            super().write_link(path, content, at)

    def remove_link(self, *paths: str) -> None:
        with self.plan.step():
            super().remove_link(*paths)

    def stage_links(self, links: Sequence[StagedLink], waits: Sequence[Callable[[], None]] = ()) -> None:
        with self.plan.step():
            super().stage_links(links)
        for wait in waits:
            wait()

    def place_links(self, links: Sequence[StagedLink]) -> None:
        with self.plan.step():
            super().place_links(links)

    def set_aside(self, aside: UploadId, *folders: FolderLinks) -> None:
        with self.plan.step():
            super().set_aside(aside, *folders)


class FaultyFolder(_Faulty, FilesystemStore):
    """A folder on a failing disk."""


class FaultyBucket(_Faulty, S3Store):
    """A bucket of a failing object store."""


class FaultyCatalog(Catalog):
    """A database that is lost before, or just after, a commit."""

    plan = Plan()

    @contextmanager
    def begin(self, *, durable: bool = True, undo: Undo | None = None) -> Iterator[Transaction]:
        """Lose everything if the power fails before the commit."""
        mine, self.plan.calls = self.plan.calls, self.plan.calls + 1
        fails = mine == self.plan.fail_at
        with super().begin(durable=durable, undo=undo) as tx:
            yield tx
            if fails and not self.plan.after:
                raise Fault(mine)
        if fails:
            raise Fault(mine)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self.plan.step(), super().read() as tx:
            yield tx


def check_sound(registry: Registry) -> None:
    """Check that every row has its bytes, every tag resolves, and every link file is true.

    Bytes that nobody names are allowed: a crash leaves them, and nobody can see them. So are condemned rows
    without bytes, which are deleted before their rows are.
    """
    state = registry.blobs.state
    with state.catalog.engine.connect() as connection:
        blobs = connection.execute(select(Blobs.digest, Blobs.size).where(Blobs.condemned_at.is_(None))).all()
        linked = {*connection.scalars(select(RepositoryBlobs.digest))}
        tags = connection.execute(
            select(Repositories.name, Tags.name).join(Tags, Tags.repository_id == Repositories.id)
        ).all()
        named = [
            *connection.scalars(select(Manifests.digest)),
            *connection.scalars(select(ManifestChildren.child)),
            *connection.scalars(select(V1Images.json)),
            *connection.scalars(select(V1Images.layer).where(V1Images.complete)),
        ]
        uploads = connection.execute(select(Uploads.id, Uploads.offset)).all()
    for digest, size in blobs:
        with state.store.open(digest) as reader:
            data = reader.read()
        assert (hashlib.new(digest.algorithm, data).hexdigest(), len(data)) == (digest.hex, size)
    assert {*named, *linked} <= {digest for digest, _ in blobs}
    for name, tag in tags:
        row = registry.manifests.peek(RepositoryName(name), Tag(tag))
        assert row, f"{name}:{tag}"
        assert Digest.of(registry.manifests.payload(row)) == row.digest
    for upload, offset in uploads:
        try:
            with state.store.reopen(UploadId(upload)) as reader:
                assert len(reader.read()) >= offset
        except BlobMissing:
            # Published, but not recorded: the next request says that the upload is gone.
            pass
