"""The registry as a whole: who uses it, what it fetches, what it has, and whether it can be changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

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


@dataclass(frozen=True)
class Service(Group):
    """The registry as a whole."""

    def clients(self, since: timedelta = timedelta(days=30)) -> V1Clients:
        """List recent V1 clients.

        Args:
            since: Look back this far.
        """
        registry = self.session.registry
        found = registry.clients.list(registry.now() - min(since, _LONGEST))
        return V1Clients(found, registry.v1_switch.look(self.session.settings.v1).v1)

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
        registry = self.session.registry
        v1 = registry.v1_switch.look(self.session.settings.v1)
        return registry.farewells.review(v1, min(since, _LONGEST), min(weeks, _WEEKS))

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
