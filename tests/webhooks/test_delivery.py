"""Events get to receivers that fail, stall and disconnect, while the sender is killed; others do not wait."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from dualreg.catalog.database import Catalog
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import outbox as outbox_module
from dualreg.registry.outbox import Outbox
from dualreg.registry.webhooks import Webhooks
from dualreg.remote.transport import Effort
from dualreg.webhooks import delivery, sending
from dualreg.webhooks.delivery import Delivery
from dualreg.webhooks.documents import event_document
from tests.contracts.catalog.rows import MANIFEST, artifact, push, record
from tests.contracts.postgresql import DATABASES, migrated_postgresql
from tests.databases import empty_file
from tests.programs import DUALREG, running, until
from tests.soak import short_or_long
from tests.webhooks.receiver import SECRET, Handler, Received, Receiver, accept, receiving

EVENTS, KILLS = short_or_long((400, 3), (10_000, 20))
#: What each sender delivers before it is killed, and how many moves writers are ahead of the receiver.
SHARE, AHEAD = short_or_long((60, 100), (300, 1_000))
SENDER = DUALREG.with_name("webhook-sender")
#: What a receiver does, how often in a thousand times.
ODDS = short_or_long(
    {"take": 890, "error": 30, "missing": 30, "busy": 10, "drop": 10, "drop late": 25, "stall": 5},
    {"take": 930, "error": 20, "missing": 20, "busy": 8, "drop": 8, "drop late": 12, "stall": 2},
)
WRITERS = 4
NAMES = [RepositoryName(f"r{number}") for number in range(20)]
MANIFESTS = [MANIFEST, artifact(1), artifact(2)]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        yield empty_file(tmp_path)
        return
    with migrated_postgresql() as url:
        yield url


def filled(catalog: Catalog) -> dict[RepositoryName, int]:
    """Record repositories with manifests; return their numbers."""
    with catalog.begin() as tx:
        ids = {name: push(tx, name) for name in NAMES}
        for repository_id in ids.values():
            for manifest in MANIFESTS[1:]:
                record(tx, repository_id, manifest)
    return ids


def move(
    catalog: Catalog, ids: dict[RepositoryName, int], seed: int, count: int, pace: Callable[[int], object]
) -> None:
    """Move and delete tags *count* times; before each time, call *pace* with how many are left."""
    chance = random.Random(seed)  # noqa: S311 -- no secret
    last = dict[tuple[RepositoryName, Tag], object]()
    while count:
        name, tag = chance.choice(NAMES), Tag(f"t{seed}-{chance.randrange(3)}")
        digest = chance.choice([*(each.digest for each in MANIFESTS), None])
        if last.get((name, tag)) == digest:
            continue
        last[name, tag] = digest
        pace(count)
        count -= 1
        with catalog.begin(durable=False) as tx:
            assert tx.repositories.lock(name, exclusive=digest is None)
            if digest:
                tx.tags.point(ids[name], [tag], digest)
            else:
                tx.tags.remove(ids[name], tag)


def unreliable(chance: random.Random) -> Callable[[Handler], None]:
    """Return what a receiver does by chance that takes most, refuses, is down, stalls and disconnects."""

    def answer(handler: Handler) -> None:
        (kind,) = chance.choices([*ODDS], [*ODDS.values()])
        if kind in ("take", "drop late"):
            handler.take()
        match kind:
            case "take":
                handler.answer(200, b"ok")
            case "stall":
                time.sleep(0.8)
                accept(handler)
            case "drop" | "drop late":
                handler.close_connection = True
            case _:
                handler.answer({"error": 500, "missing": 404, "busy": 503}[kind])

    return answer


@pytest.mark.slow
def test_no_event_is_lost_or_out_of_order(url: str, tmp_path: Path) -> None:
    """Of a repository, each gets there for the first time in the order in which they happened.

    So it is for thousands of pushes: ``test_chaos`` has the whole of it.
    """
    (tmp_path / "secret").write_bytes(SECRET)
    process, log = [SENDER, url], tmp_path / "log"
    with closing(Catalog(url)) as catalog, receiving(unreliable(random.Random(1))) as receiver:  # noqa: S311
        ids = filled(catalog)
        files = (f"{tmp_path / 'secret'}",)
        Webhooks(catalog).add(
            WebhookRow("a", receiver.url, "cloudevents", ("*",), ("push", "delete"), *files)
        )

        def pace(left: int) -> None:  # so that writers are at work whenever a sender is killed
            until(lambda: EVENTS - left * WRITERS < len(receiver.taken) + AHEAD, 60)

        with ThreadPoolExecutor(WRITERS) as pool:
            share = EVENTS // WRITERS
            moving = [pool.submit(move, catalog, ids, seed, share, pace) for seed in range(WRITERS)]
            for kill in range(KILLS + 1):
                with running(process, log) as sender:
                    seen = len(receiver.taken)
                    wanted = (lambda: is_done(catalog)) if kill == KILLS else None
                    enough = wanted or (lambda seen=seen: len(receiver.taken) > seen + SHARE)
                    assert until(
                        lambda enough=enough: sender.poll() is not None or enough(), short_or_long(180, 900)
                    )
                    assert sender.poll() is None, log.read_text()
                    sender.kill()
            for each in moving:
                each.result()
        check(catalog, receiver)


def is_done(catalog: Catalog) -> bool:
    """Return whether the webhook has everything."""
    time.sleep(0.1)
    (found,) = Webhooks(catalog).list()
    return not found.backlog.pending and not found.backlog.unread and found.progress.delivered > 0


def check(catalog: Catalog, receiver: Receiver) -> None:
    """Check what a receiver has against the history."""
    with catalog.read() as tx:
        queries = tx.webhooks.outbox
        moves = [*queries.moves(0, queries.last(), 10**6)]
    assert len(moves) == EVENTS
    expected = {event_document(each, "cloudevents", "").id: each for each in moves}
    first = dict.fromkeys(each.id for each in receiver.taken)
    assert set(first) == set(expected)
    assert len(receiver.taken) > EVENTS
    for name in NAMES:
        arrived = [expected[each].id for each in first if expected[each].repository == name]
        assert arrived == [each.id for each in moves if each.repository == name]
    assert all(each.is_signed() for each in receiver.taken)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have waits be short."""
    monkeypatch.setattr(outbox_module, "_FIRST", 0.05)
    monkeypatch.setattr(delivery, "_LOOK", 0.02)
    monkeypatch.setattr(sending, "_EFFORT", Effort(0, is_patient=False, connect=1, read=1, whole=1))


@contextmanager
def delivering(catalog: Catalog) -> Iterator[Outbox]:
    """Deliver in this process for the block."""
    stop, outbox = Event(), Outbox(catalog)
    running = Delivery(outbox, stop, networks=sending.parse_networks("127.0.0.0/8"))
    thread = Thread(target=running.run)
    thread.start()
    try:
        yield outbox
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def webhook(name: str, receiver: Receiver, *patterns: str) -> WebhookRow:
    """Return a webhook for a receiver."""
    return WebhookRow(name, receiver.url, "cloudevents", patterns or ("*",), ("push", "delete"))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog with the real clock."""
    with closing(Catalog(empty_file(tmp_path))) as catalog:
        yield catalog


def tags_of(received: list[Received]) -> list[str]:
    """Return which tags were pushed, in order."""
    return [each.document["subject"] for each in received]


@pytest.mark.sqlite
@pytest.mark.usefixtures("fast")
def test_webhooks_and_repositories_do_not_wait_for_each_other(opened: Catalog) -> None:
    """One that stalls, and one that takes nothing, keep no other one waiting; nor does one repository."""

    def choosy(handler: Handler) -> None:
        if handler.received.document["subject"].startswith("r0:"):
            handler.answer(400, b"not that one")
        else:
            accept(handler)

    def stall(handler: Handler) -> None:
        released.wait(20)
        accept(handler)

    released = Event()
    with (
        receiving(choosy) as some,
        receiving(stall) as slow,
        receiving(lambda handler: handler.answer(503)) as down,
        receiving() as good,
        delivering(opened),
    ):
        ids, webhooks = filled(opened), Webhooks(opened)
        receivers = {"some": some, "slow": slow, "down": down, "good": good}
        for name, receiver in receivers.items():
            webhooks.add(webhook(name, receiver))
        for number, name in enumerate((NAMES[0], NAMES[1], NAMES[0], NAMES[2])):
            with opened.begin() as tx:
                tx.tags.point(ids[name], [Tag(f"t{number}")], MANIFEST.digest)
        assert until(lambda: len(good.taken) == 4 and len(some.taken) == 2)
        assert sorted(tags_of(some.taken)) == ["r1:t1", "r2:t3"]
        assert tags_of(good.taken).index("r0:t0") < tags_of(good.taken).index("r0:t2")
        assert until(lambda: len(some.seen) > 3 and len(down.seen) > 1 and slow.seen)
        assert until(lambda: [each.backlog.pending for each in webhooks.list()] == [4, 0, 4, 2])
        states = {each.webhook.name: each for each in webhooks.list()}
        assert (states["good"].progress.delivered, states["good"].progress.failures) == (4, 0)
        assert "503" in states["down"].progress.error
        assert "400" in webhooks.events("some")[0].error
        some.step = down.step = accept
        released.set()
        for receiver in (some, down, slow):
            assert until(lambda receiver=receiver: len({each.id for each in receiver.taken}) == 4)
        webhooks.remove("good")
        webhooks.add(webhook("new", good, "r5:t*", "other"))
        assert until(lambda: "new" in opened_names(opened))
        with opened.begin() as tx:
            for number in (4, 5):
                tx.tags.point(ids[NAMES[number]], [Tag("t"), Tag("u")], MANIFEST.digest)
        assert until(lambda: len(good.taken) == 5)
        assert tags_of(good.taken)[4:] == ["r5:t"]


def opened_names(catalog: Catalog) -> list[str]:
    """Return the names of the webhooks."""
    time.sleep(0.1)  # for the delivery to have seen them
    return [each.webhook.name for each in Webhooks(catalog).list()]
