"""Composite: all other registries as the one upstream that services consult."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import ManifestRow, Origin
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry.upstream import ComingBlob, Content, Freshness
from dualreg.upstreams.routes import Route


@dataclass(frozen=True, slots=True)
class Composite:
    """The upstreams of a registry.

    The content of a repository under a prefix comes from the registry of the longest one. Under other names,
    clients push; what they have not pushed comes from the source that is imported on demand, or from the
    registry of all names.

    Attributes:
        registry: The registry, without upstreams.
        routed: The routes with the content of each, those of longer prefixes first.
        imported: The source of on-demand imports, if there is one.
        on_close: Called when the registry is closed.
    """

    registry: Registry
    routed: Sequence[tuple[Route, Content]] = ()
    imported: Content | None = None
    on_close: Callable[[], None] = lambda: None

    def covers(self, repository: RepositoryName) -> bool:
        return self.owner(repository) is not None

    def owner(self, repository: RepositoryName) -> str | None:
        route, _ = self._route(repository)
        if route is None:
            return None
        return route.url if route.prefix else self.registry.repositories.upstream(repository)

    def named(self, namespace: str, name: str) -> str | None:
        if not self.routed:
            return name  # any registry may be asked as a mirror of itself
        routes = (route for route, _ in self.routed if namespace in route.namespaces)
        return next((found for route in routes if (found := route.here(name))), None)

    def origin_of(self, repository: RepositoryName) -> Origin:
        return next((each.origin_of(repository) for each in self._contents(repository)), Origin.V1)

    def is_due(self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow | None) -> bool:
        return any(each.is_due(repository, reference, row) for each in self._contents(repository))

    def freshness(self, repository: RepositoryName, reference: Tag | Digest) -> Freshness | None:
        _, content = self._route(repository)
        return None if content is None else content.freshness(repository, reference)

    def stale_list(self, repository: RepositoryName, subject: Digest | None = None) -> str:
        _, content = self._route(repository)
        return "" if content is None else content.stale_list(repository, subject)

    def load(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        return any(each.load(repository, reference) for each in self._contents(repository))

    def coming_blob(self, repository: RepositoryName, digest: Digest) -> ComingBlob | None:
        found = (each.coming_blob(repository, digest) for each in self._contents(repository))
        return next(filter(None, found), None)

    def count_pull(self, repository: RepositoryName, tag: Tag) -> None:
        for each in self._contents(repository):
            each.count_pull(repository, tag)

    def close(self) -> None:
        self.on_close()

    def load_image(self, repository: RepositoryName, image: ImageId) -> bool:
        return any(each.load_image(repository, image) for each in self._contents(repository))

    def load_referrers(self, repository: RepositoryName, subject: Digest) -> None:
        for each in self._contents(repository):
            each.load_referrers(repository, subject)

    def available_tags(
        self, repository: RepositoryName, *, last: str = "", limit: int | None = None
    ) -> Sequence[Tag]:
        found = (
            each.available_tags(repository, last=last, limit=limit) for each in self._contents(repository)
        )
        return [*dict.fromkeys(merge(*found))][:limit]

    def available_images(self, repository: RepositoryName) -> Mapping[Tag, str]:
        found = dict[Tag, str]()
        for each in self._contents(repository):
            found = {**each.available_images(repository), **found}
        return found

    def has(self, repository: RepositoryName, reference: Tag | Digest) -> bool:
        return any(each.has(repository, reference) for each in self._contents(repository))

    def mark_deleted(
        self, tx: Transaction, repository: RepositoryName, references: Iterable[str | Digest] | None = None
    ) -> None:
        if self.imported:
            self.imported.mark_deleted(tx, repository, references)

    def _route(self, repository: RepositoryName) -> tuple[Route | None, Content | None]:
        return next(
            ((route, content) for route, content in self.routed if route.covers(repository)), (None, None)
        )

    def _contents(self, repository: RepositoryName) -> Iterator[Content]:
        """Yield what may have content of the repository, in the order in which it is asked."""
        route, content = self._route(repository)
        if content and route and route.prefix:
            yield content
            return
        if self.imported:
            yield self.imported
        if content and self.registry.repositories.may_be_upstream(repository):
            yield content
