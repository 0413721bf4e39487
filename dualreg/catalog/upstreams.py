"""SQL of upstreams: what was counted of each, and which of its images are here."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, exists, func, select

from dualreg.catalog.dialects import insert
from dualreg.catalog.rows import KeptImage, UpstreamCount
from dualreg.catalog.tables import (
    Blobs,
    ManifestChildren,
    Manifests,
    Repositories,
    RepositoryBlobs,
    Tags,
    UpstreamCounters,
)
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName


@dataclass(frozen=True, slots=True)
class UpstreamQueries:
    """Other registries, by their URLs."""

    connection: Connection

    def count(self, counts: Iterable[UpstreamCount]) -> None:
        """Add to the counters of upstreams."""
        row = insert(self.connection, UpstreamCounters)
        names = ("hits", "misses", "stale", "errors", "bytes")
        added = {name: getattr(UpstreamCounters, name) + row.excluded[name] for name in names}
        statement = row.on_conflict_do_update(index_elements=[UpstreamCounters.upstream], set_=added)
        # In a fixed order, so that concurrent transactions cannot deadlock.
        rows = sorted((asdict(each) for each in counts), key=lambda each: str(each["upstream"]))
        if rows:
            self.connection.execute(statement, rows)

    def counts(self) -> tuple[UpstreamCount, ...]:
        """Return what was counted of each upstream, by URL."""
        table = UpstreamCounters.__table__
        return tuple(
            UpstreamCount(**row._asdict())
            for row in self.connection.execute(select(table).order_by(UpstreamCounters.upstream))
        )

    def has_more(self, upstream: str, limit: int) -> bool:
        """Return whether there are more than *limit* manifests of an upstream here."""
        query = select(Manifests.digest).join(Repositories, Repositories.id == Manifests.repository_id)
        query = query.where(Repositories.upstream == upstream).offset(limit).limit(1)
        return self.connection.execute(query).first() is not None

    def kept(self, upstream: str) -> tuple[KeptImage, ...]:
        """Return the images of an upstream that no index here has, the one that was used last first.

        One that no tag points at counts as used when it was fetched.
        """
        above = exists().where(
            ManifestChildren.repository_id == Manifests.repository_id,
            ManifestChildren.child == Manifests.digest,
        )
        tagged = (Tags.repository_id == Manifests.repository_id) & (Tags.manifest == Manifests.digest)
        query = (
            select(
                Repositories.name,
                Manifests.digest,
                Manifests.pushed_at,
                func.max(Tags.updated_at, type_=Tags.updated_at.type),
                func.max(Tags.pulled_at, type_=Tags.updated_at.type),
            )
            .join(Repositories, Repositories.id == Manifests.repository_id)
            .outerjoin(Tags, tagged)
            .where(Repositories.upstream == upstream, ~above)
            .group_by(Repositories.name, Manifests.repository_id, Manifests.digest, Manifests.pushed_at)
        )
        found = (
            KeptImage(RepositoryName(name), digest, max(filter(None, times)))
            for name, digest, *times in self.connection.execute(query)
        )
        return tuple(sorted(found, key=lambda each: each.used_at, reverse=True))

    def children(self, upstream: str) -> Mapping[tuple[RepositoryName, Digest], list[Digest]]:
        """Return what each manifest of an upstream names, as far as it is here, by repository and digest."""
        owner = Repositories.id == ManifestChildren.repository_id
        query = select(Repositories.name, ManifestChildren.manifest, ManifestChildren.child)
        query = query.join(Repositories, owner).where(Repositories.upstream == upstream)
        found = dict[tuple[RepositoryName, Digest], list[Digest]]()
        for name, manifest, child in self.connection.execute(query):
            found.setdefault((RepositoryName(name), manifest), []).append(child)
        return found

    def sizes(self, upstream: str) -> Mapping[Digest, int]:
        """Return the size in bytes of each blob that the repositories of an upstream have."""
        query = select(Blobs.digest, Blobs.size).join(RepositoryBlobs).join(Repositories)
        query = query.where(Repositories.upstream == upstream).distinct()
        return {row.digest: row.size for row in self.connection.execute(query)}
