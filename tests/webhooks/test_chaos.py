"""Events of thousands of pushes reach a receiver that fails in every way, while the sender is killed.

``SOAK=1 python -m pytest tests/webhooks/test_chaos.py`` sends ten thousand, by servers as they are. Without,
it sends few, and the receiver does not stall, for which senders would wait for ten seconds: ``test_delivery``
has stalls in its short form, too.
"""

import http.client
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_catalog, prepare
from dualreg.catalog.moves import HistoryRow
from dualreg.cli import main
from dualreg.settings import Settings
from dualreg.webhooks.documents import event_document
from tests.contracts.postgresql import DATABASES, migrated_postgresql
from tests.programs import DUALREG, Serving, children, dualreg_process, until
from tests.soak import SOAK, short_or_long
from tests.webhooks.receiver import SECRET, Handler, Receiver, accept, receiving

EVENTS = short_or_long(200, 10_000)
#: Kills of the process that delivers, and of the whole server with it.
KILLS, CRASHES = short_or_long((1, 1), (20, 4))
#: Seconds before each kill.
PAUSE = short_or_long(0.2, 1.0)
#: How often the receiver does something else than to take an event, in a thousand times.
ODDS = short_or_long(
    {"error": 50, "missing": 25, "busy": 5, "drop": 5, "drop late": 10, "stall": 0},
    {"error": 20, "missing": 10, "busy": 3, "drop": 3, "drop late": 3, "stall": 1},
)
REPOSITORIES, CLIENTS = 20, 4
MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
#: Longer than a sender waits.
STALL = 12.0


@dataclass
class Unreliable:
    """What a receiver does about each request, by chance."""

    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 -- no secret
    done: Counter[str] = field(default_factory=Counter)

    def __call__(self, handler: Handler) -> None:
        """Answer, or not."""
        kinds = [*ODDS, "take"]
        (kind,) = self.chance.choices(kinds, [*ODDS.values(), 1000 - sum(ODDS.values())])
        if kind == "stall" and self.done[kind] >= 10:
            kind = "take"
        self.done[kind] += 1
        match kind:
            case "take":
                accept(handler)
            case "error":
                handler.answer(500, b"no")
            case "missing":
                handler.answer(404)
            case "busy":
                handler.answer(503, Retry_After="1")
            case "stall":
                time.sleep(STALL)
                accept(handler)
            case _:
                if kind == "drop late":
                    handler.take()
                handler.close_connection = True


def push(host: str, seed: int, count: int) -> int:
    """Push and delete tags, until that was done *count* times; return how often a server was not there."""
    chance, done, failed = random.Random(seed), 0, 0  # noqa: S311 -- no secret
    connection = http.client.HTTPConnection(host, timeout=20)
    while done < count:
        path = f"/v2/r{chance.randrange(REPOSITORIES)}/manifests/t{seed}-{chance.randrange(5)}"
        document = {"schemaVersion": 2, "mediaType": MEDIA_TYPE, "manifests": [], "annotations": {}}
        document["annotations"] = {"n": f"{seed} {done}"}
        try:
            if chance.random() < 0.1:
                connection.request("DELETE", path)
            else:
                connection.request("PUT", path, json.dumps(document), {"Content-Type": MEDIA_TYPE})
            response = connection.getresponse()
            response.read()
            assert response.status in (201, 202, 404, 503), response.status
            done += response.status in (201, 202)
        except (OSError, http.client.HTTPException):
            failed += 1
            assert failed < done + 1_000, "no server"
            connection.close()
            time.sleep(0.1)
    connection.close()
    return failed


def deliverers(pid: int) -> list[int]:
    """Return the processes of a server that deliver events."""
    found = []
    for child in children(pid):
        with suppress(OSError):
            if b"\0webhook\0deliver" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def kill_one(pid: int) -> bool:
    """Kill what delivers, if it runs."""
    found = deliverers(pid)
    for each in found:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    return bool(found)


def kill_all(pid: int) -> None:
    """Kill a server with all its processes at once."""
    for each in (pid, *children(pid)):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def command(settings: Settings, *line: str) -> str:
    """Run a command over the registry; return what it prints."""
    env = {"DUALREG_DATA": str(settings.data), "DUALREG_DATABASE": settings.database_url}
    result = CliRunner().invoke(main, line, env=env | {"DUALREG_CONFIG": None, "DUALREG_AUDIT": "off"})
    assert result.exit_code == 0, result.output
    return result.stdout


@contextmanager
def serving(settings: Settings) -> Iterator[Serving]:
    """Run a server, with all that it starts."""
    chosen = {"webhook_networks": "127.0.0.0/8", "audit": "off", "access_log": "false"}
    own = {"fresh": True} if SOAK else {"wrapper": [DUALREG.with_name("webhook-server")]}
    with dualreg_process(settings.data, database=settings.database_url, **own, **chosen) as server:
        yield server


def history(settings: Settings) -> list[HistoryRow]:
    """Return what happened."""
    with closing(open_catalog(settings)) as catalog, catalog.read() as tx:
        queries = tx.webhooks.outbox
        return [*queries.moves(0, queries.last(), 10**6)]


@pytest.fixture(params=DATABASES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A registry, over either database."""
    with migrated_postgresql() if request.param == "postgresql" else closing(_Nothing()) as url:
        database = url if isinstance(url, str) else f"sqlite:///{tmp_path}/data/catalog.sqlite3"
        settings = Settings(data=tmp_path / "data", database=database, audit="off")
        prepare(settings)
        yield settings


class _Nothing:
    def close(self) -> None:
        """Do nothing."""


def _kill_now_and_then(pid: int, kills: int, seconds: float, stop: Event) -> int:
    done = 0
    while done < kills and not stop.wait(seconds):
        done += kill_one(pid)
    return done


def _work(settings: Settings, receiver: Receiver) -> tuple[int, int]:
    """Push, kill and serve again until all has arrived; return how often was killed, and pushes failed."""
    killed, failures = 0, 0
    share = EVENTS // CLIENTS // (CRASHES + 1)
    for crash in range(CRASHES + 1):
        with serving(settings) as server, ThreadPoolExecutor(CLIENTS + 1) as pool:
            stop, seen, pid = Event(), len(receiver.taken), server.process.pid
            seeds = range(crash * CLIENTS, (crash + 1) * CLIENTS)
            pushing = [pool.submit(push, server.host, seed, share) for seed in seeds]
            assert until(lambda seen=seen: len(receiver.taken) > seen, 120)
            each_time, more = divmod(KILLS, CRASHES + 1)
            kills = pool.submit(_kill_now_and_then, pid, each_time + (crash < more), PAUSE, stop)
            failures += sum(each.result() for each in pushing)
            killed += kills.result()
            if crash < CRASHES:
                kill_all(pid)
                killed += 1
            else:
                command(settings, "webhook", "retry", "chaos")
                assert until(lambda: _is_done(settings), short_or_long(180, 900)), command(
                    settings, "webhook", "list"
                )
    return killed, failures


@pytest.mark.slow
def test_no_event_is_lost_or_out_of_order(settings: Settings) -> None:
    """Each move of a tag gets there, in order for each repository, and signed; some more than once."""
    unreliable = Unreliable()
    secret = settings.data / "secret"
    secret.write_bytes(SECRET)
    with receiving(unreliable) as receiver:
        command(settings, "webhook", "add", "chaos", receiver.url, "--secret-file", str(secret))
        began = time.monotonic()
        killed, failures = _work(settings, receiver)
        took = time.monotonic() - began
        taken = [*receiver.taken]
    first = dict.fromkeys(each.id for each in taken)
    moves = history(settings)
    assert len(moves) >= EVENTS
    expected = {event_document(move, "cloudevents", "").id: move for move in moves}
    assert set(first) == set(expected)
    order = [expected[each] for each in first]
    for name in {move.repository for move in moves}:
        arrived = [move.id for move in order if move.repository == name]
        assert arrived == [move.id for move in moves if move.repository == name]
    assert all(each.is_signed() for each in taken)
    assert killed >= CRASHES + 1
    print(  # noqa: T201 -- what operators are told
        f"{len(moves)} events in {took:.0f} s, {len(taken) - len(moves)} more than once, {killed} kills, "
        f"{failures} pushes that failed; the receiver: {dict(unreliable.done)}"
    )


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_sender_that_was_killed_is_started_again(tmp_path: Path) -> None:
    """Within seconds, each time; it ends when there are no webhooks, and begins with the next."""
    settings = Settings(data=tmp_path / "data", audit="off")
    prepare(settings)
    with receiving() as receiver, serving(settings) as server:
        assert not deliverers(server.process.pid)
        for kills in (1, 0):
            command(settings, "webhook", "add", "a", receiver.url)
            before = set[int]()
            for _ in range(kills):
                assert until(lambda: deliverers(server.process.pid), 120)
                before |= {*deliverers(server.process.pid)}
                assert kill_one(server.process.pid)
            assert until(lambda before=before: {*deliverers(server.process.pid)} - before, 120)
            command(settings, "webhook", "remove", "a")
            assert until(lambda: not deliverers(server.process.pid), 120)


def _is_done(settings: Settings) -> bool:
    (found,) = json.loads(command(settings, "webhook", "list", "--json"))
    assert found["dead"] == 0
    return not found["waiting"] and not found["unread"]
