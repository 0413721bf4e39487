"""The circuit: when requests are refused, and who finds out whether the server answers again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from dualreg.storage import circuit as module
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.circuit import PAUSE, SILENCE, Circuit
from tests.programs import until


class Clock:
    """A clock that stands still until it is moved; in seconds."""

    def __init__(self) -> None:
        """Begin late, as clocks do."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    """A closed circuit, of a server that was idle for long."""
    circuit = Circuit(2, clock)
    clock.now += 1e6
    return circuit


def unused() -> None:
    """Fail: nothing is to be looked at."""
    pytest.fail("looked without need")


def opened(circuit: Circuit, clock: Clock) -> None:
    """Open the circuit."""
    circuit.failed(clock.now)
    clock.now += SILENCE
    circuit.failed(clock.now)
    assert circuit.is_open


def test_failures_of_a_moment_do_not_open_it(circuit: Circuit, clock: Clock) -> None:
    """However many they are, and after however long without any request."""
    for _ in range(100):
        circuit.failed(clock.now)
        clock.now += SILENCE / 101
    circuit.admit(unused)
    clock.now += SILENCE
    circuit.failed(clock.now)
    with pytest.raises(StoreUnavailable):
        circuit.admit(unused)


def test_one_request_that_hangs_opens_it(circuit: Circuit, clock: Clock) -> None:
    """If nothing was answered since it was sent; not if others were, which are no part of its failure."""
    began = clock.now
    clock.now += SILENCE
    circuit.answered()
    clock.now += SILENCE / 2
    circuit.failed(began)
    circuit.admit(unused)
    circuit.answered()
    began, clock.now = clock.now, clock.now + SILENCE
    circuit.failed(began)
    assert circuit.is_open


def test_one_at_a_time_looks(circuit: Circuit, clock: Clock) -> None:
    """After a pause; all others are refused until the server has answered."""
    opened(circuit, clock)
    looks = list[float]()

    def look() -> None:
        looks.append(clock.now)
        circuit.require()  # it may send a request
        other = Thread(target=lambda: refused.append(refuses(circuit)))
        other.start()
        other.join()
        circuit.failed(clock.now)

    refused = list[bool]()
    assert refuses(circuit)
    for _ in range(2):
        clock.now += PAUSE
        with pytest.raises(StoreUnavailable):
            circuit.admit(look)
        assert refuses(circuit)
    assert (len(looks), refused) == (2, [True, True])
    clock.now += PAUSE
    circuit.admit(circuit.answered)
    circuit.admit(unused)


def test_a_look_that_fails_unexpectedly_is_not_the_last(circuit: Circuit, clock: Clock) -> None:
    """The next one may look."""
    opened(circuit, clock)

    def fail() -> None:
        raise KeyError

    clock.now += PAUSE
    with pytest.raises(KeyError):
        circuit.admit(fail)
    clock.now += PAUSE
    circuit.admit(circuit.answered)


def refuses(circuit: Circuit) -> bool:
    """Return whether requests are refused."""
    try:
        circuit.admit(unused)
    except StoreUnavailable:
        return True
    return False


def refuses_place(circuit: Circuit) -> bool:
    """Return whether there is no place."""
    try:
        with circuit.place():
            return False
    except StoreUnavailable:
        return True


@contextmanager
def waiting(circuit: Circuit, number: int) -> Iterator[Callable[[], None]]:
    """Have threads wait for the server for the block; yield what ends one of them."""
    ends, inside = [Event() for _ in range(number)], [Event() for _ in range(number)]

    def wait(each: int) -> None:
        with circuit.place(), circuit.place():  # one place is enough
            inside[each].set()
            ends[each].wait()

    threads = [Thread(target=wait, args=(each,)) for each in range(number)]
    for thread, is_inside in zip(threads, inside, strict=True):
        thread.start()
        is_inside.wait()
    try:
        yield lambda: next(end for end in ends if not end.is_set()).set()
    finally:
        for end in ends:
            end.set()
        for thread in threads:
            thread.join()


def test_only_some_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are refused once no place has become free for a moment; some need none."""
    monkeypatch.setattr(module, "STUCK", 0.2)
    circuit = Circuit(2)
    with waiting(circuit, 2) as end_one:
        with pytest.raises(StoreUnavailable, match="too many"), circuit.place():
            pytest.fail("there was no place")
        exempt = Thread(target=lambda: (circuit.exempt(), circuit.place().__enter__()))
        exempt.start()
        exempt.join(1)
        assert not exempt.is_alive()
        end_one()
        assert until(lambda: not refuses_place(circuit))
