"""Webhooks and the outbox: nothing that happens to tags is missed, whatever is committed first."""

import random
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import delete, event

from dualreg.acting import Api, acting
from dualreg.catalog.database import Catalog, Transaction
from dualreg.catalog.moves import HistoryRow
from dualreg.catalog.outbox import Backlog, OutboxQueries, QueueRow
from dualreg.catalog.tables import Webhooks
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import webhooks as webhooks_module
from dualreg.registry.outbox import Failure, Outbox
from tests.conftest import Clock
from tests.contracts.catalog.rows import MANIFEST, NAME, OTHER, artifact, push, record

ALL = WebhookRow("all", "https://a.example/?token=x", "docker", ("*",), ("push", "delete"))
SOME = WebhookRow("some", "http://b", "cloudevents", ("x:v*", "y"), ("delete",), "/s", "/a", "/ca")


def outbox(tx: Transaction) -> OutboxQueries:
    """Return the queries of a transaction."""
    return tx.webhooks.outbox


def waiting(catalog: Catalog, webhook: str, *, dead: bool = False) -> list[HistoryRow]:
    """Return the events that a webhook has not got."""
    with catalog.read() as tx:
        return [each.event for each in outbox(tx).list(webhook, dead=dead, limit=100_000)]


class WebhooksContract:
    """Webhooks, and the outbox."""

    def test_webhooks(self, catalog: Catalog, clock: Clock) -> None:
        """They are kept as they were added, by name; each begins after what has happened."""
        with catalog.begin() as tx:
            push(tx, NAME, "a", "b")
            assert [tx.webhooks.add(each) for each in (SOME, ALL, ALL)] == [True, True, False]
            assert tx.webhooks.list() == [ALL, SOME]
            assert tx.webhooks.find("all") == ALL
            assert [each.added_at for each in tx.webhooks.list()] == [clock()] * 2
            assert tx.webhooks.find("none") is tx.webhooks.lock("none") is None
            last = outbox(tx).last()
            assert {name: state.position for name, state in tx.webhooks.states().items()} == {
                "all": last,
                "some": last,
            }
            assert "token" not in repr(ALL)
        with catalog.begin() as tx:
            outbox(tx).queue("all", outbox(tx).moves(0, last, 9))
            assert [tx.webhooks.remove("all") for _ in range(2)] == [True, False]
            assert outbox(tx).list("all", dead=False, limit=9) == []
            assert outbox(tx).due("all", (), 9) == []
            assert list(tx.webhooks.states()) == ["some"]

    def test_a_webhook_that_is_removed_leaves_nothing(self, catalog: Catalog) -> None:
        """Nor what a collection begins that has listed it before; one of its name begins anew."""
        with catalog.begin() as tx:
            tx.webhooks.add(ALL)
            push(tx, NAME, "a")
            tx.webhooks.remove("all")
            assert tx.webhooks.begin("all") is None
            assert tx.webhooks.states() == {}
            tx.webhooks.add(ALL)
            tx.webhooks.advance("all", 0)
            tx.connection.execute(delete(Webhooks))  # as a copy of the list without it does
            tx.webhooks.add(ALL)
            assert tx.webhooks.states()["all"].position == outbox(tx).last()

    def test_a_replay_of_many_events_is_many_transactions(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that pushes get their turn; all events wait again, each once. So is a removal."""
        monkeypatch.setattr(webhooks_module, "_PAGE", 2)
        with catalog.begin() as tx:
            tx.webhooks.add(ALL)
            began = tx.now
            push(tx, NAME, "a", "b", "c", "d", "e")
        Outbox(catalog).catch_up()
        with catalog.begin() as tx:
            assert outbox(tx).give_up("all", None, tx.now, "no") == 5
        webhooks, seen = webhooks_module.Webhooks(catalog), list[list[int]]()
        queue = OutboxQueries.queue

        def watch(self: OutboxQueries, webhook: str, events: Collection[HistoryRow]) -> None:
            seen.append([each.id for each in events])
            queue(self, webhook, events)

        monkeypatch.setattr(OutboxQueries, "queue", watch)
        for since in (None, began):
            assert webhooks.replay("all", since=since, dry_run=True) == 5
            assert seen == []
            assert webhooks.replay("all", since=since) == 5
            assert [len(each) for each in seen] == [2, 2, 1]
            assert [each.id for each in waiting(catalog, "all")] == [id_ for ids in seen for id_ in ids]
            seen.clear()
        dropped, drop = list[int](), OutboxQueries.drop

        def watch_drop(self: OutboxQueries, webhook: str, limit: int) -> int:
            dropped.append(drop(self, webhook, limit))
            return dropped[-1]

        monkeypatch.setattr(OutboxQueries, "drop", watch_drop)
        assert webhooks.remove("all").pending == 5
        assert (dropped, waiting(catalog, "all"), webhooks.list()) == ([2, 2, 1], [], [])

    def test_what_waits(self, catalog: Catalog, clock: Clock) -> None:
        """Events are read as they were recorded; queues are due in turn; what was given up is known."""
        with catalog.begin() as tx, acting("alice", Api.V1):
            tx.webhooks.add(ALL)
            push(tx, NAME, "a", "b")
            push(tx, OTHER, "c")
            moves = outbox(tx).moves(0, outbox(tx).last(), 99)
            outbox(tx).queue("all", moves)
            assert outbox(tx).moves(moves[0].id, moves[1].id, 99) == moves[1:2]
        clock.advance(timedelta(seconds=1))
        with catalog.begin() as tx:
            of = outbox(tx)
            assert [each.event for each in of.list("all", dead=False, limit=99)] == moves
            assert [each.repository for each in of.due("all", (), 9)] == [NAME, OTHER]
            assert of.due("all", [NAME], 9) == [QueueRow(OTHER, 0, None)]
            assert of.pending("all", NAME, 9) == moves[:2]
            of.forget("all", [moves[0].id])
            of.end("all", NAME)
            assert [each.repository for each in of.due("all", (), 9)] == [OTHER, NAME]
            of.delay("all", OTHER, tx.now + timedelta(hours=1), tx.now, "full")
            assert of.due("all", (), 9) == [QueueRow(NAME, 0, None)]
            assert of.backlogs(None) == {"all": Backlog(2, 0, 3, moves[0].at)}  # nothing was read for it
            assert of.backlogs(1) == {"all": Backlog(1, 0, 1, moves[0].at)}
            tx.webhooks.advance("all", moves[-1].id)
            assert of.give_up("all", OTHER, tx.now - timedelta(seconds=2), "too old") == 0
            assert of.give_up("all", OTHER, tx.now - timedelta(seconds=1), "full") == 1
            (dead,) = of.list("all", dead=True, limit=9)
            assert (dead.event, dead.error, dead.dead_at) == (moves[2], "full", tx.now)
            assert of.pending("all", OTHER, 9) == []
            backlog = of.backlogs(None)["all"]
            assert (backlog.pending, backlog.dead, backlog.oldest) == (1, 1, moves[1].at)
            of.queue("all", [moves[2]])
            of.hasten("all")
            assert {each.repository for each in of.due("all", (), 9)} == {NAME, OTHER}
            assert of.give_up("all", None, tx.now, "") == 2
            assert of.trim("all", tx.now - timedelta(seconds=1), 9) == 0
            assert [of.trim("all", tx.now, 1) for _ in range(3)] == [1, 1, 0]
            assert of.find("all", [each.id for each in moves] + [10**9]) == moves

    def test_backlogs_are_one_query(self, catalog: Catalog) -> None:
        """However many webhooks there are; each has its own numbers, up to a limit, and so has one alone."""
        hooks = [replace(ALL, name=f"hook{number}") for number in range(9)]
        with catalog.begin() as tx:
            push(tx, NAME, "a")
            for hook in hooks:
                tx.webhooks.add(hook)
            push(tx, NAME, *"bcdefghi")
            moves = outbox(tx).moves(0, outbox(tx).last(), 99)
            for number, hook in enumerate(hooks):
                outbox(tx).queue(hook.name, moves[1 : 1 + number])
                if number % 2:
                    outbox(tx).give_up(hook.name, None, tx.now, "no")
                tx.webhooks.advance(hook.name, moves[number].id)
        expected = {
            hook.name: Backlog(*((0, number) if number % 2 else (number, 0)), 8 - number, moves[1].at)
            for number, hook in enumerate(hooks)
        }
        seen = list[str]()
        with catalog.read() as tx:
            event.listen(tx.connection, "before_cursor_execute", lambda *given: seen.append(given[2]))
            assert outbox(tx).backlogs(None) == expected
            assert outbox(tx).backlogs(3) == {
                name: Backlog(*(min(count, 3) for count in each[:3]), each.oldest)
                for name, each in expected.items()
            }
            assert outbox(tx).backlogs(None, "hook4") == {"hook4": expected["hook4"]}
            assert outbox(tx).backlogs(None, "none") == {}
            assert len(seen) == 4

    @pytest.mark.slow
    @pytest.mark.parametrize("is_down", [True, False])
    def test_time_without_a_server_is_no_failure(
        self, catalog: Catalog, clock: Clock, *, is_down: bool
    ) -> None:
        """What failed before it is tried for as long again; what fails all the time is given up."""
        box, failure = Outbox(catalog), Failure("no", is_down=is_down)
        with catalog.begin() as tx:
            tx.webhooks.add(ALL)
            push(tx, NAME, "a")

        def fail() -> int:
            clock.advance(timedelta(hours=1))
            box.resume()  # as a server that is restarted
            (queue,) = box.due("all", (), 9)
            return box.record("all", queue, (), failure)

        box.catch_up()
        assert [fail() for _ in range(12)] == [0] * 12
        clock.advance(timedelta(days=4))
        assert [fail() for _ in range(73)] == [0] * 72 + [1]

    def test_the_history_keeps_what_webhooks_have_not_seen(self, catalog: Catalog, clock: Clock) -> None:
        """Whatever its age; and always the last row, from which numbers go on in a copy."""
        with catalog.begin() as tx:
            push(tx, NAME, "a")
            tx.webhooks.add(ALL)
            push(tx, OTHER, "a", "b")
        clock.advance(timedelta(days=999))
        with catalog.begin() as tx:
            assert [tx.history.trim(tx.now, 9) for _ in range(2)] == [1, 0]
            tx.webhooks.advance("all", outbox(tx).last())
            assert [tx.history.trim(tx.now, 9) for _ in range(2)] == [1, 0]
            assert len(outbox(tx).moves(0, outbox(tx).last(), 9)) == 1

    def test_nobody_forgets_what_webhooks_have_not_seen(self, catalog: Catalog) -> None:
        """Moves that were not looked at stay; what waits for a webhook that was removed keeps nothing."""
        with catalog.begin() as tx:
            push(tx, NAME, "a")
            tx.webhooks.add(ALL)
            push(tx, OTHER, "a", "b")
            assert tx.history.forget(NAME, None, 9)[0] == 1
            assert tx.history.forget(OTHER, Tag("a"), 9)[0] == 0
            tx.webhooks.advance("all", outbox(tx).last())
            assert tx.history.forget(OTHER, Tag("a"), 9)[0] == 1
            tx.webhooks.advance("all", 0)
            tx.connection.execute(delete(Webhooks))
            assert tx.history.forget(OTHER, None, 9)[0] == 1

    def test_pushes_at_once_miss_nothing(self, catalog: Catalog) -> None:
        """However clients move tags, and whenever they commit, the outbox gets each move, in order."""
        names = [RepositoryName(f"r{number}") for number in range(3)]
        manifests = [MANIFEST, artifact(1)]
        with catalog.begin() as tx:
            tx.webhooks.add(ALL)
            ids = {name: push(tx, name) for name in names}
            for repository_id in ids.values():
                record(tx, repository_id, manifests[1])

        def act(seed: int) -> None:
            chance = random.Random(seed)  # noqa: S311 -- no secret
            for _ in range(40):
                name = chance.choice(names)
                tags = sorted({Tag(f"t{seed}"), Tag(f"t{chance.randint(0, 3)}")})
                with catalog.begin() as tx:
                    assert tx.repositories.lock(name)
                    digest = chance.choice(manifests).digest
                    left = tx.tags.leave(ids[name], tags, digest)
                    tx.garbage.note(ids[name], *sorted(left, key=str))
                    tx.tags.point(ids[name], tags, digest, note_left=False)
                    time.sleep(chance.choice((0, 0, 0.005)))

        box, seen = Outbox(catalog), list[int]()
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(act, seed) for seed in range(4)]
            while not all(each.done() for each in running):
                box.collect()
                new = [each.id for each in waiting(catalog, "all") if each.id not in seen]
                assert not seen or not new or min(new) > seen[-1]
                seen += new
            for each in running:
                each.result()
        while box.collect() or box.is_settling:
            pass
        with catalog.read() as tx:
            moves = outbox(tx).moves(0, outbox(tx).last(), 100_000)
        assert waiting(catalog, "all") == moves
        assert len(moves) > 80
        for name in names:
            chain = [each for each in moves if (each.repository, each.tag) == (name, "t0")]
            assert all(before.new == after.old for before, after in pairwise(chain))
