"""The registry as a whole: who uses it, what it fetches, what it has, and whether it can be changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dualreg import __version__
from dualreg.catalog.clock import utc_now
from dualreg.catalog.growth import DayRow
from dualreg.catalog.rows import ClientRow, UpstreamCount
from dualreg.image.digest import Digest
from dualreg.operations.session import Group, Listing, page_size
from dualreg.registry.farewell import Farewell
from dualreg.registry.growth import KEPT
from dualreg.registry.marks import check_reason

#: No registry is older; the calendar has no instant before that.
_LONGEST = timedelta(days=100 * 365)
#: Clients are kept for little longer.
_WEEKS = 52


@dataclass(frozen=True, slots=True)
class V1Clients:
    """Recent V1 clients, the most recent first.

    Attributes:
        v1: How much of the V1 API is served: on, readonly or off.
    """

    clients: Sequence[ClientRow]
    v1: str


@dataclass(frozen=True, slots=True)
class UpstreamUse:
    """An upstream, and what was counted of it.

    Attributes:
        names: The pattern of the names that come from it; empty: it is not configured any longer.
    """

    names: str
    counts: UpstreamCount


@dataclass(frozen=True, slots=True)
class HeldBlob:
    """A blob that a repository has; *size* in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ReadOnlyState:
    """Whether the registry is read-only.

    Attributes:
        reason: Why; null: it is not.
        since: Since when; null: that is not known, or it is not.
    """

    readonly: bool
    reason: str | None = None
    since: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """Whether a registry works, and how much room it has.

    Attributes:
        failures: What fails of what every push needs: catalog, storage or audit, with the name of the error.
        readonly: Why the registry is read-only; null: it is not.
        damaged: Blobs whose files are known to be lost or damaged.
        database: sqlite or postgresql.
        catalog_bytes: The size of the catalog.
        free: Bytes that are free on the disk with the store, or that with the catalog if it has less.
        room: How many of them pushes may use, down to min_free; null: there is no such limit.
        since: When the process began that answers; null: it is a command.
    """

    version: str
    failures: Mapping[str, str]
    readonly: str | None
    damaged: int
    database: str
    catalog_bytes: int
    free: int | None
    room: int | None
    since: datetime | None


@dataclass(frozen=True)
class Service(Group):
    """The registry as a whole."""

    def status(self) -> RegistryStatus:
        """Show whether the registry works, and how much room it has."""
        registry, writes = self.session.registry, self.session.writes()
        marked, size = writes.marked(), registry.figures.of_catalog()
        return RegistryStatus(
            __version__,
            (self.session.failures or registry.health.failures)(),
            marked and marked.reason,
            registry.integrity.damaged(),
            *size,
            writes.free(),
            writes.limited_room(),
            self.session.since,
        )

    def clients(self, since: timedelta = timedelta(days=30)) -> V1Clients:
        """List recent V1 clients.

        Args:
            since: Look back this far.
        """
        registry = self.session.registry
        found = registry.clients.list(registry.now() - min(since, _LONGEST))
        return V1Clients(found, self.session.v1().v1)

    def farewell(self, since: timedelta = timedelta(days=30), weeks: int = 26) -> Farewell:
        """Show how far the move away from V1 has come, and whether its next step is safe.

        Args:
            since: Look back this far for clients and pushes.
            weeks: Count the clients of so many weeks, up to 52.

        Raises:
            ValueError: the number of weeks is less than 1.
        """
        if weeks < 1:
            raise ValueError(f"invalid number {weeks} of weeks; expected 1 or more")
        farewells, v1 = self.session.registry.farewells, self.session.v1()
        return farewells.review(v1, min(since, _LONGEST), min(weeks, _WEEKS))

    def growth(self, days: int = 30) -> Sequence[DayRow]:
        """Show how much was pulled, pushed and stored by day, today included.

        Args:
            days: So many, up to 731; fewer, if nothing is known of the first ones.

        Raises:
            ValueError: the number of days is less than 1.
        """
        if days < 1:
            raise ValueError(f"invalid number {days} of days; expected 1 or more")
        return self.session.registry.growth.days(min(days, KEPT))

    def upstreams(self) -> Sequence[UpstreamUse]:
        """Show what was fetched from other registries."""
        counted = {each.upstream: each for each in self.session.registry.traffic().list()}
        names = {each.url: pattern for pattern, each in self.session.settings.upstreams.items()}
        urls = dict.fromkeys((*names, *counted))
        return [UpstreamUse(names.get(url, ""), counted.get(url) or UpstreamCount(url)) for url in urls]

    def inventory(self, *, n: int = 1000, after: str | None = None) -> Listing[HeldBlob]:
        """List the blobs that repositories have, by digest.

        Args:
            n: The length of the page.
            after: The last one of the page before.
        """
        page = self.session.registry.blobs.held(Digest.parse(after) if after else None, page_size(n))
        rows = [HeldBlob(each.digest, each.size) for each in page.rows]
        return Listing(rows, str(page.end.digest) if page.more else None)

    def readonly(self) -> ReadOnlyState:
        """Show whether the registry is read-only, since when, and why."""
        mark = self.session.writes().marked()
        return ReadOnlyState(mark is not None, mark and mark.reason, (mark and mark.since) or None)

    def set_readonly(self, reason: str) -> ReadOnlyState:
        """Refuse pushes, deletes, and imports, in all processes. Requests that have begun are finished.

        Args:
            reason: Up to 500 printable characters, which clients are shown.

        Raises:
            ValueError: the reason is not printable, or too long.
        """
        check_reason(reason)
        self._require_own()
        self.session.writes().set_mark(reason, utc_now())
        self.session.record("readonly on", reason=reason)
        return self.readonly()

    def end_readonly(self) -> ReadOnlyState:
        """Accept changes again; return whether the registry was read-only, and why."""
        self._require_own()
        before = self.readonly()
        if self.session.writes().remove_mark():
            self.session.record("readonly off")
            return before
        return ReadOnlyState(readonly=False)

    def _require_own(self) -> None:
        """Check that this registry is no follower, which is always read-only.

        Raises:
            ValueError: it is one.
        """
        if followed := self.session.settings.follow:
            raise ValueError(f"this registry follows {followed}; make changes there")
