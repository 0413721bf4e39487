"""What a row of the table is, and how one is measured."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tests.benchmarks.load import Answered, load
from tests.benchmarks.servers import Server
from tests.benchmarks.wire import Answer, Connection, Refused, head

_T = TypeVar("_T")
#: Seconds of load before the first sample, so that no sample has what a server does once.
_WARM_UP = 0.2
#: Connections over which a request is checked.
_CHECKS = 8


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for each sample, and how many samples are taken.

    Attributes:
        big: Bytes of the big blob and layer.
        seconds: Of load for each sample of a rate.
        pushes: Small images pushed for each sample, one after the other.
        images: Pushed for each sample by several clients at once.
        listed: Tags in the list of tags, and repositories in the catalog.
        chain: Layers of the V1 image that is pushed and pulled.
        rounds: Samples of each row and server.
    """

    big: int = 1 << 30
    seconds: float = 1.0
    pushes: int = 20
    images: int = 100
    listed: int = 100
    chain: int = 60
    rounds: int = 5


QUICK = Effort(big=4 << 20, seconds=0.05, pushes=1, images=8, listed=5, chain=3, rounds=1)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request without a body that is sent again and again.

    Attributes:
        host: HOST:PORT.
        right: Whether an answer is the one that the row is about.
        ranges: Values of the Range header that are sent in turn; none: without the header.
    """

    host: str
    method: str
    path: str
    right: Callable[[Answer], bool]
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    ranges: Sequence[str] = ()

    def check(self) -> int:
        """Ask, and return the length of the answer's body as it comes.

        It asks over several connections, one after the other, so that each worker process of the server has
        done what it does once, such as to verify a password.

        Raises:
            Refused: an answer is wrong.
        """
        first = {"Range": self.ranges[0]} if self.ranges else {}
        for _ in range(_CHECKS):
            with Connection(self.host, self.headers) as connection:
                answer = connection.ask(self.method, self.path, headers=first)
            if answer.status != self.status or not self.right(answer):
                raise Refused(f"{self.method} {self.path}: {answer.status} {answer.body[:300]!r}")
        return answer.received

    def requests(self) -> list[bytes]:
        """Return the requests to send in turn."""
        each = [{"Range": value} for value in self.ranges] or [{}]
        return [head(self.host, self.method, self.path, {**self.headers, **more}) for more in each]

    def loader(self, seconds: float) -> Callable[[], Answered]:
        """Check the answer, and return a function that sends the request for so long."""
        asked = partial(load, self.host, self.requests(), self.status, self.check())
        asked(min(_WARM_UP, seconds))
        return lambda: asked(seconds)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        start: Gives a server what the row is about, checks its answer, and returns what takes a sample.
        ask: Returns the request of a row that has only one; such rows can be profiled.
    """

    title: str
    unit: str
    start: Callable[[Server], Callable[[], float]]
    higher_is_better: bool = True
    fits: Callable[[Server], bool] = lambda _: True
    ask: Callable[[Server], Ask] | None = None


def read(
    title: str, ask: Callable[[Server], Ask], effort: Effort, fits: Callable[[Server], bool] = lambda _: True
) -> Row:
    """Return the row of a request, in requests per second."""

    def start(server: Server) -> Callable[[], float]:
        loaded = ask(server).loader(effort.seconds)
        return lambda: loaded().rate

    return Row(title, "req/s", start, fits=fits, ask=ask)


def has(length: int) -> Callable[[Answer], bool]:
    """Return the check whether an answer has so many bytes, or to HEAD would have."""
    return lambda answer: answer.length == length


def v1_only(server: Server) -> bool:
    """Return whether a row of the V1 API can be measured."""
    return server.speaks_v1


@dataclass(frozen=True, slots=True)
class Line:
    """A row with the samples of each server, by its name, and why those of others are lacking."""

    row: Row
    samples: Mapping[str, Sequence[float]]
    refusals: Mapping[str, str]

    @property
    def medians(self) -> dict[str, float]:
        """The median of each server's samples."""
        return {name: statistics.median(taken) for name, taken in self.samples.items()}

    def ratio(self, name: str, reference: str | None) -> float | None:
        """Return how many times better a server is than *reference*; None if one of them was not measured."""
        medians = self.medians
        if reference is None or not {name, reference} <= medians.keys():
            return None
        one, other = medians[name], medians[reference]
        return one / other if self.row.higher_is_better else other / one


def measure(row: Row, servers: Sequence[Server], rounds: int) -> Line:
    """Measure in turns (A B C A B C …), so that what disturbs the machine disturbs all alike.

    Raises:
        Refused, OSError: one of ours gives a wrong answer, or none. Others that do are left out.
    """
    refusals: dict[str, str] = {}

    def attempt(server: Server, act: Callable[[], _T]) -> _T | None:
        try:
            return act()
        except (Refused, OSError) as error:
            if server.ours:
                raise
            refusals[server.name] = str(error)
            return None

    samplers = {server: attempt(server, partial(row.start, server)) for server in filter(row.fits, servers)}
    samples: dict[str, list[float]] = {server.name: [] for server in samplers}
    for _ in range(rounds):
        for server, sampler in samplers.items():
            sample = attempt(server, sampler) if sampler and server.name not in refusals else None
            samples[server.name] += [] if sample is None else [sample]
    return Line(row, {name: taken for name, taken in samples.items() if name not in refusals}, refusals)
