"""Farewell: how far the move away from V1 has come, and whether the next step is safe."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import NamedTuple

from dualreg.catalog.clients import ClientGroup
from dualreg.catalog.database import Catalog
from dualreg.registry.v1_mode import V1State

#: Groups of clients that are shown.
_LIMIT = 50
#: Moves of tags that are looked at for the last push over V1.
_MOVES = 10_000
_WEEK = timedelta(weeks=1)
#: What clients are grouped by, and the lists of these groups.
_LISTS = {"version": "versions", "address": "addresses", "repository": "repositories"}


@dataclass(frozen=True, slots=True)
class Week:
    """A week, from Monday in UTC, and how many addresses used V1 then.

    An address counts from its first request to its last one.
    """

    begin: datetime
    clients: int


@dataclass(frozen=True, slots=True)
class Farewell:
    """How far the move away from V1 has come.

    Attributes:
        v1: How much of the V1 API is served: on, readonly or off.
        mode: The setting and the switch that this comes from.
        clients: How many addresses used V1 of late.
        last_seen: When a V1 client was last seen; null: never.
        last_push: When a tag was last pushed over V1, as far as is looked back; null: never.
        weeks: The first one first.
        versions, addresses, repositories: The clients of late by what they have in common, those seen last
            first.
        more: Of which of these lists there is more.
        step: What comes next: readonly, or off; empty: it is off.
        safe: Whether no client would notice that.
        evidence: In sentences, why.
    """

    v1: str
    mode: V1State
    clients: int
    last_seen: datetime | None
    last_push: datetime | None
    weeks: Sequence[Week]
    versions: Sequence[ClientGroup]
    addresses: Sequence[ClientGroup]
    repositories: Sequence[ClientGroup]
    more: tuple[str, ...]
    step: str
    safe: bool
    evidence: tuple[str, ...]


class _Moves(NamedTuple):
    """The last push over V1 among the last moves of tags, the first of these, and how many there are."""

    last: datetime | None
    first: datetime | None
    number: int

    @property
    def are_all(self) -> bool:
        """Whether there are no earlier ones."""
        return self.number < _MOVES


@dataclass(frozen=True, slots=True)
class Farewells:
    """Finds it out by a fixed number of queries."""

    catalog: Catalog

    def review(self, state: V1State, since: timedelta, weeks: int) -> Farewell:
        """Return how far the move has come.

        Args:
            state: How much of the V1 API is served.
            since: How far to look back for clients and pushes.
            weeks: How many weeks to count clients in.
        """
        with self.catalog.read() as tx:
            from_ = tx.now - since
            begins = [*_mondays(tx.now, weeks)]
            in_use = tx.clients.in_use([(begin, begin + _WEEK) for begin in begins])
            groups = {each: tx.clients.grouped(each, from_, _LIMIT + 1) for each in _LISTS}
            clients, last_seen = tx.clients.seen(from_)
            last, first, number = tx.history.last_over_v1(_MOVES)
            pushed = tx.clients.last_push(from_)
        moves = _Moves(max(filter(None, (last, pushed)), default=None), first, number)
        v1 = state.v1
        step = {"on": "readonly", "readonly": "off"}.get(v1, "")
        pushes = _of_pushes(moves, from_, since)
        used = _of_clients(clients, last_seen, since)
        safe, evidence = (not clients, (used, pushes[1])) if v1 != "on" else (pushes[0], (pushes[1], used))
        return Farewell(
            v1=v1,
            mode=state,
            clients=clients,
            last_seen=last_seen,
            last_push=moves.last,
            weeks=[Week(*each) for each in zip(begins, in_use, strict=True)],
            versions=groups["version"][:_LIMIT],
            addresses=groups["address"][:_LIMIT],
            repositories=groups["repository"][:_LIMIT],
            more=tuple(_LISTS[each] for each in groups if len(groups[each]) > _LIMIT),
            step=step,
            safe=bool(step) and safe,
            evidence=(*evidence, *_of_switch(state), _STEPS[v1]),
        )


_STEPS = {
    "on": "With readonly, pushes over V1 are refused with v1_reason, and pulls go on.",
    "readonly": "With off, V1 clients are refused with v1_reason, whatever they do.",
    "off": "V1 is off already.",
}


def _of_switch(state: V1State) -> Iterator[str]:
    """Yield when V1 was switched, in a sentence."""
    if at := state.restricted_since:
        yield f"V1 was switched to {state.v1} at {at:%Y-%m-%d %H:%M} UTC; the setting v1 is {state.setting}."


def _mondays(now: datetime, weeks: int) -> Iterator[datetime]:
    """Yield the beginnings of the last weeks, the current one last."""
    today = datetime.combine(now.date(), time(), now.tzinfo)
    monday = today - timedelta(days=today.weekday())
    yield from (monday - _WEEK * back for back in range(weeks - 1, -1, -1))


def _days(since: timedelta) -> str:
    days = since / timedelta(days=1)
    return f"{days:g} days" if days >= 1 else f"{since / timedelta(hours=1):g} hours"


def _of_clients(clients: int, last_seen: datetime | None, since: timedelta) -> str:
    """Return how many clients there were, in a sentence."""
    if not last_seen:
        return "No V1 client was ever seen."
    last = f"the last request was at {last_seen:%Y-%m-%d %H:%M} UTC"
    number = f"{clients} {'address' if clients == 1 else 'addresses'}" if clients else "No address"
    return f"{number} used V1 in the last {_days(since)}; {last}."


def _of_pushes(moves: _Moves, from_: datetime, since: timedelta) -> tuple[bool, str]:
    """Return whether there were no pushes over V1 of late, and that in a sentence."""
    if moves.last:
        text = f"The last push over V1 was at {moves.last:%Y-%m-%d %H:%M} UTC."
        return moves.last < from_, text
    if moves.are_all or (moves.first and moves.first < from_):
        return True, f"No tag was pushed over V1 in the last {_days(since)}."
    text = f"None of the last {moves.number} moves of tags was a push over V1, but they go back only to"
    return False, f"{text} {moves.first:%Y-%m-%d %H:%M} UTC."
