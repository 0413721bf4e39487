"""A server, clients of it, and what kills its processes; and the result of an hour of that."""

import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.contracts.postgresql import migrated_postgresql
from tests.endurance.acts import ACTS, LOOKS, delete_repository, delete_tag
from tests.endurance.client import Client
from tests.endurance.contents import V2Image, WrongBytes
from tests.endurance.disk import alive, stored
from tests.endurance.wire import Kills
from tests.programs import DUALREG, children, dualreg_process, environment

#: The largest layers of what each client keeps.
_KEPT_SIZE = 1_500_000
#: By how much the disk may be larger than what is alive.
_TOLERANCE = 0.01
#: Times of the grace after which the disk must have come back: content goes level by level.
_LEVELS = 8
#: Seconds beside them, for the collections, which have the lowest priority: a busy machine lets them wait.
_PATIENCE = 240
#: What a server logs of a failure; of a process that was killed, its main process does.
_ERROR = re.compile(r"Traceback|\bfailed\b|\[CRITICAL\]")


@dataclass(frozen=True)
class Plan:
    """How long and how hard.

    Attributes:
        seconds: How long clients work.
        kill_every: Seconds between kills, on average; 0: never.
        grace: Seconds that unused content stays.
    """

    seconds: float
    clients: int = 6
    workers: int = 4
    kill_every: float = 20
    grace: int = 60
    seed: str = "0"
    postgresql: bool = False

    def settings(self, database: str) -> Mapping[str, str | int]:
        """Return the settings of the server: collections as often as can be, and everything unused goes."""
        return {
            "workers": self.workers,
            "access_log": "false",
            "gc_grace": f"{self.grace}s",
            "gc_untagged": f"{self.grace}s",
            "undelete_grace": f"{self.grace}s",
            "gc_interval": f"{max(1, self.grace // 10)}s",
            "gc_empty_repositories": "true",
            "upload_ttl": f"{self.grace * 3}s",
            **({"database": database} if database else {}),
        }


@dataclass
class Result:
    """What came of it.

    Attributes:
        peak, end, alive: Bytes on the disk, at most and at the end, and of what can be pulled.
        waited: Seconds until the disk had come back.
        wrong: Findings about bytes; *failures* are all others.
    """

    acts: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    sent: int = 0
    received: int = 0
    kills: int = 0
    retried: int = 0
    late: int = 0
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    peak: int = 0
    end: int = 0
    alive: int = 0
    waited: float = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing failed, no byte was wrong, and the disk came back."""
        return not self.failures and not self.wrong and self.came_back

    @property
    def came_back(self) -> bool:
        """Whether the disk holds little more than what is alive."""
        return self.alive <= self.end <= self.alive * (1 + _TOLERANCE)


class Endurance:
    """A run of a plan in a folder."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        """Prepare to run *plan* over FOLDER/data."""
        self.plan, self.data = plan, folder / "data"
        self.result = Result()
        self._kills, self._over = Kills(), threading.Event()
        self._clients: list[Client] = []

    def run(self) -> Result:
        """Do everything, and return what came of it."""
        with ExitStack() as stack:
            database = stack.enter_context(migrated_postgresql()) if self.plan.postgresql else ""
            settings = self.plan.settings(database)
            with dualreg_process(self.data, **settings) as serving:
                self._connect(serving.host)
                self._work(serving.process.pid)
                with self._noting("the end"):
                    self._finish()
            self._sum_up()
            self._check_log(serving.log)
            self._check_store(database)
        return self.result

    def _connect(self, host: str) -> None:
        """Create the clients, each with what it keeps."""
        for number in range(self.plan.clients):
            client = Client(host, f"client{number}", self.plan.seed, self._kills, self.plan.grace / 2)
            client.keep(
                client.make.chain(_KEPT_SIZE),
                client.make.index(_KEPT_SIZE),
                V2Image(client.make.image(_KEPT_SIZE)),
            )
            self._clients.append(client)

    def _work(self, server: int) -> None:
        """Let clients live for the planned time, and processes of the server die."""
        threads = [threading.Thread(target=self._live, args=(client,)) for client in self._clients]
        threads.append(threading.Thread(target=self._kill, args=(server,)))
        for thread in threads:
            thread.start()
        end = time.monotonic() + self.plan.seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self.result.peak = max(self.result.peak, stored(self.data))
                self._over.wait(min(10, left))
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _live(self, client: Client) -> None:
        """Do one thing after the other."""
        acts, shares = [*ACTS], [*ACTS.values()]
        while not self._over.is_set():
            (act,) = client.chance.choices(acts, shares)
            client.vary()
            client.changes += act not in LOOKS
            with self._noting(f"{act.__name__} by {client.name}", client):
                act(client, self._clients)
            client.changes += act not in LOOKS
            client.tally.acts[act.__name__] += 1

    def _kill(self, server: int) -> None:
        """Kill one process after the other: workers, and what collects garbage."""
        chance, mean = random.Random(self.plan.seed), self.plan.kill_every  # noqa: S311 -- to be repeatable
        while mean and not self._over.wait(chance.uniform(0.5, 1.5) * mean):
            if found := children(server):
                self._kills.kill(chance.choice(found))

    @contextmanager
    def _noting(self, what: str, client: Client | None = None) -> Iterator[None]:
        """Note what fails in the block; then its client goes on in other repositories."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- each is a finding
            kind = self.result.wrong if isinstance(error, WrongBytes) else self.result.failures
            kind.append(f"{datetime.now(UTC):%H:%M:%S} {what}: {type(error).__name__}: {error}")
            sys.stderr.write(f"{kind[-1]}\n")
            if client:
                client.start_over()

    def _finish(self) -> None:
        """Delete all but what is kept, and wait until the disk has come back."""
        for number, client in enumerate(self._clients):
            while client.tags:
                (delete_repository if number % 2 else delete_tag)(client, self._clients)
        self.result.alive = alive(self._clients)
        begun = time.monotonic()
        deadline = begun + _LEVELS * self.plan.grace + _PATIENCE
        while time.monotonic() < deadline:
            self.result.end = stored(self.data)
            self.result.waited = time.monotonic() - begun
            if self.result.came_back:
                break
            time.sleep(1)
        alive(self._clients)

    def _sum_up(self) -> None:
        for client in self._clients:
            tally = client.tally
            self.result.acts += tally.acts
            self.result.retried += tally.retried
            self.result.late += tally.late
            self.result.requests += client.wire.requests
            self.result.sent += client.wire.sent
            self.result.received += client.wire.received
        self.result.kills = self._kills.count

    def _check_log(self, log: Path) -> None:
        """Find errors that the server logged."""
        text = log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if _ERROR.search(line)]
        self.result.failures += [f"log: {line}" for line in lines[:20]]

    def _check_store(self, database: str) -> None:
        """Have every blob read."""
        command = [DUALREG, "fsck", "--read", "--data", self.data]
        env = environment() | ({"DUALREG_DATABASE": database} if database else {})
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            self.result.failures.append(f"fsck: {done.stdout[-2000:]}{done.stderr[-2000:]}")
