"""Slots for which threads wait as long as they move."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dualreg.errors import ServerBusy
from dualreg.waiting import Budget, Turns, work_in_background
from tests.programs import until


def test_many_that_come_at_once_get_their_turns() -> None:
    """However many there are, if each takes a moment."""
    turns, inside, most, lock = Turns(2, 5), 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        with turns.slot():
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.005)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(16) as pool:
        assert len([*pool.map(work, range(64))]) == 64
    assert most == 2


def test_nobody_waits_for_what_does_not_move() -> None:
    """Those that wait are refused when the patience is over, and those that come later at once."""
    now = [0.0]
    turns = Turns(1, 3, clock=lambda: now[0])
    with turns.slot():
        now[0] = 3.0
        for _ in range(2):
            with pytest.raises(ServerBusy), turns.slot():
                pass
    with turns.slot():  # what was long ago does not count
        now[0] = 5.9
        waiting = ThreadPoolExecutor(1)
        entered = waiting.submit(turns.slot().__enter__)
    entered.result(5)
    waiting.shutdown()


def test_nobody_waits_for_what_is_slow() -> None:
    """With a budget, that is until a slot has been held for a second: those who wait have no thread of it."""
    now, budget = [0.0], Budget(4)
    turns = Turns(1, 3, clock=lambda: now[0], budget=budget)
    first, hurried = turns.slot(), turns.slot()
    with ThreadPoolExecutor(1) as pool:
        first.__enter__()
        now[0] = 0.9
        hurries = pool.submit(hurried.__enter__)
        assert until(lambda: turns.waiting == 1)
        now[0] = 1.0
        with pytest.raises(ServerBusy):
            hurries.result(30)
        with pytest.raises(ServerBusy), turns.slot():
            pass
        first.__exit__(None, None, None)
        with turns.slot():
            pass


def test_a_thread_of_the_budget_is_waited_for() -> None:
    """Other work gives it back, or does not for a second; threads in the background need none."""
    now, budget = [0.0], Budget(4)
    turns = Turns(2, 3, clock=lambda: now[0], budget=budget)
    with ThreadPoolExecutor(1) as pool:
        assert [budget.take(waits=True) for _ in range(3)] == [True, True, False]
        slot = turns.slot()
        entered = pool.submit(slot.__enter__)
        assert until(lambda: turns.waiting == 1)
        budget.give_back(waits=True)
        entered.result(30)
        now[0] = 1.0
        with pytest.raises(ServerBusy), turns.slot():
            pass

        def work() -> bool:
            work_in_background()
            with turns.slot():
                return True

        assert pool.submit(work).result(30)


@pytest.mark.parametrize(
    ("threads", "long", "waiting"), [(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 3, 2), (8, 7, 6), (16, 14, 12)]
)
def test_what_waits_leaves_threads(threads: int, long: int, waiting: int) -> None:
    """A quarter at least, one of which can send what is here; another one is left for all else."""
    budget = Budget(threads)
    assert budget.waiting == waiting <= max(threads * 3 // 4, 1)
    assert [budget.take(waits=True) for _ in range(waiting + 1)] == [True] * waiting + [False]
    assert [budget.take(waits=False) for _ in range(long - waiting + 1)] == [True] * (long - waiting) + [
        False
    ]
    budget.give_back(waits=False) if long > waiting else budget.give_back(waits=True)
    assert budget.take(waits=long == waiting)
