"""Referrers: manifests whose subject is another manifest, such as signatures and bills of materials."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from dualreg.catalog.dialects import batches
from dualreg.catalog.rows import ReferrerRow
from dualreg.errors import UpstreamFailed
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.pages import Page
from dualreg.registry.state import State

#: The most referrers in a page, and the most bytes of annotations: a page must not exceed a manifest's size.
_PAGE_LIMIT = 1000
_PAGE_BYTES = 2 << 20
#: Referrers that are looked up at a time for many subjects.
_AMONG_LIMIT = 10_000


def index_of(referrers: Iterable[ReferrerRow]) -> dict[str, object]:
    """Return the index that lists referrers.  Source: OCI distribution-spec v1.1, "Listing Referrers"."""
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [_descriptor(row) for row in referrers],
    }


def _descriptor(row: ReferrerRow) -> dict[str, object]:
    descriptor: dict[str, object] = {
        "mediaType": row.media_type,
        "digest": str(row.digest),
        "size": row.size,
    }
    if row.artifact_type:
        descriptor["artifactType"] = row.artifact_type
    if row.annotations:
        descriptor["annotations"] = row.annotations
    return descriptor


@dataclass(frozen=True, slots=True)
class Referrers:
    """Lists referrers; every manifest with a subject is one as soon as it is stored."""

    state: State

    def list(
        self,
        repository: RepositoryName,
        subject: Digest,
        *,
        artifact_type: str | None = None,
        after: tuple[datetime, Digest] | None = None,
        may_lack: bool = False,
    ) -> Page[ReferrerRow]:
        """Return a page of the referrers of *subject*; empty if there are none, or no such repository.

        Args:
            artifact_type: Only those of this type.
            after: Push time and digest of the last referrer of the previous page.
            may_lack: Whether the page may lack what an upstream that fails would add, if *subject* is here.
                ``Upstream.stale_list`` says so then.

        Raises:
            UpstreamFailed, ServerBusy, OSError: nothing is known, as an upstream fails.

        Source: OCI distribution-spec v1.1, "Listing Referrers".
        """
        if after is None:
            self._load(repository, subject, may_lack=may_lack)
        rows: list[ReferrerRow] = []
        size = 0
        limit = _PAGE_LIMIT + 1
        with (
            self.state.catalog.read() as tx,
            closing(
                tx.referrers.walk(repository, subject, artifact_type=artifact_type, after=after, limit=limit)
            ) as walk,
        ):
            for row in walk:
                size += sum(len(key) + len(value) for key, value in row.annotations.items())
                if rows and (len(rows) == _PAGE_LIMIT or size > _PAGE_BYTES):
                    return Page(rows, more=True)
                rows.append(row)
        return Page(rows, more=False)

    def _load(self, repository: RepositoryName, subject: Digest, *, may_lack: bool) -> None:
        try:
            self.state.upstream.load_referrers(repository, subject)
        except (UpstreamFailed, OSError):
            with self.state.catalog.read() as tx:
                is_here = tx.manifests.find(repository, subject) is not None
            if not (may_lack and is_here):
                raise

    def among(
        self, repository: RepositoryName, subjects: Collection[Digest]
    ) -> Mapping[Digest, Sequence[Digest]]:
        """Return the referrers of each of *subjects*, as ``all`` does; leave out those that take longer.

        That is what an upstream is asked for, and all of them if there are many.
        """
        if self.state.upstream.covers(repository):
            return {}
        found: dict[Digest, list[Digest]] = {subject: [] for subject in subjects}
        with self.state.catalog.read() as tx:
            for batch in batches(subjects):
                rows = tx.referrers.among(repository, batch, _AMONG_LIMIT)
                if len(rows) == _AMONG_LIMIT:
                    return {}
                for subject, referrer in rows:
                    found[subject].append(referrer)
        return found

    def all(self, repository: RepositoryName, subject: Digest) -> Iterator[ReferrerRow]:
        """Yield the referrers of *subject*, page by page."""
        after = None
        while True:
            page = self.list(repository, subject, after=after)
            yield from page.rows
            if not page.more:
                return
            after = (page.end.pushed_at, page.end.digest)
