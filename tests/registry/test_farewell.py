"""How far the move away from V1 has come: counts by week, and what evidence makes the next step safe."""

from datetime import datetime, time, timedelta

import pytest

from dualreg.acting import Api, act_as
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ClientRow
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, farewell
from dualreg.registry.farewell import Farewell
from tests import builders
from tests.properties.registries import push_v1, push_v2

NAME, TAG, MONTH, DAY = RepositoryName("team/app"), Tag("v1"), timedelta(days=30), timedelta(days=1)
CHAIN = builders.v1_chain(builders.layer({"a": b""}))


def _record(catalog: Catalog, *rows: tuple[str, str, str, timedelta, timedelta]) -> None:
    """Record clients: address, version, repository, and how long ago the first and last request were."""
    with catalog.begin() as tx:
        now = tx.now
        tx.clients.record(ClientRow(*row[:3], now - row[3], now - row[4], 10, 1) for row in rows)


def _state(registry: Registry, v1: str = "on", since: timedelta = MONTH, weeks: int = 4) -> Farewell:
    return registry.farewells.review(registry.v1_switch.look(v1), since, weeks)


def test_nobody_ever_used_v1(registry: Registry) -> None:
    """Every step is safe, but the one after the last."""
    push_v2(registry, NAME, TAG, builders.image(builders.layer({"b": b""})))
    for v1, step in (("on", "readonly"), ("readonly", "off"), ("off", "")):
        found = _state(registry, v1)
        assert (found.step, found.safe) == (step, bool(step))
        assert "No V1 client was ever seen." in found.evidence
        assert [week.clients for week in found.weeks] == [0] * 4


def test_clients_by_week(registry: Registry, catalog: Catalog) -> None:
    """An address counts once, from its first request to its last one, whatever it asked for between."""
    now = catalog.now()
    monday = datetime.combine(now.date(), time(), now.tzinfo) - timedelta(days=now.weekday())
    week = timedelta(weeks=1)

    def ago(weeks: int) -> timedelta:
        """Return how long ago the first second of a week was."""
        return now - (monday - week * weeks)

    second = timedelta(seconds=1)
    _record(
        catalog,
        ("192.0.2.1", "docker/1.5.0", "a", ago(3), ago(3) - second),
        ("192.0.2.1", "docker/1.5.0", "b", ago(1), ago(1)),
        ("192.0.2.2", "docker/1.3.0", "a", ago(2) + second, ago(2) + second),
        ("192.0.2.3", "docker/1.3.0", "", ago(2), ago(2)),
        ("192.0.2.4", "docker/1.3.0", "", ago(9), ago(8)),
    )
    found = _state(registry).weeks
    assert [each.begin for each in found] == [monday - week * back for back in (3, 2, 1, 0)]
    assert [each.clients for each in found] == [2, 2, 1, 0]
    assert len(_state(registry, weeks=26).weeks) == 26


def test_groups(registry: Registry, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what clients have in common, those seen last first; what is older than wanted does not count."""
    _record(
        catalog,
        ("192.0.2.1", "docker/1.5.0", "a", DAY * 9, DAY * 3),
        ("192.0.2.2", "docker/1.5.0", "b", DAY * 9, DAY * 2),
        ("192.0.2.2", "docker/1.3.0", "a", DAY * 9, DAY * 4),
        ("192.0.2.9", "docker/1.0.0", "c", DAY * 99, DAY * 31),
    )
    found = _state(registry)
    assert found.clients == 2
    assert [(each.name, each.addresses, each.requests, each.refused) for each in found.versions] == [
        ("docker/1.5.0", 2, 20, 2),
        ("docker/1.3.0", 1, 10, 1),
    ]
    assert [(each.name, each.addresses) for each in found.addresses] == [("192.0.2.2", 1), ("192.0.2.1", 1)]
    assert [(each.name, each.addresses) for each in found.repositories] == [("b", 1), ("a", 2)]
    assert found.more == ()
    monkeypatch.setattr(farewell, "_LIMIT", 1)
    found = _state(registry)
    assert [len(each) for each in (found.versions, found.addresses, found.repositories)] == [1] * 3
    assert found.more == ("versions", "addresses", "repositories")


def test_off_is_safe_without_clients_of_late(registry: Registry, catalog: Catalog) -> None:
    """Whoever pulls would notice that."""
    _record(catalog, ("192.0.2.1", "docker/1.5.0", "a", DAY * 99, DAY * 40))
    assert _state(registry, "readonly").safe
    assert not _state(registry, "readonly", since=DAY * 41).safe
    assert any("1 address used V1 in the last 41 days" in each for each in
               _state(registry, "readonly", since=DAY * 41).evidence)  # fmt: skip


def test_readonly_is_safe_without_pushes_of_late(registry: Registry, catalog: Catalog) -> None:
    """Pulls do not matter for that; a push does."""
    _record(catalog, ("192.0.2.1", "docker/1.5.0", NAME, DAY * 9, DAY))
    found = _state(registry)
    assert found.safe
    assert found.evidence[0] == "No tag was pushed over V1 in the last 30 days."
    act_as("docker", Api.V1)
    try:
        push_v1(registry, NAME, TAG, CHAIN)
    finally:
        act_as("", Api.COMMAND)
    found = _state(registry)
    assert not found.safe
    assert found.last_push
    assert found.evidence[0].startswith("The last push over V1 was at ")


def test_a_push_that_moves_nothing_counts(registry: Registry, catalog: Catalog) -> None:
    """A job that pushes the same image again every night is in no history, and would fail all the same."""
    push_v1(registry, NAME, TAG, CHAIN)  # by an import or so, long ago as far as the history says
    _record(catalog, ("192.0.2.1", "docker/1.5.0", NAME, DAY * 9, DAY))
    assert not _state(registry).safe


def test_moves_that_do_not_go_back_far_enough(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not known whether there was a push, and the evidence says so."""
    monkeypatch.setattr(farewell, "_MOVES", 2)
    for number in range(3):
        image = builders.image(builders.layer({"a": b"%d" % number}))
        push_v2(registry, NAME, Tag(f"t{number}"), image)
    found = _state(registry)
    assert not found.safe
    assert found.evidence[0].startswith("None of the last 2 moves of tags was a push over V1, but")
    monkeypatch.setattr(farewell, "_MOVES", 4)
    assert _state(registry).safe
