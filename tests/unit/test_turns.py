"""Slots for which threads wait as long as they move."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dualreg.errors import ServerBusy
from dualreg.waiting import Turns
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


def test_the_last_threads_do_not_wait_for_what_is_slow() -> None:
    """Only until a slot has been held for a second; others wait as long as it moves."""
    now = [0.0]
    turns = Turns(1, 3, clock=lambda: now[0], patient=1)
    first, patient, hurried = (turns.slot() for _ in range(3))
    with ThreadPoolExecutor(2) as pool:
        first.__enter__()
        waits = pool.submit(patient.__enter__)
        assert until(lambda: turns.waiting == 1)
        now[0] = 0.9
        hurries = pool.submit(hurried.__enter__)
        assert until(lambda: turns.waiting == 2)
        now[0] = 1.0
        with pytest.raises(ServerBusy):
            hurries.result(5)
        with pytest.raises(ServerBusy), turns.slot():
            pass
        now[0] = 2.9
        assert not waits.done()
        first.__exit__(None, None, None)
        waits.result(5)
        patient.__exit__(None, None, None)
